from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2r.statistics import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    correct_holm,
    find_detectable_difference,
    mcnemar,
    permute_clusters,
    wilson,
)


# Values of R's prop.test(..., correct = FALSE), and the interval of the paper's V* result (178 of 191).
@pytest.mark.parametrize(
    ("num_correct", "num_trials", "low", "high"),
    [
        (178, 191, 0.8870, 0.9598),
        (5, 10, 0.2366, 0.7634),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 2, 0.0945, 0.9055),
        (15, 148, 0.0624, 0.1605),  # Newcombe 1998, table I
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (1, 29, 0.0061, 0.1718),  # Newcombe 1998, table I
    ],
)
def test_wilson_agrees_with_published_intervals(num_correct: int, num_trials: int, low: float, high: float) -> None:
    interval = wilson(num_correct, num_trials)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_nothing_is_known_without_a_trial() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_a_higher_confidence_widens_the_interval() -> None:
    assert (
        wilson(7, 20, confidence=0.99).low
        < wilson(7, 20).low
        < wilson(7, 20).high
        < wilson(7, 20, confidence=0.99).high
    )


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    num_correct, num_trials = counts
    interval, mirrored = wilson(num_correct, num_trials), wilson(num_trials - num_correct, num_trials)
    assert 0 <= interval.low <= num_correct / num_trials <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-12)


@pytest.mark.parametrize(("num_correct", "num_trials"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts_are_refused(num_correct: int, num_trials: int) -> None:
    with pytest.raises(ValueError, match="not possible"):
        wilson(num_correct, num_trials)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_impossible_confidences_are_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson(1, 3, confidence=confidence)


# Values of scipy.stats.binomtest(b, b + c).pvalue.
@pytest.mark.parametrize(
    ("num_gained", "num_lost", "p_value"),
    [(0, 0, 1.0), (3, 2, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (1, 9, 0.021484375), (10, 25, 0.016673848)],
)
def test_mcnemar_is_the_exact_binomial_test(num_gained: int, num_lost: int, p_value: float) -> None:
    assert mcnemar(num_gained, num_lost) == pytest.approx(p_value, abs=1e-6)
    assert mcnemar(num_lost, num_gained) == mcnemar(num_gained, num_lost)


def test_mcnemar_of_thousands_of_differences_does_not_overflow() -> None:
    assert 0 < mcnemar(5000, 5200) < 0.06


@given(st.integers(0, 30), st.integers(0, 30))
def test_with_one_sample_to_a_cluster_the_cluster_test_is_mcnemars(num_gained: int, num_lost: int) -> None:
    differences = [1] * num_gained + [-1] * num_lost + [0, 0]
    assert permute_clusters(differences) == pytest.approx(mcnemar(num_gained, num_lost), rel=1e-12)


@given(st.lists(st.integers(-4, 4), max_size=8))
def test_the_cluster_test_counts_every_sign_pattern(differences: list[int]) -> None:
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in product((-1, 1), repeat=len(differences))
    ]
    expected = sum(abs(value) >= abs(sum(differences)) for value in sums) / len(sums)
    assert permute_clusters(differences) == pytest.approx(expected)


def test_rotations_that_move_together_are_weaker_evidence_than_mcnemar_says() -> None:
    assert permute_clusters([4, 4, 4]) == 0.25
    assert mcnemar(12, 0) < 0.001


def test_the_bootstrap_is_close_to_the_known_interval_of_a_mean() -> None:
    values = [1.0] * 150 + [0.0] * 50
    interval = bootstrap_mean(values)
    half = 1.96 * (0.75 * 0.25 / 200) ** 0.5
    assert interval.low == pytest.approx(0.75 - half, abs=0.01)
    assert interval.high == pytest.approx(0.75 + half, abs=0.01)


def test_the_bootstrap_is_the_same_for_the_same_seed() -> None:
    values = [k / 37 for k in range(37)]
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_clusters_of_equal_values_widen_the_interval_as_fewer_samples_would() -> None:
    values = [float(k % 4 > 0) for k in range(50) for _ in range(4)]
    clusters = [str(k) for k in range(50) for _ in range(4)]
    few = bootstrap_mean([float(k % 4 > 0) for k in range(50)])
    assert bootstrap_mean(values, clusters) == few
    assert bootstrap_mean(values).high - bootstrap_mean(values).low < 0.6 * (few.high - few.low)


def test_values_without_a_cluster_are_drawn_alone() -> None:
    values = [0.0, 1.0, 1.0, 1.0] * 10
    assert bootstrap_mean(values, [""] * 40) == bootstrap_mean(values)


def test_nothing_is_known_of_no_values() -> None:
    assert bootstrap_mean([]) == Interval(low=0.0, high=1.0)


def test_the_paired_difference_is_much_surer_than_the_unpaired() -> None:
    before = [float(k % 2) for k in range(200)]
    after = before[:190] + [1.0] * 10
    difference = bootstrap_difference(before, after)
    assert difference.mean == pytest.approx(0.025)
    assert 0 < difference.low < 0.025 < difference.high < 0.06


def test_lists_of_different_length_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        bootstrap_difference([1.0], [])
    with pytest.raises(ValueError, match="2 values, but 1 clusters"):
        bootstrap_mean([0.0, 1.0], ["a"])


# R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
def test_holm_agrees_with_r() -> None:
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([0.9, 0.8]) == [1.0, 1.0]
    assert correct_holm([]) == []


def test_the_detectable_difference_solves_connors_formula() -> None:
    # Connor 1987: n = (z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 / d^2; psi 0.2, d 0.1 gives 155 pairs.
    assert find_detectable_difference(155, 0.2) == pytest.approx(0.1, abs=5e-4)
    assert find_detectable_difference(191, 0.1) < find_detectable_difference(191, 0.3)  # type: ignore[operator]


def test_a_difference_too_small_to_be_found_at_all_is_none() -> None:
    assert find_detectable_difference(10, 0.05) is None
    assert find_detectable_difference(0, 0.5) is None
    assert find_detectable_difference(100, 0.0) is None
