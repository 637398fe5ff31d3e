"""Counting how boxes miss: which axes are wrong, and whether their numbers have too few digits."""

from __future__ import annotations

import pytest

from p2r.errors import ConfigError
from p2r.types import Box
from recipes.nano.misses import (
    Counts,
    compare_digits,
    count_misses,
    find_wrong_axes,
    list_figures,
    main,
    tabulate_counts,
)

GOLD = Box(x1=220, y1=605, x2=360, y2=745)
LOW = Box(x1=40, y1=500, x2=180, y2=640)


def write(*boxes: tuple[float, ...]) -> str:
    return "[" + ", ".join(f'{{"bbox_2d": {list(box)}, "label": "red star"}}' for box in boxes) + "]"


def count(reply: str, *gold: Box) -> Counts:
    return count_misses([reply], [gold])


def test_box_within_the_tolerance_is_found() -> None:
    counts = count(write((310, 515, 450, 655)), GOLD)  # 90 off along both axes
    assert counts.outcomes == ("found",)
    assert counts.wrong_axes == ()


def test_box_beyond_the_tolerance_is_a_miss_in_either_direction() -> None:
    assert find_wrong_axes((311, 605, 451, 745), GOLD.xyxy) == [(311, 220)]
    assert find_wrong_axes((220, 514, 360, 654), GOLD.xyxy) == [(514, 605)]


def test_dropped_digit_is_fewer_digits_and_only_its_axis_is_wrong() -> None:
    counts = count(write((20, 605, 160, 745)), GOLD)
    assert counts.outcomes == ("fewer digits",)
    assert counts.wrong_axes == ((20, 220),)


def test_number_that_should_be_short_is_more_digits() -> None:
    assert count(write((152, 500, 292, 640)), LOW).outcomes == ("more digits",)


def test_wrong_place_of_the_right_length_is_as_many_digits() -> None:
    assert count(write((520, 605, 660, 745)), GOLD).outcomes == ("as many digits",)


def test_with_two_wrong_axes_fewer_digits_name_the_miss() -> None:
    counts = count(write((520, 65, 660, 205)), GOLD)
    assert counts.outcomes == ("fewer digits",)
    assert counts.wrong_axes == ((520, 220), (65, 605))


def test_boxes_are_compared_in_order_and_those_beyond_the_gold_boxes_are_not() -> None:
    swapped = count(write(LOW.xyxy, GOLD.xyxy, (1, 1, 9, 9)), GOLD, LOW)
    assert swapped.outcomes == ("fewer digits", "more digits")
    assert swapped.num_written == 3


def test_unreadable_box_keeps_its_place() -> None:
    counts = count(write((5, 15, 15, 66, 661), LOW.xyxy), GOLD, LOW)
    assert counts.outcomes == ("no readable box", "found")
    assert (counts.num_written, counts.num_unreadable) == (2, 1)


def test_gold_box_without_a_written_one_has_no_readable_box() -> None:
    counts = count(write(GOLD.xyxy), GOLD, LOW)
    assert counts.outcomes == ("found", "no readable box")
    assert (counts.num_written, counts.num_unreadable) == (1, 0)


def test_numbers_are_not_clipped_and_a_reversed_box_still_counts() -> None:
    assert count(write((2205, 605, 2345, 745)), GOLD).outcomes == ("more digits",)
    assert count(write((360, 605, 220, 745)), GOLD).outcomes == ("found",)


@pytest.mark.parametrize(
    ("written", "gold", "miss"),
    [(99, 100, "fewer digits"), (100, 99, "more digits"), (100, 999, "as many digits"), (20.55, 35, "as many digits")],
)
def test_digits_are_those_before_the_point(written: float, gold: float, miss: str) -> None:
    assert compare_digits(written, gold) == miss


def test_figures_are_counts_with_what_they_are_a_share_of() -> None:
    replies = [write((20, 605, 160, 745)), write((60, 65, 200, 205)), write(LOW.xyxy), "nothing"]
    figures = list_figures(count_misses(replies, [[GOLD], [GOLD], [LOW], [LOW]]))
    assert figures["questions"] == (4, 0)
    assert figures["gold boxes"] == (4, 0)
    assert figures["compared with gold"] == (3, 0)
    assert figures["center off by > 90"] == (2, 3)
    assert figures["wrong axes, two a box"] == (3, 6)
    assert figures["axis: fewer digits"] == (3, 3)
    assert figures["fewer, same first digit"] == (2, 3)
    assert figures["box: found"] == (1, 4)
    assert figures["box: no readable box"] == (1, 4)


def test_label_is_right_where_the_box_lies_on_an_object_of_that_name() -> None:
    star, ring = (box.model_copy(update={"label": name}) for box, name in ((GOLD, "red star"), (LOW, "blue ring")))
    both = write(GOLD.xyxy, LOW.xyxy)  # each labeled as a red star
    figures = list_figures(count_misses([both, write((520, 65, 660, 205))], [[star, ring], [star]]))
    assert figures["on an object, its name"] == (1, 2)
    assert count(write((230, 605, 370, 745)), star).labels == (True,)  # its center is inside
    assert count(write(GOLD.xyxy), star, star.model_copy(update={"label": "blue ring"})).labels == (True,)
    assert count("nothing", star).labels == ()


def test_table_states_the_change_its_share_and_what_the_last_model_finds() -> None:
    gold = [[GOLD], [GOLD], [GOLD], [LOW]]
    dropped, elsewhere, right = write((20, 605, 160, 745)), write((520, 605, 660, 745)), write(GOLD.xyxy)
    longer = write((152, 500, 292, 640))
    before = count_misses([dropped, dropped, elsewhere, write(LOW.xyxy)], gold)
    after = count_misses([right, elsewhere, elsewhere, longer], gold)
    table = tabulate_counts(["one", "two"], [before, after])
    rows = {row[0]: row[1:] for row in table.rows}
    assert table.columns == ("", "one", "two", "change", "share", "now found")
    assert rows["wrong axes, two a box"] == ("3 (37.5%)", "3 (37.5%)", "+0", "-", "-")
    assert rows["axis: fewer digits"] == ("2 (66.7%)", "0 (0.0%)", "-2", "-", "-")  # no change to have a share of
    assert rows["box: fewer digits"] == ("2 (50.0%)", "0 (0.0%)", "-2", "-", "1 (50.0%)")
    assert rows["box: found"] == ("1 (25.0%)", "1 (25.0%)", "+0", "-", "0 (0.0%)")
    better = tabulate_counts(["one", "two"], [before, count_misses([right, right, elsewhere, longer], gold)])
    shares = {row[0]: row[4] for row in better.rows}
    assert shares["axis: fewer digits"] == "200%"
    assert shares["axis: more digits"] == "-100%"


def test_table_of_one_model_has_no_change() -> None:
    table = tabulate_counts(["nano"], [count(write(GOLD.xyxy), GOLD)])
    assert table.columns == ("", "nano")
    assert {len(row) for row in table.rows} == {2}


@pytest.mark.parametrize("given", [["--num-samples", "0"], ["--seed", "-1"], ["--seed", str(2**32)]])
def test_number_that_makes_no_questions_is_refused(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["misses.py", "--model", "never-loaded", *given])
    with pytest.raises(ConfigError, match="there are no"):
        main()
