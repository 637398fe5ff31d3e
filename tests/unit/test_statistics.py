import math
import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2r.statistics import (
    Interval,
    bootstrap_mean,
    bound_mean,
    compare_pairs,
    correct_holm,
    effective_size,
    find_detectable_difference,
    find_power,
    mcnemar,
    paired_tests,
    permute_clusters,
    power,
    tango,
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


def score_by_search(num_gained: int, num_lost: int, num_pairs: int, difference: float) -> float:
    """The score statistic at a difference, with the likelihood maximized by trial over the share of lost pairs."""
    rest, best = num_pairs - num_gained - num_lost, (-math.inf, 0.0)
    for k in range(1, 40_000):
        lost = max(0.0, -difference) + k * (1 - abs(difference)) / 2 / 40_000
        logs = num_gained * math.log(lost + difference) + num_lost * math.log(lost)
        best = max(best, (logs + rest * math.log(1 - 2 * lost - difference), lost))
    variance = num_pairs * (2 * best[1] + difference - difference**2)
    return (num_gained - num_lost - num_pairs * difference) / math.sqrt(variance)


@pytest.mark.parametrize(("num_gained", "num_lost", "num_pairs"), [(3, 1, 24), (12, 9, 60), (7, 20, 191), (5, 0, 30)])
def test_tangos_interval_ends_where_the_score_test_rejects(num_gained: int, num_lost: int, num_pairs: int) -> None:
    interval = tango(num_gained, num_lost, num_pairs)
    assert score_by_search(num_gained, num_lost, num_pairs, interval.low) == pytest.approx(1.96, abs=0.002)
    assert score_by_search(num_gained, num_lost, num_pairs, interval.high) == pytest.approx(-1.96, abs=0.002)
    mirrored = tango(num_lost, num_gained, num_pairs)
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low), abs=1e-8)


def test_pairs_that_never_differ_still_leave_room_for_a_difference() -> None:
    z = 1.959964
    assert tango(0, 0, 40).high == pytest.approx(z * z / (40 + z * z), abs=1e-6)
    assert tango(0, 0, 40).low == -tango(0, 0, 40).high
    assert tango(24, 0, 24).high == pytest.approx(1.0)
    assert tango(24, 0, 24).low == pytest.approx(2 * 24 / (24 + z * z) - 1, abs=1e-6)


@pytest.mark.parametrize(
    ("gain", "loss"), [(0.02, 0.02), (0.05, 0.01), (0.1, 0.1), (0.2, 0.1), (0.3, 0.05), (0.1, 0.0), (0.0, 0.0)]
)
@pytest.mark.parametrize("num", [24, 76])
def test_tangos_interval_covers_the_true_difference(num: int, gain: float, loss: float) -> None:
    """Summed over every possible outcome, so that the coverage is exact."""
    covered = 0.0
    for gained in range(num + 1):
        for lost in range(num + 1 - gained):
            rest = num - gained - lost
            ways = math.comb(num, gained) * math.comb(num - gained, lost)
            chance = ways * gain**gained * loss**lost * (1 - gain - loss) ** rest
            if chance > 1e-9:
                interval = tango(gained, lost, num)
                covered += chance * (interval.low <= gain - loss + 1e-9 and gain - loss - 1e-9 <= interval.high)
    assert covered > 0.94


@pytest.mark.parametrize("counts", [(-1, 0, 3), (0, -1, 3), (2, 2, 3), (0, 0, 0)])
def test_impossible_pairs_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="not possible"):
        tango(*counts)


def test_the_paired_difference_is_much_surer_than_the_unpaired() -> None:
    before = [float(k % 2) for k in range(200)]
    after = before[:190] + [1.0] * 10
    difference = compare_pairs(before, after)
    assert difference.mean == pytest.approx(0.025)
    assert 0 < difference.low < 0.025 < difference.high < 0.06
    assert (difference.low, difference.high) == (tango(5, 0, 200).low, tango(5, 0, 200).high)


def repeat(values: list[float], count: int = 4) -> tuple[list[float], list[str]]:
    return [value for value in values for _ in range(count)], [str(k) for k in range(len(values)) for _ in range(count)]


def test_equal_rotations_count_once() -> None:
    values = [float(k % 4 > 0) for k in range(200)]
    assert effective_size(values) == effective_size(values, [""] * 200) == 200
    assert effective_size(*repeat(values)) == pytest.approx(200, rel=0.02)
    assert effective_size(*repeat([1.0] * 200)) == pytest.approx(200, rel=0.02)
    assert effective_size(*repeat(values[:12])) < 0.85 * 12  # Student's quantile: twelve questions say little


def test_independent_rotations_count_each() -> None:
    draw = random.Random(0)
    values = [float(draw.random() < 0.8) for _ in range(4000)]
    assert effective_size(values, repeat([0.0] * 1000)[1]) == pytest.approx(4000, rel=0.08)


def test_clusters_that_agree_less_than_chance_are_never_worth_more_than_their_samples() -> None:
    values = [float(k % 2) for k in range(80)]
    clusters = [str(k // 2) for k in range(80)]
    assert 75 < effective_size(values, clusters) <= 80


def test_the_difference_of_rotated_questions_is_as_sure_as_that_of_the_questions() -> None:
    before, clusters = repeat([float(k % 3 > 0) for k in range(200)])
    after = repeat([float(k % 3 > 0 or k < 30) for k in range(200)])[0]
    whole = compare_pairs(before, after, clusters)
    alone = compare_pairs(before[::4], after[::4])
    assert whole.mean == alone.mean == 0.05
    assert (whole.low, whole.high) == pytest.approx((alone.low, alone.high), abs=0.002)


def test_rotations_that_never_differ_still_leave_room_for_a_difference() -> None:
    right, clusters = repeat([1.0] * 24)
    same = compare_pairs(right, right, clusters)
    assert same.low < -0.12 and same.high > 0.12


def test_clusters_of_unequal_size_keep_their_weight() -> None:
    values, clusters = [1.0] * 30 + [0.0] * 10, ["large"] * 30 + [str(k) for k in range(10)]
    assert 1 < effective_size(values, clusters) < 5
    assert effective_size([1.0] * 40, clusters) < 40 * 40 / (30 * 30 + 10)


def test_the_interval_of_a_mean_is_wilsons_for_shares_and_a_bootstrap_for_other_values() -> None:
    values, clusters = repeat([float(k % 5 > 0) for k in range(100)])
    assert bound_mean(values[::4]) == wilson(80, 100)
    assert bound_mean(values, clusters).low == pytest.approx(wilson(80, 100).low, abs=0.002)
    assert bound_mean([0.25, 0.5, 1.0]) == bootstrap_mean([0.25, 0.5, 1.0])
    assert bound_mean([]) == Interval(low=0.0, high=1.0)


def test_lists_of_different_length_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        compare_pairs([1.0], [])
    with pytest.raises(ValueError, match="2 values, but 1 cluster"):
        bootstrap_mean([0.0, 1.0], ["a"])


# R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
def test_holm_agrees_with_r() -> None:
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([0.9, 0.8]) == [1.0, 1.0]
    assert correct_holm([]) == []


def power_of_mcnemar(num: int, share: float, difference: float) -> float:
    """The power of the exact test, summed over every possible outcome."""
    gain, found = (share + difference) / 2, 0.0
    for differ in range(num + 1):
        chance = math.comb(num, differ) * share**differ * (1 - share) ** (num - differ)
        if chance < 1e-9:
            continue
        for gained in range(differ + 1):
            if mcnemar(gained, differ - gained) < 0.05:
                odds = (gain / share) ** gained * (1 - gain / share) ** (differ - gained)
                found += chance * math.comb(differ, gained) * odds
    return found


@pytest.mark.parametrize(("num", "share"), [(24, 0.4), (76, 0.2), (155, 0.2), (191, 0.1)])
def test_the_detectable_difference_is_found_at_the_exact_tests_own_power(num: int, share: float) -> None:
    least = find_detectable_difference({1: share}, num, num)
    assert least is not None
    assert power_of_mcnemar(num, share, least) == pytest.approx(0.8, abs=0.02)
    assert power_of_mcnemar(num, share, 0.9 * least) < 0.75


@pytest.mark.parametrize(("num", "share", "difference"), [(24, 0.4, 0.2), (76, 0.2, 0.1), (191, 0.1, 0.03)])
def test_the_power_for_a_difference_is_the_exact_tests_own(num: int, share: float, difference: float) -> None:
    assert find_power(difference, {1: share}, num, num) == pytest.approx(
        power_of_mcnemar(num, share, difference), abs=0.02
    )


def test_the_smallest_difference_is_the_one_with_that_power() -> None:
    spread = {1: 0.3, 2: 0.1, 4: 0.05}
    least = find_detectable_difference(spread, 60, 240)
    assert least is not None
    assert find_power(least, spread, 60, 240) == pytest.approx(0.8, abs=0.005)
    assert find_power(least, spread, 60, 240, alpha=0.01) < 0.7  # type: ignore[operator]


def test_no_power_is_told_for_a_difference_that_cannot_be() -> None:
    assert find_power(0.21, {1: 0.2}, 191, 191) is None
    assert find_power(-0.1, {1: 0.2}, 191, 191) is None
    assert find_power(0.2, {1: 0.2}, 191, 191) == pytest.approx(1.0)
    assert find_power(0.1, {}, 191, 191) is None


def test_rotations_that_move_together_show_less_than_as_many_samples() -> None:
    """Where all rotations move together, the difference is that of the questions."""
    alone = find_detectable_difference({1: 0.2}, 200, 200)
    together = find_detectable_difference({4: 0.2}, 200, 800)
    apart = find_detectable_difference({1: 0.2}, 800, 800)
    assert alone is not None and together == pytest.approx(alone, rel=0.02)
    assert apart is not None and apart < 0.6 * alone


def test_the_power_counts_the_spread_of_cluster_differences() -> None:
    """Against a simulation of the test itself."""
    spread, draw = {1: 0.3, 2: 0.1, 4: 0.05}, random.Random(0)
    least = find_detectable_difference(spread, 60, 240)
    assert least is not None
    positive = (1 + least / (60 * (0.3 + 0.2 + 0.2) / 240)) / 2
    sizes, weights = [0, *spread], [1 - sum(spread.values()), *spread.values()]
    found = 0
    for _ in range(1000):
        drawn = draw.choices(sizes, weights, k=60)
        found += permute_clusters([size if draw.random() < positive else -size for size in drawn]) < 0.05
    assert found / 1000 == pytest.approx(0.8, abs=0.04)


def test_a_stricter_test_shows_only_larger_differences() -> None:
    assert find_detectable_difference({1: 0.2}, 191, 191) < find_detectable_difference(  # type: ignore[operator]
        {1: 0.2}, 191, 191, alpha=0.01
    )


def test_a_difference_too_small_to_be_found_at_all_is_none() -> None:
    assert find_detectable_difference({1: 0.05}, 10, 10) is None
    assert find_detectable_difference({1: 0.5}, 0, 0) is None
    assert find_detectable_difference({}, 100, 100) is None
    assert find_detectable_difference({1: 1.0}, 5, 5) is None and find_detectable_difference({1: 1.0}, 6, 6) is not None


def test_the_effective_size_of_four_pairs_is_worked_out_by_hand() -> None:
    """Sums differ from their mean by 1, 0, 0, -1: variance 8/3 between pairs, 2 alone; Student's quantile is 3.182."""
    values, clusters = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0], list("aabbccdd")
    assert effective_size(values, clusters) == pytest.approx(8 / (4 / 3) * (1.959964 / 3.182446) ** 2, rel=1e-4)


@pytest.mark.parametrize("differences", [[4, 4, -4], [1, -2, 3, 3, 0, -1], [7] * 9 + [-5] * 4 + [1] * 20, [2]])
def test_many_clusters_are_tested_as_few_are(differences: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    exact = permute_clusters(differences)
    monkeypatch.setattr(paired_tests, "MOST_STEPS", 0)
    assert permute_clusters(differences) == pytest.approx(exact, abs=1e-12)


def test_thousands_of_clusters_are_tested_at_once() -> None:
    assert permute_clusters([8, -8] * 5000) == 1.0
    assert 0 <= permute_clusters([8, 3] * 5000) < 1e-12


def test_the_length_of_a_transform_is_odd_and_has_small_factors() -> None:
    find = paired_tests._find_length  # pyright: ignore[reportPrivateUsage]
    assert [find(least) for least in (1, 13, 31, 100, 1001)] == [1, 15, 35, 105, 1029]


@pytest.mark.parametrize("positive", [0.0, 0.3, 0.5, 1.0])
def test_the_spread_of_sums_is_that_of_all_signs(positive: float) -> None:
    rows = paired_tests.spread_of_sums([1, 3], np.array([[2, 1], [0, 2], [0, 0]]), positive)
    for row, sizes in zip(rows, ([1, 1, 3], [3, 3], []), strict=True):
        expected = dict.fromkeys(range(-6, 7), 0.0)
        for signs in product((1, -1), repeat=len(sizes)):
            chance = math.prod(positive if sign > 0 else 1 - positive for sign in signs)
            expected[sum(sign * size for sign, size in zip(signs, sizes, strict=True))] += chance
        assert row.tolist() == pytest.approx(list(expected.values()), abs=1e-12)


def test_what_is_computed_piece_by_piece_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = {1: 0.2, 2: 0.1}
    whole = find_power(0.1, spread, 40, 60)
    monkeypatch.setattr(power, "MOST_NUMBERS", 1000)
    assert find_power(0.1, spread, 40, 60) == pytest.approx(whole)


def test_one_cluster_bounds_nothing() -> None:
    assert bootstrap_mean([0.3, 0.5], ["a", "a"]) == bootstrap_mean([0.3]) == Interval(low=0, high=1)
    assert bootstrap_mean([0.3, 0.5], ["a", "b"]).high < 1
