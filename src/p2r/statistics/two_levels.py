"""Means over trained seeds and questions at once: how sure they are when both could have been others.

A figure of a study is a weighted sum of means, each over the seeds of one trained arm and the questions of one
benchmark: an accuracy, a difference, a difference of differences, a slope. Seeds and questions are drawn again with
replacement, each seed with all of its questions and each question with all of its seeds.

Such draws have the right shape and are too wide: what a seed makes of a question by chance is counted with the seeds,
with the questions, and once more. And three or five seeds are few, which a bootstrap does not know. So the draws are
scaled to the variance that an analysis of variance finds, where that chance counts once, and from the normal quantile
to Student's, with the degrees of freedom that the sources of variance have together; few seeds count more among them.
Where all questions agree, the variance is that of two more questions, one of which is higher and one lower: ten
questions without a difference do not show that there is none.

Shapes: S seeds, Q questions, D draws.

Sources:
    A. B. Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1 (2007): seeds and questions drawn apart.
    H. Scheffe, The Analysis of Variance, 1959, chapter 7: the variance of a mean over two crossed random factors.
    F. E. Satterthwaite, An approximate distribution of estimates of variance components, Biometrics Bulletin 2 (1946).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2r.statistics.intervals import Interval
from p2r.statistics.solve import find_student, find_z

Numbers = NDArray[np.float64]

CAUTION = 4
"""The variance between S seeds counts 1 + CAUTION / (S - 1) times where degrees of freedom are found.

So much is needed for intervals of three seeds, and of five, to cover 95% whatever share of the variance is the seeds'.
"""
NUM_DRAWS = 10_000
DRAWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Part:
    """One mean of a weighted sum.

    values_SQ: a number for each seed and question; NaN where there is none. One row where nothing was trained.
    arm: parts of one arm share its seeds; "" where nothing was trained.
    benchmark: parts of one benchmark share its questions, in the same order.
    clusters_Q: questions of one name are drawn together; "" for one on its own.
    span: the most by which two values can differ, such as 1 for a share.
    """

    weight: float
    values_SQ: Numbers
    arm: str
    benchmark: str
    clusters_Q: Sequence[str]
    span: float = 1.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A weighted sum of means.

    num_seeds: of the arm that has fewest, arms without training apart; 0 where nothing was trained.
    num_questions: with a value, of all benchmarks together.
    detectable: the smallest difference from a value that would have been found with 80% power.
    deviations_D: of the draws from the mean.
    """

    mean: float
    num_seeds: int
    num_questions: int
    detectable: float
    deviations_D: Numbers

    @property
    def interval(self) -> Interval:
        """95%, over seeds and questions; over questions alone where each arm has one seed."""
        low, high = (float(np.quantile(self.deviations_D, tail)) for tail in (0.025, 0.975))
        return Interval(low=self.mean + low, high=self.mean + high)

    def differs_from(self, value: float) -> float:
        """Two-sided p-value that the sum is this value."""
        return self._share(np.abs(self.deviations_D) >= abs(self.mean - value) * (1 - 1e-9))

    def lies_within(self, margin: float) -> float:
        """p-value that the sum is beyond -margin or margin: the larger of two one-sided ones."""
        below = self._share(self.deviations_D >= self.mean + margin)
        above = self._share(self.deviations_D <= self.mean - margin)
        return max(below, above)

    def _share(self, is_further_D: NDArray[np.bool_]) -> float:
        return (int(is_further_D.sum()) + 1) / (len(is_further_D) + 1)


def estimate(parts: Sequence[Part], *, seed: int = 0, num_draws: int = NUM_DRAWS) -> Estimate | None:
    """Estimate a weighted sum of means; None where a seed has no value. The same seed gives the same interval.

    Raises:
        ValueError: parts that do not fit together.
    """
    _check(parts)
    if not parts or any(np.isnan(part.values_SQ).all(axis=1).any() for part in parts):
        return None
    seeds = {part.arm: len(part.values_SQ) for part in parts}
    mean = math.fsum(part.weight * float(_mean_of_seeds(part.values_SQ).mean()) for part in parts)
    variance, freedom = _find_variance(parts, seeds)
    drawn_D = _draw(parts, seeds, seed, num_draws) - mean
    if np.ptp(drawn_D) < 1e-12:
        drawn_D = np.random.default_rng(seed).standard_normal(num_draws)
    width, quantile = float(np.sqrt(np.mean(drawn_D**2))), find_student(0.95, freedom)
    scale = math.sqrt(variance) / width if width > 0 else 1.0
    questions = {part.benchmark: int((~np.isnan(part.values_SQ)).any(axis=0).sum()) for part in parts}
    return Estimate(
        mean=mean,
        num_seeds=min((count for arm, count in seeds.items() if arm), default=0),
        num_questions=sum(questions.values()),
        detectable=(quantile + find_student(0.6, freedom)) * math.sqrt(variance),
        deviations_D=drawn_D * scale * quantile / find_z(0.95),
    )


def _check(parts: Sequence[Part]) -> None:
    seeds: dict[str, int] = {}
    questions: dict[str, list[str]] = {}
    for part in parts:
        if part.values_SQ.ndim != 2 or 0 in part.values_SQ.shape:
            raise ValueError(f"values of the shape {part.values_SQ.shape} are not seeds by questions")
        if seeds.setdefault(part.arm, len(part.values_SQ)) != len(part.values_SQ):
            raise ValueError(f"{part.arm} has {seeds[part.arm]} and {len(part.values_SQ)} seeds")
        if questions.setdefault(part.benchmark, list(part.clusters_Q)) != list(part.clusters_Q):
            raise ValueError(f"parts of {part.benchmark} have other questions")
        if len(part.clusters_Q) != part.values_SQ.shape[1]:
            raise ValueError(f"clusters of another number than the {part.values_SQ.shape[1]} questions")


def _mean_of_seeds(values_SQ: Numbers) -> Numbers:
    """The mean of each seed over its questions."""
    return np.nanmean(values_SQ, axis=1)


def _find_variance(parts: Sequence[Part], seeds: Mapping[str, int]) -> tuple[float, float]:
    """The variance of the sum, and its degrees of freedom.

    The variance between seeds and the one between questions each hold the chance of a seed with a question, which is
    taken off once. At least the larger of the two is left. For the degrees of freedom that of few seeds counts
    several times: Satterthwaite's trust it too much where it happens to be small.
    """
    seed_terms: list[tuple[float, int]] = []
    for arm, count in seeds.items():
        if count > 1:
            sums_S = np.sum([part.weight * _mean_of_seeds(part.values_SQ) for part in parts if part.arm == arm], axis=0)
            seed_terms.append((float(np.var(sums_S, ddof=1)) / count, count - 1))
    question_terms, chance = _find_variance_of_questions(parts, seeds)
    variance = _join_variances(seed_terms, question_terms, chance)
    cautious = [(each * (1 + CAUTION / freedom), freedom) for each, freedom in seed_terms]
    squares = math.fsum(each**2 / freedom for each, freedom in (*cautious, *question_terms, *chance))
    joined = _join_variances(cautious, question_terms, chance)
    return variance, joined**2 / squares if squares > 0 else math.inf


def _join_variances(
    seed_terms: Sequence[tuple[float, int]],
    question_terms: Sequence[tuple[float, int]],
    chance: Sequence[tuple[float, int]],
) -> float:
    between_seeds, between_questions, common = (
        math.fsum(variance for variance, _ in terms) for terms in (seed_terms, question_terms, chance)
    )
    return max(between_seeds + between_questions - common, between_seeds, between_questions)


def _find_variance_of_questions(
    parts: Sequence[Part], seeds: Mapping[str, int]
) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
    """The variances between questions, and those by chance that they hold: each with its degrees of freedom."""
    terms: list[tuple[float, int]] = []
    chance: list[tuple[float, int]] = []
    for benchmark in dict.fromkeys(part.benchmark for part in parts):
        own = [part for part in parts if part.benchmark == benchmark]
        by_arm: dict[str, Numbers] = {}
        for part in own:
            by_arm[part.arm] = by_arm.get(part.arm, np.zeros(part.values_SQ.shape)) + _fill(part)
        numbers = _number_clusters(own[0].clusters_Q)
        num_clusters, num_questions = int(numbers.max()) + 1, len(numbers)
        sums_Q = np.sum([each.mean(axis=0) for each in by_arm.values()], axis=0)
        totals_K = np.bincount(numbers, weights=sums_Q - sums_Q.mean())
        freedom = max(1, num_clusters - 1)
        least = 2 * (max(abs(part.weight) * part.span for part in own) / (num_clusters + 2)) ** 2
        spread = float((totals_K**2).sum()) * num_clusters / freedom / num_questions**2
        terms.append((max(spread, least), freedom))
        for arm, each_SQ in by_arm.items():
            if seeds[arm] > 1:
                rest_SQ = each_SQ - each_SQ.mean(axis=1, keepdims=True) - each_SQ.mean(axis=0) + each_SQ.mean()
                totals_SK = np.array([np.bincount(numbers, weights=rest_Q) for rest_Q in rest_SQ])
                both = (seeds[arm] - 1) * freedom
                common = float((totals_SK**2).sum()) * num_clusters / both / seeds[arm] / num_questions**2
                chance.append((common, both))
    return terms, chance


def _fill(part: Part) -> Numbers:
    """The part's weighted values (S, Q), with the mean of the seed where there is none."""
    means_S1 = np.nanmean(part.values_SQ, axis=1, keepdims=True)
    return part.weight * np.where(np.isnan(part.values_SQ), means_S1, part.values_SQ)


def _number_clusters(clusters_Q: Sequence[str]) -> NDArray[np.intp]:
    """The number of each question's cluster, from 0."""
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(name or place, len(numbers)) for place, name in enumerate(clusters_Q)])


def _draw(parts: Sequence[Part], seeds: Mapping[str, int], seed: int, num_draws: int) -> Numbers:
    """The sum in each draw (D,)."""
    draw = np.random.default_rng(seed)
    sums: list[Numbers] = []
    for start in range(0, num_draws, DRAWS_AT_ONCE):
        num = min(DRAWS_AT_ONCE, num_draws - start)
        seeds_DS = {arm: _draw_seeds(draw, num, count) for arm, count in seeds.items()}
        questions_DQ: dict[str, Numbers] = {}
        sums_D: Numbers = np.zeros(num)
        for part in parts:
            if part.benchmark not in questions_DQ:
                questions_DQ[part.benchmark] = _draw_questions(draw, num, part.clusters_Q)
            weights_DQ, known_SQ = questions_DQ[part.benchmark], ~np.isnan(part.values_SQ)
            sums_DS: Numbers = np.einsum("dq,sq->ds", weights_DQ, np.nan_to_num(part.values_SQ), optimize=True)
            counts_DS: Numbers = np.einsum("dq,sq->ds", weights_DQ, known_SQ.astype(np.float64), optimize=True)
            means_DS = sums_DS / np.maximum(counts_DS, 1)
            sums_D += part.weight * (seeds_DS[part.arm] * means_DS).sum(axis=1)
        sums.append(sums_D)
    return np.concatenate(sums)


def _draw_seeds(draw: np.random.Generator, num: int, count: int) -> Numbers:
    """The weight of each seed in each draw (D, S); the weights of a draw sum to 1."""
    return draw.multinomial(count, np.full(count, 1 / count), size=num) / count


def _draw_questions(draw: np.random.Generator, num: int, clusters_Q: Sequence[str]) -> Numbers:
    """Count how often each question is in each draw (D, Q)."""
    numbers = _number_clusters(clusters_Q)
    count = int(numbers.max()) + 1
    drawn_DK = draw.integers(count, size=(num, count)) + count * np.arange(num)[:, np.newaxis]
    counts: NDArray[np.intp] = np.bincount(drawn_DK.ravel(), minlength=num * count)
    counts_DK: NDArray[np.intp] = counts.reshape(num, count)  # pyright: ignore[reportUnknownMemberType]
    return counts_DK[:, numbers].astype(float)
