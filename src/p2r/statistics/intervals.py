"""How sure a mean is: intervals for shares, for their paired differences, and for other values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from p2r.errors import count_nouns
from p2r.statistics.solve import find_root, find_student, find_z
from p2r.types import Frozen


class Interval(Frozen):
    """A confidence interval of a share, 0 to 1, or of a difference of shares, -1 to 1."""

    low: float
    high: float


class Difference(Frozen):
    """The mean of the second of two paired lists minus that of the first, with its 95% interval, -1 to 1."""

    mean: float
    low: float
    high: float


def wilson(num_correct: float, num_trials: float, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a share, without continuity correction.

    It stays inside 0 to 1, is never empty at 0 or `num_trials` right answers, and covers well at the small counts of
    visual search benchmarks, where the textbook interval p +- 1.96 s does not.

    Args:
        num_correct: 0 to `num_trials`; need not be whole, as with the effective number of samples.
        num_trials: independent trials; 0 gives (0, 1), because nothing is known.
        confidence: the coverage to aim at, above 0 and below 1.

    Raises:
        ValueError: a count or the confidence is out of range.

    Source:
        E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
    """
    if not 0 <= num_correct <= num_trials:
        raise ValueError(f"{num_correct} right of {num_trials} is not possible")
    z = find_z(confidence)
    if num_trials == 0:
        return Interval(low=0.0, high=1.0)
    share, spread = num_correct / num_trials, z * z / num_trials
    center = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / num_trials + spread / (4 * num_trials)) / (1 + spread)
    low = 0.0 if num_correct == 0 else center - half
    high = 1.0 if num_correct == num_trials else center + half
    return Interval(low=low, high=high)


def tango(num_gained: float, num_lost: float, num_pairs: float, *, confidence: float = 0.95) -> Interval:
    """Tango's score interval for the difference of two paired shares, -1 to 1.

    It never has zero width: where no pair differs, it still says how large a difference may be there.

    Args:
        num_gained, num_lost: pairs of which only the second, or only the first, is right; need not be whole.
        num_pairs: all pairs, at least those that differ; not 0.

    Raises:
        ValueError: the counts are not possible, or the confidence is out of range.

    Source:
        T. Tango, Equivalence Test and Confidence Interval for the Difference in Proportions for the Paired-Sample
        Design, Statistics in Medicine 17 (1998).
    """
    if min(num_gained, num_lost) < 0 or num_pairs <= 0 or num_gained + num_lost > num_pairs * (1 + 1e-9):
        raise ValueError(f"{num_gained} gained and {num_lost} lost of {num_pairs} are not possible")
    z = find_z(confidence)

    def score(difference: float) -> float:
        """Count the standard errors by which the pairs lie above this difference. It falls as the difference grows."""
        b = (2 * num_pairs - num_gained + num_lost) * difference - num_gained - num_lost
        c = -num_lost * difference * (1 - difference)
        lost = (math.sqrt(max(0.0, b * b - 8 * num_pairs * c)) - b) / (4 * num_pairs)
        variance = num_pairs * (2 * lost + difference * (1 - difference))
        excess = num_gained - num_lost - num_pairs * difference
        return excess / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, excess)

    mean = (num_gained - num_lost) / num_pairs
    return Interval(low=find_root(score, -1.0, mean, z), high=find_root(score, mean, 1.0, -z))


def compare_pairs(before: Sequence[float], after: Sequence[float], clusters: Sequence[str] | None = None) -> Difference:
    """The share of right answers in `after` minus that in `before`, on the same samples, with Tango's interval.

    Each value is 0 or 1. Where samples share a cluster, the interval is that of the effective number of samples.

    Raises:
        ValueError: lists of unequal length or without values.
    """
    if not before or len(before) != len(after):
        raise ValueError(f"{len(before)} and {len(after)} values cannot be paired")
    differences = [float(second) - float(first) for first, second in zip(before, after, strict=True)]
    size = effective_size(differences, clusters)
    gained, lost = (sum(value == sign for value in differences) / len(differences) for sign in (1, -1))
    interval = tango(gained * size, lost * size, size)
    return Difference(mean=gained - lost, low=interval.low, high=interval.high)


def bound_mean(values: Sequence[float], clusters: Sequence[str] | None = None) -> Interval:
    """95% interval of a mean of values from 0 to 1.

    Wilson's interval for shares of right answers, with the effective number of samples where some share a cluster; a
    bootstrap over clusters for values between.
    """
    if not values:
        return wilson(0, 0)
    if set(values) <= {0.0, 1.0}:
        size = effective_size(values, clusters)
        return wilson(math.fsum(values) / len(values) * size, size)
    return bootstrap_mean(values, clusters)


def effective_size(values: Sequence[float], clusters: Sequence[str] | None = None) -> float:
    """The number of independent values that would know a mean as well as these clustered ones do.

    The variance of the mean over clusters is divided by that of as many independent values. The quotient is at least 1,
    and at most what it is where all values of a cluster are equal; the latter is taken where nothing varies. Student's
    quantile takes the place of the normal one, because the variance of few clusters is uncertain itself.

    Args:
        clusters: the cluster of each value; each value is its own when None, or where the name is "".

    Source:
        E. L. Korn and B. I. Graubard, Confidence Intervals for Proportions with Small Expected Number of Positive
        Counts Estimated from Survey Data, Survey Methodology 24 (1998).
    """
    totals, counts = _sum_clusters(values, clusters)
    num, num_clusters = len(values), len(totals)
    if num_clusters == num:
        return float(num)
    mean = float(totals.sum()) / num
    most = float((counts**2).sum() / num)
    alone = sum((value - mean) ** 2 for value in values)
    together = float(((totals - mean * counts) ** 2).sum()) * num_clusters / max(1, num_clusters - 1)
    effect = min(max(together / alone, 1.0), most) if alone > 0 else most
    return num / effect * (find_z(0.95) / find_student(0.95, max(1, num_clusters - 1))) ** 2


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
        values: scores, 0 to 1. One cluster says nothing about others: the interval is 0 to 1.
        clusters: the cluster of each value; each value is its own when None, or where the name is "".

    Raises:
        ValueError: lists of unequal length, or a confidence out of range.
    """
    if len(_sum_clusters(values, clusters)[0]) < 2:
        return Interval(low=0.0, high=1.0)
    low, high = _bootstrap(values, clusters, confidence, num_draws, seed)
    return Interval(low=max(0.0, low), high=min(1.0, high))


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are known; None when none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _bootstrap(
    values: Sequence[float], clusters: Sequence[str] | None, confidence: float, num_draws: int, seed: int
) -> tuple[float, float]:
    """Percentiles of the mean over drawn clusters; a draw's mean is over its values, not over its clusters."""
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    totals, counts = _sum_clusters(values, clusters)
    draw = np.random.default_rng(seed)
    means: list[float] = []
    num_at_once = max(1, 1_000_000 // len(totals))
    for start in range(0, num_draws, num_at_once):
        picked = draw.integers(len(totals), size=(min(num_at_once, num_draws - start), len(totals)))
        means += (totals[picked].sum(axis=1) / counts[picked].sum(axis=1)).tolist()
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _sum_clusters(values: Sequence[float], clusters: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """The sum and the number of each cluster's values."""
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"{count_nouns(len(values), 'value')}, but {count_nouns(len(clusters), 'cluster')}")
    groups: dict[str | int, list[float]] = {}
    for index, value in enumerate(values):
        groups.setdefault((clusters[index] if clusters else "") or index, []).append(value)
    totals = np.array([math.fsum(group) for group in groups.values()])
    return totals, np.array([len(group) for group in groups.values()])
