"""Four numbers in whatever wrapping."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2r.boxes import RELEASE, parse_boxes
from p2r.boxes.values import CUT_OFF, find_lists, join_groups, named_corners, read_text, read_value, to_number

A, B = (100.0, 200.0, 300.0, 400.0), (510.0, 620.0, 730.0, 840.0)


@pytest.mark.parametrize(
    "value",
    [
        [100, 200, 300, 400],
        ["100", " 200 ", "300", "4e2"],
        [100, 200, 300, 400, 0.5],
        [100, 200, 300, 400, 0],
        [100, 200, 300, 400, 1],
        [100, 200, 300, 400, "boat"],
        [[100, 200], [300, 400]],
        [[100, 200, 300, 400]],
        ["100, 200, 300, 400"],
        "100, 200, 300, 400",
        "100 200 300 400",
        "[[100, 200], [300, 400]]",
        "(100, 200) to (300, 400)",
        "x1=100, y1=200, x2=300, y2=400",
        {"x1": 100, "y1": 200, "x2": 300, "y2": 400},
        {"Y2": 400, "X2": 300, "Y1": 200, "X1": "100"},
        {"x_min": 100, "y_min": 200, "x_max": 300, "y_max": 400},
        {"left": 100, "top": 200, "right": 300, "bottom": 400},
        {"x0": 100, "y0": 200, "x1": 300, "y1": 400},
        {"top_left": [100, 200], "bottom_right": [300, 400]},
    ],
)
def test_value_is_one_box(value: object) -> None:
    assert read_value(value) == [A]


@pytest.mark.parametrize(
    "value",
    [
        [[100, 200, 300, 400], [510, 620, 730, 840]],
        [[[100, 200], [300, 400]], [[510, 620], [730, 840]]],
        [[100, 200, 300, 400], {"x1": 510, "y1": 620, "x2": 730, "y2": 840}],
        ["[100, 200, 300, 400]", "[510, 620, 730, 840]"],
        "[[100, 200, 300, 400], [510, 620, 730, 840]]",
        "[[[100, 200], [300, 400]], [[510, 620], [730, 840]]]",
    ],
)
def test_value_is_two_boxes(value: object) -> None:
    assert read_value(value) == [A, B]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "null"),
        ([], "has 0 numbers"),
        ([1, 2, 3], "has 3 numbers"),
        ([1, 2, 3, 4, 5], "has 5 numbers"),
        ([1, 2, 3, 4, -0.5], "has 5 numbers"),
        ([1, 2, 3, 4, 0.5, 0.5], "has 6 numbers"),
        ([1, 2, 3, None], "not a finite number"),
        ([1, 2, 3, True], "not a finite number"),
        ([1, 2, 3, [4]], "not a finite number"),
        ([1, 2, 3, 10**400], "not a finite number"),
        (["a", "b", "c", "d"], "no list of numbers"),
        ([[1, 2], [3, 4], [5, 6]], "has 3 points"),
        ([[1, 2]], "has 1 point"),
        ("12", "has 1 number"),
        ("[1, 2], [3, 4], [5, 6], [7, 8]", "has 4 points"),
        ("(1, 2)", "is a point"),
        ("10%, 20%, 30%, 40%", CUT_OFF),
        ("top left", "no list of numbers"),
        ({"x": 1, "y": 2, "w": 3, "h": 4}, "no list of numbers"),
        ({"x1": 1, "y1": 2, "x2": 3}, "no list of numbers"),
        ({"x1": 1, "y1": 2, "x2": 3, "y2": 10**400}, "not a finite number"),
        (5, "no list of numbers"),
    ],
)
def test_value_that_is_no_box_has_a_fault(value: object, fault: str) -> None:
    read = read_value(value)
    assert read and all(isinstance(corners, str) for corners in read)
    assert fault in str(read[0])


def test_names_of_corners_are_not_mixed() -> None:
    assert named_corners({"x1": 1, "ymin": 2, "x2": 3, "ymax": 4}) is None
    assert named_corners({"x1": 1, "y1": 2, "x2": 3, "y2": 4, "x0": 0, "y0": 0}) == [1, 2, 3, 4]


def test_a_number_is_a_number_also_as_text() -> None:
    assert [to_number(item) for item in (1, 2.5, "3", "+4.", "-.5")] == [1, 2.5, 3, 4, -0.5]
    assert [to_number(item) for item in (True, None, "3a", "", "1,2", [1])] == [None] * 6


def test_text_of_a_value_is_complete_whatever_it_ends_with() -> None:
    assert read_text("1, 2, 3, 4") == [(1, 2, 3, 4)]
    assert read_text("1, 2, 3, 4%") == [CUT_OFF]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[1, 2, 3, 4]", [(1, 2, 3, 4)]),
        ("(1, 2, 3, 4) and (5, 6, 7, 8)", [(1, 2, 3, 4), (5, 6, 7, 8)]),
        ("1, 2, 3, 4]", [(1, 2, 3, 4)]),
        ("<box>1 2 3 4</box>", [(1, 2, 3, 4)]),
        ("[1, 2, 3, 4] [5, 6", [(1, 2, 3, 4), CUT_OFF]),
        ("[1, 2, 3, 4", [CUT_OFF]),
        ("[1, 2, 3, 4] see [5]", []),
        ("see 1, 2, 3, 4]", []),
        ("[1, 2, 3, 4 and so on", []),
        ("1, 2, 3, 4", [CUT_OFF]),
        ("12", []),
        ("[1, 2, 3px, 4]", [CUT_OFF]),
    ],
)
def test_lists_of_a_text_are_boxes_if_all_of_them_are(text: str, found: list[object]) -> None:
    assert [corners for corners, _ in find_lists(text)] == found


def test_two_points_are_joined_only_side_by_side() -> None:
    assert [corners for corners, _ in find_lists("(1, 2), (3, 4)")] == [(1, 2, 3, 4)]
    assert find_lists("(1, 2)), ((3, 4)") == find_lists("(1, 2) is left of (3, 4)") == []
    assert join_groups("", []) == []


numbers = st.integers(0, 998)
boxes = st.tuples(numbers, numbers).map(lambda start: (start[0], start[1], start[0] + 1, start[1] + 2))
wrappings = st.sampled_from(
    [
        lambda box: json.dumps({"bbox": list(box)}),
        lambda box: json.dumps([list(box)]),
        lambda box: json.dumps({"bounding_box": f"{box}"}),
        lambda box: json.dumps({"bbox_2d": [list(box[:2]), list(box[2:])]}),
        lambda box: json.dumps(dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))),
        lambda box: json.dumps({"bbox_2d": [*box, 0.9]}),
        lambda box: f"<|box_start|>({box[0]},{box[1]}),({box[2]},{box[3]})<|box_end|>",
        lambda box: f"boat: {list(box)}",
        lambda box: f'[{{"bbox_2d": {str(list(box))[:-1]}, "label": "boat"}}]',
        lambda box: f"［{'，'.join(map(str, box))}］",
    ]
)


@given(boxes, wrappings, st.data())
def test_every_wrapping_gives_the_box_and_cut_anywhere_no_other(
    box: tuple[int, int, int, int], wrap: object, data: st.DataObject
) -> None:
    assert callable(wrap)
    text = str(wrap(box))
    if max(box) > 1:
        assert [found.xyxy for found in parse_boxes(text)[0]] == [box]
    cut = text[: data.draw(st.integers(0, len(text)))]
    assert {found.xyxy for found in parse_boxes(cut)[0]} <= {box}


def test_release_rules_read_no_other_wrapping() -> None:
    for text in ('{"bbox": [1, 2, 3, 4]}', "[1, 2, 3, 4]", '{"bbox_2d": [[1, 2, 3, 4]]}', '{"bbox_2d": "1, 2, 3, 4"}'):
        assert parse_boxes(text, rules=RELEASE)[0] == ()
