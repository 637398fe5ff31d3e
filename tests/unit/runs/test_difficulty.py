"""How hard rows are: kinds by right answers, and the histogram in text."""

from __future__ import annotations

import pytest

from p2r.runs.difficulty import (
    CHUNK,
    Kind,
    RowDifficulty,
    count_kinds,
    count_right,
    describe_kinds,
    draw_histogram,
    is_told,
)


def make(num_right: int, num_wrong: int, num_rollouts: int = 4) -> RowDifficulty:
    return RowDifficulty(
        id="r",
        num_judged=num_right + num_wrong,
        mean=None,
        variance=None,
        num_rollouts=num_rollouts,
        num_right=num_right,
        num_wrong=num_wrong,
    )


@pytest.mark.parametrize(
    ("num_right", "num_wrong", "num_rollouts", "kind"),
    [
        (4, 0, 4, "easy"),
        (3, 1, 4, "medium"),
        (1, 3, 4, "medium"),
        (0, 4, 4, "hard"),
        (0, 0, 4, "unjudged"),  # all failed: nobody knows whether it is hard
        (0, 0, 0, "unjudged"),  # its image failed
        (0, 3, 4, "unjudged"),  # the one that failed may have been right
        (3, 0, 4, "unjudged"),  # or wrong
        (1, 1, 4, "medium"),  # whatever the failed ones would have been
        (1, 2, 8, "medium"),
    ],
)
def test_a_row_is_of_a_kind_when_that_is_certain(num_right: int, num_wrong: int, num_rollouts: int, kind: Kind) -> None:
    assert make(num_right, num_wrong, num_rollouts).kind == kind


def test_a_measurement_of_an_older_version_is_read_and_claims_no_kind() -> None:
    old = RowDifficulty.model_validate_json('{"id": "a", "num_judged": 4, "mean": 0.0, "variance": 0.0}')
    assert old.kind == "unjudged" and not old.is_alive


@pytest.mark.parametrize(
    ("total", "told"), [(5, [5]), (640, [*range(64, 641, 64)]), (1000, [128, 256, 384, 512, 640, 768, 896, 1000])]
)
def test_progress_is_told_in_about_ten_lines(total: int, told: list[int]) -> None:
    assert [done for done in [*range(CHUNK, total, CHUNK), total] if is_told(done, total)] == told


def test_kinds_are_counted_and_said() -> None:
    rows = [make(4, 0), make(2, 2), make(1, 3), make(0, 4)]
    assert count_kinds(rows) == {"easy": 1, "medium": 2, "hard": 1, "unjudged": 0}
    assert describe_kinds(count_kinds(rows)) == "1 easy, 2 medium, 1 hard"
    assert describe_kinds(count_kinds([*rows, make(0, 0)])) == "1 easy, 2 medium, 1 hard, 1 unjudged"
    assert describe_kinds({"easy": 1200, "medium": 0, "hard": 0, "unjudged": 0}) == "1,200 easy, 0 medium, 0 hard"


def test_rows_are_counted_by_their_right_answers() -> None:
    rows = [make(4, 0), make(1, 3), make(1, 1), make(0, 4), make(3, 0), make(0, 0)]
    assert count_right(rows, 4) == [1, 2, 0, 0, 1]  # those that are not certain are not among them


def test_the_histogram_has_numbers_shares_and_bars() -> None:
    rows = [*[make(0, 4)] * 8, make(1, 3), *[make(2, 2)] * 4, make(4, 0)]
    assert list(draw_histogram(rows, 4)) == [
        "right of 4  rows   share",
        "         0     8   57.1%  ########################################",
        "         1     1    7.1%  #####",
        "         2     4   28.6%  ####################",
        "         3     0    0.0%",
        "         4     1    7.1%  #####",
    ]


def test_few_rows_among_many_have_a_bar_and_those_that_failed_a_line() -> None:
    rows = [*[make(0, 2, 2)] * 1999, make(2, 0, 2), make(0, 0, 2)]
    assert list(draw_histogram(rows, 2)) == [
        "right of 2   rows   share",
        "         0  1,999   99.9%  ########################################",
        "         1      0    0.0%",
        "         2      1    0.0%  #",
        "  unjudged      1    0.0%  #",
    ]


def test_a_histogram_of_failures_alone_is_drawn() -> None:
    assert list(draw_histogram([make(0, 0, 2)], 2))[-1].startswith("  unjudged     1  100.0%  ###")
