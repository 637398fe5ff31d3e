"""How large a difference has to be so that the exact tests find it, and how often they find one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from p2r.statistics.intervals import mean_of
from p2r.statistics.solve import find_root


def find_detectable_difference(
    spread: Mapping[int, float], num_clusters: int, num_samples: int, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest difference in accuracy that the exact test over clusters finds with this power.

    A cluster's difference, as `permute_clusters` takes it, has a size and a sign. Sizes are drawn as `spread` says; the
    more often the sign is positive, the larger is the difference. The test's power is exact for each draw, and averaged
    over 200 draws (seed 0). A sample without a cluster is a cluster of one.

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
    return power_at((1 + difference / most) / 2) if 0 <= difference <= most else None


def _prepare(
    spread: Mapping[int, float], num_clusters: int, num_samples: int, alpha: float
) -> tuple[Callable[[float], float], float]:
    """Return the power by the share of positive signs, and the difference where all signs are positive."""
    sizes, shares = sorted(spread), [spread[size] for size in sorted(spread)]
    if num_clusters <= 0 or not 0 < math.fsum(shares) <= 1 + 1e-9:
        return lambda positive: 0.0, 0.0
    draws = np.random.default_rng(0).multinomial(num_clusters, [*shares, max(0.0, 1 - math.fsum(shares))], size=200)
    tests = [(counts, _find_least_sum(sizes, counts, alpha)) for counts in draws[:, :-1].tolist()]

    def power_at(positive: float) -> float:
        return mean_of([_reach(_spread_of_sum(sizes, counts, positive), least) for counts, least in tests]) or 0.0

    most = num_clusters * math.fsum(size * share for size, share in zip(sizes, shares, strict=True)) / num_samples
    return power_at, most


def _spread_of_sum(sizes: Sequence[int], counts: Sequence[int], positive: float) -> np.ndarray:
    """Probabilities of the sums of signed sizes, from -reach to reach, where each sign is positive that often."""
    probs = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        some = np.zeros(2 * size * count + 1)
        some[:: 2 * size] = _binomial(count, positive)
        probs = np.convolve(probs, some)
    return probs


def _find_least_sum(sizes: Sequence[int], counts: Sequence[int], alpha: float) -> int:
    """The smallest sum, by its absolute value, that the two-sided test calls a difference."""
    probs = _spread_of_sum(sizes, counts, 0.5)
    reach = len(probs) // 2
    tails = np.cumsum(probs[::-1])[: reach + 1]  # tails[k]: the sum is reach - k or more
    num_rare = int(np.searchsorted(2 * tails, alpha * (1 + 1e-9), side="right"))
    return reach - num_rare + 1


def _reach(probs: np.ndarray, least: int) -> float:
    """The probability that the absolute sum is at least `least`."""
    reach = len(probs) // 2
    if least > reach:
        return 0.0
    return float(probs[: reach - least + 1].sum() + probs[reach + least :].sum())


def _binomial(num_trials: int, share: float) -> np.ndarray:
    """The probabilities of 0 to `num_trials` successes."""
    if share in (0.0, 1.0):
        return np.eye(1, num_trials + 1, num_trials if share else 0)[0]
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, num_trials + 1)))])
    k = np.arange(num_trials + 1)
    return np.exp(logs[-1] - logs - logs[::-1] + k * math.log(share) + (num_trials - k) * math.log(1 - share))
