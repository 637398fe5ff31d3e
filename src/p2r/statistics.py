"""Means, and how sure they are: intervals for shares of right answers, and tests of whether two runs differ.

Samples that ask the same thing (the rotations of one HR-Bench question) form a cluster and are never counted as
independent: intervals draw whole clusters, and the test swaps whole clusters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np

from p2r.types import Frozen


class Interval(Frozen):
    """A confidence interval of a share, 0 <= low <= high <= 1."""

    low: float
    high: float


def wilson(num_correct: int, num_trials: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a share, without continuity correction.

    It stays inside 0 to 1, is never empty at 0 or `num_trials` right answers, and covers well at the small counts of
    visual search benchmarks, where the textbook interval p +- 1.96 s does not.

    Args:
        num_correct: 0 to `num_trials`.
        num_trials: independent trials; 0 gives (0, 1), because nothing is known.
        confidence: the coverage to aim at, above 0 and below 1.

    Raises:
        ValueError: a count or the confidence is out of range.

    Source:
        E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
    """
    if not 0 <= num_correct <= num_trials:
        raise ValueError(f"{num_correct} right of {num_trials} is not possible")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    if num_trials == 0:
        return Interval(low=0.0, high=1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = num_correct / num_trials, z * z / num_trials
    center = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / num_trials + spread / (4 * num_trials)) / (1 + spread)
    low = 0.0 if num_correct == 0 else center - half
    high = 1.0 if num_correct == num_trials else center + half
    return Interval(low=low, high=high)


class Difference(Frozen):
    """The mean of the second of two paired lists minus that of the first, with its bootstrap interval, -1 to 1."""

    mean: float
    low: float
    high: float


def mcnemar(num_gained: int, num_lost: int) -> float:
    """Exact two-sided p-value that two runs are equally often right, from the samples on which they differ.

    Args:
        num_gained, num_lost: samples that only the second run, or only the first, has right.

    Raises:
        ValueError: a negative count.

    Source:
        Q. McNemar, Psychometrika 12 (1947); twice the smaller binomial tail, at most 1.
    """
    if num_gained < 0 or num_lost < 0:
        raise ValueError(f"{num_gained} gained and {num_lost} lost are not possible")
    num_trials = num_gained + num_lost
    tail = term = 1
    for k in range(min(num_gained, num_lost)):
        term = term * (num_trials - k) // (k + 1)
        tail += term
    return min(1.0, float(2 * tail / 2**num_trials))


def permute_clusters(differences: Sequence[int]) -> float:
    """Exact two-sided p-value that swapping the two runs within whole clusters makes no difference.

    McNemar's test counts the rotations of one question as independent, which they are not. Here each cluster's
    difference gets one random sign. With one sample per cluster, this is McNemar's test.

    Args:
        differences: for each cluster, the number of samples that only the second run has right minus the number that
            only the first has right.
    """
    sizes = [abs(difference) for difference in differences if difference]
    reach = sum(sizes)
    ways = [0] * (2 * reach + 1)  # ways[reach + s]: sign patterns whose differences sum to s
    ways[reach] = 1
    for size in sizes:
        ways = [
            (ways[k - size] if k >= size else 0) + (ways[k + size] if k + size <= 2 * reach else 0)
            for k in range(2 * reach + 1)
        ]
    observed = abs(sum(differences))
    extreme = sum(count for k, count in enumerate(ways) if abs(k - reach) >= observed)
    return float(extreme / 2 ** len(sizes))


def bootstrap_mean(
    values: Sequence[float],
    clusters: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    num_draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a mean over whole clusters drawn with replacement, so that the rotations of one question
    stay together. The same seed gives the same interval.

    Args:
        values: scores, 0 to 1.
        clusters: the cluster of each value; each value is its own when None, or where the name is "".

    Raises:
        ValueError: lists of unequal length, or a confidence out of range.
    """
    if not values:
        return Interval(low=0.0, high=1.0)
    low, high = _bootstrap(values, clusters, confidence, num_draws, seed)
    return Interval(low=max(0.0, low), high=min(1.0, high))


def bootstrap_difference(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    num_draws: int = 10_000,
    seed: int = 0,
) -> Difference:
    """The mean of `after` minus that of `before` on the same samples, with a percentile interval over drawn clusters.

    Raises:
        ValueError: lists of unequal length or without values, or a confidence out of range.
    """
    if not before or len(before) != len(after):
        raise ValueError(f"{len(before)} and {len(after)} values cannot be paired")
    differences = [second - first for first, second in zip(before, after, strict=True)]
    low, high = _bootstrap(differences, clusters, confidence, num_draws, seed)
    return Difference(mean=sum(differences) / len(differences), low=low, high=high)


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """p-values after Holm's correction for multiple tests, in the given order.

    Source:
        S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scand. J. Statist. 6 (1979).
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def find_detectable_difference(
    num_samples: int, discordant_share: float, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest difference in accuracy that McNemar's test on this many samples finds with this power.

    Args:
        discordant_share: share of samples on which the two runs differ. Two unrelated runs of accuracy p differ on
            2 p (1 - p) of them, which is the most to expect.

    Returns:
        A share, 0 to 1; None when even a difference on all of those samples would not be found.

    Source:
        R. J. Connor, Sample Size for Testing Differences in Proportions for the Paired-Sample Design, Biometrics 43
        (1987), solved for the difference.
    """
    if num_samples <= 0 or not 0 < discordant_share <= 1:
        return None
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)

    def is_found(difference: float) -> bool:
        spread = z_alpha * math.sqrt(discordant_share)
        spread += z_power * math.sqrt(max(0.0, discordant_share - difference**2))
        return num_samples * difference**2 >= spread**2

    low, high = 0.0, discordant_share
    if not is_found(high):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_found(middle) else (middle, high)
    return high


def _bootstrap(
    values: Sequence[float], clusters: Sequence[str] | None, confidence: float, num_draws: int, seed: int
) -> tuple[float, float]:
    """Percentiles of the mean over drawn clusters; a draw's mean is over its values, not over its clusters."""
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"{len(values)} values, but {len(clusters)} clusters")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    sums: dict[str | int, list[float]] = {}
    for index, value in enumerate(values):
        sums.setdefault((clusters[index] if clusters else "") or index, []).append(value)
    totals = np.array([math.fsum(group) for group in sums.values()])
    counts = np.array([len(group) for group in sums.values()])
    draw = np.random.default_rng(seed)
    means: list[float] = []
    num_at_once = max(1, 1_000_000 // len(totals))
    for start in range(0, num_draws, num_at_once):
        picked = draw.integers(len(totals), size=(min(num_at_once, num_draws - start), len(totals)))
        means += (totals[picked].sum(axis=1) / counts[picked].sum(axis=1)).tolist()
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def bound_mean(values: Sequence[float], clusters: Sequence[str]) -> Interval:
    """95% interval of a mean of values from 0 to 1.

    Wilson's interval for shares of independent samples; else a bootstrap over clusters. Where all values are 0 or all
    are 1, a bootstrap would claim to be certain, so Wilson's interval over clusters takes its place.
    """
    num = len(set(clusters))
    if set(values) <= {0.0, 1.0} and (num == len(clusters) or len(set(values)) == 1):
        return wilson(round(num * sum(values) / len(values)) if values else 0, num)
    return bootstrap_mean(values, clusters)


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are known; None when none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
