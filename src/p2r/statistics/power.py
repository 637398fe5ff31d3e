"""How large a difference has to be so that the exact tests find it, and how often they find one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from p2r.statistics.paired_tests import spread_of_sums
from p2r.statistics.solve import find_root

NUM_DRAWS = 200
MOST_NUMBERS = 10_000_000
"""The most numbers in memory at once."""


def find_detectable_difference(
    spread: Mapping[int, float], num_clusters: int, num_samples: int, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest difference in accuracy that the exact test over clusters finds with this power.

    A cluster's difference, as `permute_clusters` takes it, has a size and a sign. Sizes are drawn as `spread` says; the
    more often the sign is positive, the larger is the difference. The test's power is exact for each draw, and averaged
    over 200 draws (seed 0), whose numbers of differing clusters are chosen evenly. A sample without a cluster is a
    cluster of one.

    Args:
        spread: size, from 1 on -> share of the clusters that have it; what is missing to 1 has no difference.
        num_samples: of all clusters together.

    Returns:
        A share, 0 to 1; None when even one sign in all clusters would not be found.
    """
    power_at, most = _prepare(spread, num_clusters, num_samples, alpha)
    if power_at(1.0) < power:
        return None
    positive = find_root(lambda share: -power_at(share), 0.5, 1.0, -power, tolerance=1e-4)
    return (2 * positive - 1) * most


def find_power(
    difference: float, spread: Mapping[int, float], num_clusters: int, num_samples: int, *, alpha: float = 0.05
) -> float | None:
    """The share of the times that the exact test over clusters finds a true difference in accuracy, averaged as above.

    Args:
        difference: a share, 0 to 1; the others as in `find_detectable_difference`.

    Returns:
        A share, 0 to 1; None when clusters with this spread cannot differ by so much.
    """
    power_at, most = _prepare(spread, num_clusters, num_samples, alpha)
    if not 0 <= difference <= most * (1 + 1e-9):
        return None
    return power_at(min(1.0, (1 + difference / most) / 2))


def _prepare(
    spread: Mapping[int, float], num_clusters: int, num_samples: int, alpha: float
) -> tuple[Callable[[float], float], float]:
    """Return the power by the share of positive signs, and the difference where all signs are positive."""
    sizes, shares = sorted(spread), [spread[size] for size in sorted(spread)]
    if num_clusters <= 0 or not 0 < math.fsum(shares) <= 1 + 1e-9:
        return lambda positive: 0.0, 0.0
    rng, total = np.random.default_rng(0), min(1.0, math.fsum(shares))
    differing = np.sort(rng.binomial(num_clusters, total, 100 * NUM_DRAWS))[50::100]  # evenly over what is likely
    draws = rng.multinomial(differing, np.array(shares) / math.fsum(shares))
    num_at_once = max(1, MOST_NUMBERS // (2 * num_clusters * sizes[-1]))
    tests = [
        (counts, _find_least_sums(spread_of_sums(sizes, counts, 0.5), alpha))
        for counts in (draws[start : start + num_at_once] for start in range(0, len(draws), num_at_once))
    ]

    def power_at(positive: float) -> float:
        found = [_reach(spread_of_sums(sizes, counts, positive), least) for counts, least in tests]
        return min(1.0, max(0.0, math.fsum(found) / len(draws)))

    most = num_clusters * math.fsum(size * share for size, share in zip(sizes, shares, strict=True)) / num_samples
    return power_at, most


def _find_least_sums(probs: np.ndarray, alpha: float) -> np.ndarray:
    """The smallest sum of each row, by its absolute value, that the two-sided test calls a difference."""
    reach = probs.shape[1] // 2
    tails = np.cumsum(probs[:, ::-1], axis=1)[:, : reach + 1]  # tails[:, k]: the sum is reach - k or more
    return reach - (2 * tails <= alpha * (1 + 1e-9)).sum(axis=1) + 1


def _reach(probs: np.ndarray, least: np.ndarray) -> float:
    """The probabilities that the absolute sum of a row is at least `least`, summed over the rows."""
    reach: int = probs.shape[1] // 2
    sums: np.ndarray = np.arange(-reach, reach + 1)
    return float(probs[np.absolute(sums) >= least[:, None]].sum())
