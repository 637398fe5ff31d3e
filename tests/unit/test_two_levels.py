"""Means over seeds and questions: their intervals hold both, and tests are as strict as they say."""

from __future__ import annotations

import numpy as np
import pytest

from p2r.statistics import Part, estimate, wilson
from p2r.statistics.solve import find_student, find_z


def draw_answers(draw: np.random.Generator, num_seeds: int, skill_Q: np.ndarray, spread: float) -> np.ndarray:
    """Right answers (S, Q) of seeds whose skill differs by `spread` logits."""
    logits = skill_Q + spread * draw.standard_normal((num_seeds, 1))
    return (draw.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)


def alone(values_SQ: np.ndarray, weight: float = 1.0, arm: str = "a", benchmark: str = "b") -> Part:
    return Part(weight, values_SQ, arm, benchmark, [""] * values_SQ.shape[1])


@pytest.mark.parametrize(
    ("confidence", "freedom", "quantile"),
    [
        (0.95, 1, 12.7062), (0.95, 2, 4.30265), (0.95, 4, 2.77645), (0.95, 30, 2.04227), (0.99, 5, 4.03214),
        (0.6, 2, 1.06066),
    ],
)  # fmt: skip
def test_students_quantiles_are_those_of_the_tables(confidence: float, freedom: float, quantile: float) -> None:
    assert find_student(confidence, freedom) == pytest.approx(quantile, rel=1e-5)


def test_students_quantile_becomes_the_normal_one() -> None:
    assert find_student(0.95, 1e5) == pytest.approx(find_z(0.95), rel=1e-4)
    assert find_student(0.95, float("inf")) == find_z(0.95)


@pytest.mark.parametrize(("num_seeds", "spread"), [(2, 0.3), (3, 0.0), (3, 0.3), (5, 0.2)])
def test_intervals_cover_and_tests_reject_as_often_as_they_promise(num_seeds: int, spread: float) -> None:
    draw = np.random.default_rng(num_seeds)
    num_covered = num_rejected = 0
    for _ in range(120):
        skill_Q = draw.normal(0, 1.2, 150)
        parts = [
            alone(draw_answers(draw, num_seeds, skill_Q, spread), weight, arm) for weight, arm in ((1, "a"), (-1, "c"))
        ]
        found = estimate(parts, num_draws=500)
        assert found is not None
        num_covered += found.interval.low <= 0 <= found.interval.high
        num_rejected += found.differs_from(0) < 0.05
    assert num_covered >= 0.9 * 120
    assert num_rejected <= 0.1 * 120


@pytest.mark.parametrize(("num_seeds", "spread"), [(3, 0.3), (5, 0.3)])
def test_intervals_cover_where_few_seeds_are_compared_with_what_was_not_trained(num_seeds: int, spread: float) -> None:
    """Degrees of freedom that are joined without care let one in ten intervals of three seeds miss."""
    draw = np.random.default_rng(num_seeds)
    truth = float(np.mean(draw_answers(draw, 400, draw.normal(0, 1.2, 4000), spread)) - 0.5)
    num_covered = 0
    for _ in range(300):
        skill_Q = draw.normal(0, 1.2, 300)
        after = alone(draw_answers(draw, num_seeds, skill_Q, spread), 1, "a")
        before = alone(draw_answers(draw, 1, skill_Q, 0.0), -1, "")
        found = estimate([after, before], num_draws=400)
        assert found is not None
        num_covered += found.interval.low <= truth <= found.interval.high
    assert num_covered >= 0.94 * 300


@pytest.mark.parametrize(("num_seeds", "share"), [(2, 5.0), (3, 3.0), (5, 2.0)])
def test_degrees_of_freedom_count_the_variance_between_few_seeds_several_times(num_seeds: int, share: float) -> None:
    """Two sources with two known variances, and no chance between them."""
    seeds, questions = np.arange(num_seeds) / num_seeds / 5, (np.arange(400) < 200) / 2
    values = seeds[:, None] + questions
    by_seed, by_question = seeds.var(ddof=1) / num_seeds, questions.var(ddof=1) / 400
    joined = share * by_seed + by_question
    freedom = joined**2 / ((share * by_seed) ** 2 / (num_seeds - 1) + by_question**2 / 399)
    width = (find_student(0.95, freedom) + find_student(0.6, freedom)) * np.sqrt(by_seed + by_question)
    found = estimate([alone(values)])
    assert found is not None
    assert found.detectable == pytest.approx(width, rel=1e-6)


@pytest.mark.parametrize(
    ("num_seeds", "by_seed", "by_question"), [(2, 0.3, 0.3), (3, 0.0, 0.5), (3, 0.5, 0.0), (5, 0.1, 0.1)]
)
def test_what_a_seed_makes_of_a_question_by_chance_counts_once(
    num_seeds: int, by_seed: float, by_question: float
) -> None:
    draw = np.random.default_rng(5)
    values = 4 * draw.random((num_seeds, 40)) + by_question * draw.random(40)
    values += by_seed * draw.random((num_seeds, 1)) - (0 if by_seed else values.mean(axis=1, keepdims=True))
    values -= 0 if by_question else values.mean(axis=0)
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    between_seeds = values.mean(axis=1).var(ddof=1) / num_seeds
    between_questions = max(values.mean(axis=0).var(ddof=1) / 40, 2 / 42**2)
    both = (num_seeds - 1) * 39
    common = (rest**2).sum() / both / num_seeds / 40

    def join(between_seeds: float) -> float:
        return max(between_seeds + between_questions - common, between_seeds, between_questions)

    cautious = between_seeds * (1 + 4 / (num_seeds - 1))
    squares = cautious**2 / (num_seeds - 1) + between_questions**2 / 39 + common**2 / both
    freedom = join(cautious) ** 2 / squares
    width = (find_student(0.95, freedom) + find_student(0.6, freedom)) * np.sqrt(join(between_seeds))
    found = estimate([alone(values)])
    assert found is not None
    assert found.detectable == pytest.approx(width, rel=1e-6)


def test_seeds_widen_the_interval() -> None:
    """Questions alone would call these two arms different; the seeds of each differ as much as the arms do."""
    low, high = (
        np.array([np.arange(400) < 400 * share for share in shares], dtype=float) for shares in ((0.5, 0.7), (0.6, 0.8))
    )
    both = estimate([alone(high, 1, "a"), alone(low, -1, "c")])
    first = estimate([alone(high[:1], 1, "a"), alone(low[:1], -1, "c")])
    assert both is not None and first is not None
    assert first.differs_from(0) < 0.001
    assert both.differs_from(0) > 0.2
    assert both.num_seeds == 2
    assert first.num_seeds == 1


def test_one_run_has_the_width_of_wilsons_interval() -> None:
    found = estimate([alone((np.arange(300) < 210).astype(float)[None], arm="")])
    known = wilson(210, 300)
    assert found is not None
    assert found.interval.low == pytest.approx(known.low, abs=0.006)
    assert found.interval.high == pytest.approx(known.high, abs=0.006)
    assert found.num_seeds == 0


def test_a_pairing_that_removes_the_difficulty_narrows_a_difference() -> None:
    before = (np.random.default_rng(0).random((1, 300)) < 0.5).astype(float)
    after = before.copy()
    after[0, :30] = 1
    paired = estimate([alone(after, 1, ""), alone(before, -1, "")])
    apart = estimate([alone(after, 1, "", "x"), alone(before, -1, "", "y")])
    assert paired is not None and apart is not None
    assert paired.mean == pytest.approx(apart.mean)
    assert paired.detectable < apart.detectable / 2
    assert paired.num_questions == 300
    assert apart.num_questions == 600


def test_no_difference_in_few_questions_is_not_shown_to_be_none() -> None:
    few, many = (
        estimate([alone(np.ones((3, count)), 1, "a"), alone(np.ones((3, count)), -1, "c")]) for count in (12, 1200)
    )
    assert few is not None and many is not None
    assert few.mean == 0
    assert few.lies_within(0.03) > 0.05
    assert few.interval.high - few.interval.low > 0.2
    assert many.lies_within(0.03) < 0.01
    assert few.differs_from(0) == 1


def test_what_lies_outside_is_not_within() -> None:
    found = estimate([alone(np.r_[np.ones(150), np.zeros(150)][None], arm="")])
    assert found is not None
    assert found.lies_within(0.3) > 0.5
    assert found.lies_within(0.7) < 0.001
    assert found.differs_from(0.5) > 0.9
    assert found.differs_from(0.3) < 0.001


def test_a_difference_the_other_way_is_as_sure() -> None:
    values = (np.random.default_rng(2).random((3, 80)) < 0.6).astype(float)
    found, mirrored = estimate([alone(values)]), estimate([alone(values, -1)])
    assert found is not None and mirrored is not None
    assert mirrored.mean == -found.mean
    for margin in (found.mean - 0.05, found.mean + 0.1):
        assert mirrored.lies_within(margin) == found.lies_within(margin)
        assert mirrored.differs_from(-margin) == found.differs_from(margin)
    assert found.lies_within(found.mean - 0.05) > 0.5 > found.lies_within(found.mean + 0.1)


def test_no_p_value_is_smaller_than_the_draws_can_show() -> None:
    found = estimate([alone(np.ones((1, 500)), arm="")], num_draws=999)
    assert found is not None
    assert found.differs_from(0) == found.lies_within(5) == 1 / 1000


def test_seeds_are_those_of_the_arm_that_has_fewest() -> None:
    draw = np.random.default_rng(4)
    parts = [alone(draw.random((count, 20)), 1, arm) for arm, count in (("a", 2), ("c", 5), ("", 1))]
    found = estimate(parts)
    assert found is not None and found.num_seeds == 2


def test_rotations_of_a_question_count_together() -> None:
    once = (np.random.default_rng(3).random((1, 60)) < 0.6).astype(float)
    four = np.repeat(once, 4, axis=1)
    clusters = [str(place // 4) for place in range(240)]
    widths = [
        found.interval.high - found.interval.low
        for part in (alone(once, arm=""), Part(1.0, four, "", "b", clusters), alone(four, arm=""))
        if (found := estimate([part])) is not None
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)
    assert widths[2] < 0.6 * widths[1]


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_rotations_of_a_question_show_no_more_than_it_does_alone(share: float) -> None:
    once = (np.random.default_rng(3).random((3, 20)) < share).astype(float)
    clusters = [str(place // 4) for place in range(80)]
    question, rotations = estimate([alone(once)]), estimate([Part(1.0, np.repeat(once, 4, axis=1), "a", "b", clusters)])
    assert question is not None and rotations is not None
    assert rotations.detectable == pytest.approx(question.detectable, rel=1e-9)
    assert rotations.mean == pytest.approx(question.mean)


def test_cells_of_one_arm_share_its_seeds() -> None:
    """The gain within each seed is the same, however much the seeds differ."""
    base = np.array([[1.0] * k + [0.0] * (100 - k) for k in (30, 50, 70)])
    gained = np.array([[1.0] * (k + 10) + [0.0] * (90 - k) for k in (30, 50, 70)])
    shared = estimate([alone(gained, 1, "a"), alone(base, -1, "a")])
    apart = estimate([alone(gained, 1, "a"), alone(base, -1, "c")])
    assert shared is not None and apart is not None
    assert shared.differs_from(0) < 0.05 < apart.differs_from(0)


def test_missing_answers_are_left_out() -> None:
    found = estimate([alone(np.array([[1.0, 0.0, np.nan, 1.0], [1.0, np.nan, np.nan, 0.0]]))])
    assert found is not None
    assert found.mean == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.num_questions == 3
    assert estimate([alone(np.array([[1.0, 0.0], [np.nan, np.nan]]))]) is None
    assert estimate([alone(np.ones((2, 2))), alone(np.array([[1.0, 0.0], [np.nan, np.nan]]))]) is None


def test_a_missing_answer_is_as_uncertain_as_the_mean_of_its_seed() -> None:
    values = (np.random.default_rng(6).random((3, 30)) < 0.8).astype(float)
    values[:, :5] = np.nan
    filled = np.where(np.isnan(values), np.nanmean(values, axis=1, keepdims=True), values)
    missing, known = estimate([alone(values)]), estimate([alone(filled)])
    assert missing is not None and known is not None
    assert missing.detectable == pytest.approx(known.detectable)


def test_cells_of_one_arm_on_the_same_questions_are_drawn_together() -> None:
    before = (np.random.default_rng(8).random((3, 40)) < 0.5).astype(float)
    gain, constant = estimate([alone(before + 1), alone(before, -1)]), estimate([alone(np.ones((3, 40)))])
    assert gain is not None and constant is not None
    assert gain.deviations_D == pytest.approx(constant.deviations_D)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = (np.random.default_rng(1).random((3, 50)) < 0.5).astype(float)
    first, second, other = (estimate([alone(values)], seed=seed) for seed in (0, 0, 1))
    assert first is not None and second is not None and other is not None
    assert first.interval == second.interval != other.interval


@pytest.mark.parametrize(
    "parts",
    [
        [alone(np.ones((2, 3))), alone(np.ones((3, 3)), arm="a", benchmark="c")],
        [alone(np.ones((2, 3))), alone(np.ones((2, 4)), arm="c")],
        [Part(1.0, np.ones((2, 3)), "a", "b", ["", ""])],
        [alone(np.ones((0, 3)))],
    ],
)
def test_parts_that_do_not_fit_together_are_refused(parts: list[Part]) -> None:
    with pytest.raises(ValueError, match=r"seeds|questions|clusters|shape"):
        estimate(parts)
