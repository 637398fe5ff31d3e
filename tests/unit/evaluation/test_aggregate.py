"""Official aggregation: cycles, columns, micro averages."""

from __future__ import annotations

import math

import pytest

from p2r.evaluation.aggregate import Scored, aggregate_cycles, aggregate_mme, make_release_table


def rotations(*scores: str) -> list[Scored]:
    """A question for each text, a cycle for each digit; a dash is a cycle that is missing."""
    return [
        Scored("single" if number % 2 == 0 else "cross", float(digit), cluster=str(number), cycle=cycle)
        for number, digits in enumerate(scores)
        for cycle, digit in enumerate(digits)
        if digit != "-"
    ]


def test_with_whole_cycles_the_official_score_is_the_mean_over_rows() -> None:
    table = aggregate_cycles(rotations("1111", "1010", "0001"))
    assert table["overall"].official == pytest.approx(table["overall"].rows.percent)
    assert table["overall"].official == pytest.approx(7 / 12 * 100)
    assert table["single"].official == pytest.approx(5 / 8 * 100)
    assert (table["overall"].strict.num_samples, table["overall"].strict.sum_scores) == (3, 1)


def test_with_cycles_missing_the_two_differ_and_it_is_said() -> None:
    overall = aggregate_cycles(rotations("11--", "1100"))["overall"]
    assert overall.official == pytest.approx(50)
    assert overall.rows.percent == pytest.approx(4 / 6 * 100)
    assert (overall.num_incomplete, overall.strict.num_samples) == (1, 1)


def test_a_sample_without_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="no cycle"):
        aggregate_cycles([Scored("single", 1.0)])


def test_mme_columns_are_those_of_the_paper_and_overall_is_micro() -> None:
    scored = [Scored("Perception/Remote Sensing", 1.0)] * 3 + [Scored("Reasoning/Autonomous_Driving", 0.0)]
    table = aggregate_mme(scored)
    assert list(table) == ["Overall", "Perception RS", "Reasoning AD", "Perception", "Reasoning"]
    assert table["Overall"].percent == 75
    assert table["Perception"].percent == 100


def test_without_samples_there_is_no_share() -> None:
    assert aggregate_mme([])["Overall"].percent is None
    assert aggregate_cycles([])["overall"].official is None
    assert make_release_table([]) == {"overall": {"accuracy": 0.0}}


def test_a_category_without_counted_boxes_has_nan_as_in_the_release() -> None:
    table = make_release_table([Scored("a", 1.0, num_boxes=2), Scored("b", 1.0)])
    assert table["overall"]["bbox_count"] == 2 and math.isnan(table["b"]["bbox_count"])
