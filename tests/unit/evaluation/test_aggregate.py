"""Official aggregation: cycles, columns, micro averages."""

from __future__ import annotations

import pytest

from p2r.evaluation.aggregate import Scored, aggregate, aggregate_cycles, group_columns


def rotations(*scores: str) -> list[Scored]:
    """A question for each text, a cycle for each digit; a dash is a cycle that is missing."""
    return [
        Scored(float(digit), cluster=str(number), cycle=cycle)
        for number, digits in enumerate(scores)
        for cycle, digit in enumerate(digits)
        if digit != "-"
    ]


def test_with_whole_cycles_the_official_score_is_the_mean_over_rows() -> None:
    table = aggregate_cycles(rotations("1111", "1010", "0001"))
    assert table.official == pytest.approx(7 / 12)
    assert table.rows.share == pytest.approx(7 / 12)
    assert (table.strict.num_samples, table.strict.sum_scores) == (3, 1)


def test_with_cycles_missing_the_two_differ_and_it_is_said() -> None:
    scored = rotations("11--", "1100")
    table = aggregate_cycles(scored)
    assert table.official == aggregate(scored, "cycles") == pytest.approx(0.5)
    assert table.rows.share == aggregate(scored, "categories") == pytest.approx(4 / 6)
    assert (table.num_incomplete, table.strict.num_samples) == (1, 1)


def test_a_sample_without_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="no cycle"):
        aggregate([Scored(1.0)], "cycles")


def test_mme_columns_are_those_of_the_paper() -> None:
    names = ["Reasoning/Autonomous_Driving", *["Perception/Remote Sensing"] * 3]
    columns = group_columns(names, lambda name: name, "mme")
    assert {name: len(items) for name, items in columns.items()} == {
        "Overall": 4,
        "Perception RS": 3,
        "Reasoning AD": 1,
        "Perception": 3,
        "Reasoning": 1,
    }
    assert list(columns)[1:3] == ["Perception RS", "Reasoning AD"]


def test_categories_are_columns_by_name_where_there_are_several() -> None:
    assert list(group_columns(["b", "a", ""], lambda name: name, "categories")) == ["overall", "a", "b"]
    assert list(group_columns(["a", "a", ""], lambda name: name, "cycles")) == ["overall"]


def test_without_samples_there_is_no_score() -> None:
    assert aggregate([], "mme") is None
    assert aggregate([], "cycles") is None
    assert group_columns(list[str](), str, "mme") == {"Overall": []}
