"""Reading boxes out of replies, and how they fit the gold boxes."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2r.boxes import RELEASE, ROBUST, ParseRules, hits, iou, localize, mean_best_iou, parse_boxes, target_inside_crop
from p2r.errors import ConfigError
from p2r.types import Box, Frame

GOOD = '[{"bbox_2d": [10, 20, 30, 40], "label": "boat"}]'


def make_box(x1: float, y1: float, x2: float, y2: float, label: str = "") -> Box:
    return Box(x1=x1, y1=y1, x2=x2, y2=y2, label=label)


def corners(text: str, rules: ParseRules = ROBUST) -> list[tuple[float, float, float, float]]:
    return [box.xyxy for box in parse_boxes(text, rules=rules)[0]]


@pytest.mark.parametrize(
    "text",
    [GOOD, f"```json\n{GOOD}\n```", f"Here it is:\n```\n{GOOD}", f"<think>where?</think>\n{GOOD}", f"\ufeff{GOOD}\n"],
)
def test_json_is_read_strictly_also_in_a_code_block_or_after_thinking(text: str) -> None:
    boxes, parse = parse_boxes(text)
    assert boxes == (make_box(10, 20, 30, 40, "boat"),)
    assert parse.step == "strict"
    assert parse.reason == ""


@pytest.mark.parametrize(
    "text",
    [
        f"The evidence: {GOOD} as asked.",
        f"{GOOD}<|im_end|>",
        GOOD.replace('"', "'"),
        "[{bbox_2d: [10, 20, 30, 40], label: boat}]",
        '[{"bbox_2d": [10., 20., 30., 40.,], "label": "boat",},]',
        '[{"bbox_2d": [10 20 30 40], "label": "boat"}]',
        '[{"bbox_2d": [10, 20, 30, 40], "label": "boat"',
    ],
)
def test_broken_json_is_repaired(text: str) -> None:
    boxes, parse = parse_boxes(text)
    assert boxes == (make_box(10, 20, 30, 40, "boat"),)
    assert parse.step == "repaired"


def test_single_objects_are_salvaged_where_repair_fails() -> None:
    text = '[{\'bbox_2d": [10, 20, 30, 40], "label": "boat"}, {"bbox_2d": [50, 60, 70, 8'
    boxes, parse = parse_boxes(text)
    assert boxes == (make_box(10, 20, 30, 40, "boat"),)
    assert parse.step == "salvaged"
    assert parse.num_invalid == 1


def test_label_before_the_box_is_salvaged_too() -> None:
    text = '{"label": "boat", "bbox_2d": [10, 20, 30, 40]} {"label": "fish", "bbox_2d": [1, 2, 3, 4]}'
    boxes, parse = parse_boxes(text, rules=ParseRules(repair=False))
    assert [box.label for box in boxes] == ["boat", "fish"]
    assert parse.step == "salvaged"


@pytest.mark.parametrize("cut", range(len(GOOD)))
def test_cut_off_reply_never_gives_another_box(cut: int) -> None:
    assert corners(GOOD[:cut]) in ([], [(10, 20, 30, 40)])


@pytest.mark.parametrize("text", ['[{"bbox_2d": [0, 0, 5', '[{"bbox_2d": [0, 0, 50, 6', '[{"bbox_2d": [0, 0, 50, 60'])
def test_list_that_was_cut_off_is_no_box(text: str) -> None:
    boxes, parse = parse_boxes(text)
    assert boxes == ()
    assert (parse.step, parse.num_invalid) == ("none", 1)
    assert "no complete bbox_2d" in parse.reason


def test_percentages_are_no_corners() -> None:
    assert corners('[{"bbox_2d": [10%, 20%, 30%, 40%]}]') == []


def test_empty_list_is_a_strict_reply_without_boxes() -> None:
    boxes, parse = parse_boxes("[]")
    assert boxes == ()
    assert parse.step == "strict"
    assert "empty list" in parse.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("I cannot find it.", "names no box"),
        ("[1] see [2, 3, 4, 5]", "names no box"),
        ('{"answer": "B"}', "without bbox_2d"),
        ("42", "names no box"),
    ],
)
def test_reply_without_boxes_says_why(text: str, reason: str) -> None:
    boxes, parse = parse_boxes(text)
    assert boxes == ()
    assert parse.step == "none"
    assert reason in parse.reason


@pytest.mark.parametrize("rules", [ROBUST, RELEASE])
@pytest.mark.parametrize(
    "value",
    ["null", "{}", '"x"', "5", "[]", "[1, 2]", "[1, 2, 3, null]", "[NaN, 1, 2, 3]", "[0, 0, Infinity, 1]",
     "[0, 0, 1e999, 1]", "[3, 1, 2, 4]", "[1, 1, 1, 4]", "[1, 2, 3, 4, 5]", "[[1], 2, 3, 4]"],
)  # fmt: skip
def test_unusable_box_is_counted_with_a_reason(value: str, rules: ParseRules) -> None:
    boxes, parse = parse_boxes(f'[{{"bbox_2d": {value}, "label": "x"}}]', rules=rules)
    assert boxes == ()
    assert (parse.step, parse.num_invalid) == ("strict", 1)
    assert "the only box is not usable" in parse.reason


def test_unusable_box_leaves_the_others() -> None:
    boxes, parse = parse_boxes(f'[{{"bbox_2d": null}}, {GOOD[1:]}')
    assert (len(boxes), parse.num_invalid, parse.reason) == (1, 1, "")


def test_box_beyond_the_edge_is_clipped_and_counted() -> None:
    boxes, parse = parse_boxes('[{"bbox_2d": [-5, 990, 20, 1020]}]')
    assert boxes[0].xyxy == (0, 990, 20, 1000)
    assert parse.num_clipped == 1


@pytest.mark.parametrize(
    ("box", "frame", "guess"),
    [
        ([0.1, 0.2, 0.3, 0.4], "per_mille", "unit"),
        ([0, 0, 1, 1], "per_mille", "unit"),
        ([0, 0, 1.02, 1], "per_mille", "unit"),
        ([512, 384, 1400, 768], "per_mille", "pixels"),
        ([512, 384, 1021, 768], "per_mille", "pixels"),
        ([512, 384, 600, 1021], "per_mille", "pixels"),
        ([1200, 800, 1600, 1100], "per_mille", "pixels"),
        ([0.1, 0.2, 0.3, 0.4], "pixels", "unit"),
        ([500, 400, 900, 600], "pixels", "per_mille"),
        ([50, 400, 90, 600], "pixels", "per_mille"),
        ([500, 400, 1900, 600], "pixels", None),
        ([100, 200, 300, 400], "unit", "per_mille"),
        ([100, 200, 1300, 400], "unit", "pixels"),
    ],
)
def test_box_of_another_frame_is_left_out_and_counted(box: list[float], frame: Frame, guess: Frame | None) -> None:
    boxes, parse = parse_boxes(json.dumps([{"bbox_2d": box}]), frame=frame, image_wh=(640, 480))
    assert boxes == ()
    assert (parse.num_other_frame, parse.num_invalid, parse.num_clipped) == (1, 0, 0)
    assert parse.other_frame == guess
    assert parse.reason == f"the only box is not usable; it {parse.faults[0]}"
    assert "is not written in" in parse.reason


@pytest.mark.parametrize(
    ("box", "frame", "kept"),
    [
        ([900, 200, 1020, 400], "per_mille", (900, 200, 1000, 400)),
        ([0, 0, 1, 2], "per_mille", (0, 0, 1, 2)),
        ([0, 0, 1.5, 1.5], "per_mille", (0, 0, 1.5, 1.5)),
        ([-20, 200, 500, 400], "per_mille", (0, 200, 500, 400)),
        ([320, 240, 652, 489], "pixels", (500, 500, 1000, 1000)),
        ([0.5, 0.5, 1.02, 1.01], "unit", (500, 500, 1000, 1000)),
    ],
)
def test_a_slip_is_clipped_in_every_frame(box: list[float], frame: Frame, kept: tuple[float, ...]) -> None:
    boxes, parse = parse_boxes(json.dumps([{"bbox_2d": box}]), frame=frame, image_wh=(640, 480))
    assert boxes[0].xyxy == kept
    assert (parse.num_other_frame, parse.num_clipped) == (0, int(max(box) not in (2, 1.5)))


def test_boxes_of_other_frames_leave_those_of_this_one() -> None:
    reply = [{"bbox_2d": box} for box in ([0.1, 0.2, 0.3, 0.4], [100, 200, 300, 400], [100, 200, 1300, 400])]
    boxes, parse = parse_boxes(json.dumps(reply))
    assert [box.xyxy for box in boxes] == [(100, 200, 300, 400)]
    assert (parse.num_other_frame, parse.other_frame, parse.reason) == (2, None, "")
    assert len(parse.faults) == 2


def test_box_far_beyond_the_left_edge_is_unusable() -> None:
    boxes, parse = parse_boxes('[{"bbox_2d": [-21, 200, 300, 400]}]')
    assert boxes == ()
    assert (parse.num_invalid, parse.num_other_frame) == (1, 0)
    assert "beyond the image" in parse.reason


def test_the_first_faults_are_kept() -> None:
    boxes, parse = parse_boxes(json.dumps([{"bbox_2d": [0, 0, 5, 5]}] * 10 + [{"bbox_2d": None}]))
    assert len(boxes) == 1
    assert (parse.num_duplicates, parse.num_invalid, len(parse.faults)) == (9, 1, 8)
    assert parse.faults[0] == "is equal to an earlier one: [0.0, 0.0, 5.0, 5.0]"


def test_release_rules_know_no_other_frame() -> None:
    boxes, parse = parse_boxes('[{"bbox_2d": [0.1, 0.2, 0.3, 0.4]}, {"bbox_2d": [100, 200, 1300, 400]}]', rules=RELEASE)
    assert (len(boxes), parse.num_other_frame) == (2, 0)


def test_box_outside_the_image_is_unusable() -> None:
    boxes, parse = parse_boxes('[{"bbox_2d": [1001, 10, 1015, 20]}]')
    assert boxes == ()
    assert (parse.num_invalid, parse.num_clipped) == (1, 0)
    assert "outside" in parse.reason


def test_equal_boxes_are_kept_once_and_counted() -> None:
    boxes, parse = parse_boxes('[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"bbox_2d": [1.0, 2, 3, 4], "label": "b"}]')
    assert [box.label for box in boxes] == ["a"]
    assert parse.num_duplicates == 1


def test_boxes_over_the_cap_are_counted() -> None:
    text = json.dumps([{"bbox_2d": [i, 0, i + 1, 2]} for i in range(100)])
    boxes, parse = parse_boxes(text)
    assert (len(boxes), parse.num_over_cap) == (64, 36)


def test_release_rules_keep_duplicates_and_boxes_beyond_the_edge() -> None:
    text = json.dumps([{"bbox_2d": [900, 900, 1100, 1200]}] * 70)
    boxes, parse = parse_boxes(text, rules=RELEASE)
    assert len(boxes) == 70
    assert boxes[0].xyxy == (900, 900, 1100, 1200)
    assert (parse.num_clipped, parse.num_duplicates, parse.num_over_cap) == (0, 0, 0)


def test_release_rules_look_into_no_outer_object_of_json_but_into_that_of_prose() -> None:
    nested = '{"result": {"bbox_2d": [10, 20, 30, 40]}}'
    assert corners(nested, RELEASE) == []
    assert corners(f"see {nested}", RELEASE) == [(10, 20, 30, 40)]
    assert corners(nested) == [(10, 20, 30, 40)]


def test_release_rules_lose_a_label_with_a_brace_in_prose() -> None:
    text = 'see {"bbox_2d": [10, 20, 30, 40], "label": "a } b"}'
    assert corners(text, RELEASE) == []
    assert corners(text) == [(10, 20, 30, 40)]


def test_release_rules_take_true_for_a_number_and_robust_ones_do_not() -> None:
    text = '[{"bbox_2d": [true, true, 5, 6]}]'
    assert corners(text, RELEASE) == [(1, 1, 5, 6)]
    assert corners(text) == []


@pytest.mark.parametrize(
    ("label", "text"), [("5", "5"), ("null", ""), ("true", "true"), ('["a"]', '["a"]'), ('"\\ud800"', "?")]
)
def test_label_becomes_text(label: str, text: str) -> None:
    assert parse_boxes(f'[{{"bbox_2d": [1, 2, 3, 4], "label": {label}}}]')[0][0].label == text


def test_box_considered_while_thinking_is_not_chosen() -> None:
    assert corners(f'<think>maybe {{"bbox_2d": [1, 1, 2, 2]}}</think>{GOOD}') == [(10, 20, 30, 40)]
    assert parse_boxes(f"<think>maybe {GOOD}</think>[]")[1].step == "strict"


def test_markup_in_a_label_is_a_label() -> None:
    assert parse_boxes('[{"bbox_2d": [1, 2, 3, 4], "label": "</think>"}]')[0][0].label == "</think>"


def test_pixel_frame_is_divided_by_the_resized_image() -> None:
    boxes, parse = parse_boxes('[{"bbox_2d": [64, 48, 640, 480]}]', frame="pixels", image_wh=(640, 480))
    assert boxes[0].xyxy == (100, 100, 1000, 1000)
    assert parse.num_clipped == 0


def test_unit_frame_is_multiplied() -> None:
    assert parse_boxes('[{"bbox_2d": [0.25, 0.5, 1, 1.0]}]', frame="unit")[0][0].xyxy == (250, 500, 1000, 1000)


@pytest.mark.parametrize("image_wh", [None, (0, 10)])
def test_pixel_frame_without_a_size_is_refused(image_wh: tuple[int, int] | None) -> None:
    with pytest.raises(ConfigError, match="image_wh"):
        parse_boxes(GOOD, frame="pixels", image_wh=image_wh)


@pytest.mark.parametrize("rules", [ROBUST, RELEASE])
@pytest.mark.parametrize(
    "loop",
    ['{"bbox_2d": [1, 2, 30, 40], "label": "x"}, ', '[{"bbox_2d": [1, 2, 30, 4, 5, ', "{", "[", '"label": "',
     "bbox_2d: [1 ", "```", "bbox_2d: [1" + " " * 5000,
     "<box>", "<|box_start|>(", "(1, 2), ", "x1: 1, y1: ", "[1, 2, 3, 4] wait ", "[1, ", "“a”:"],
)  # fmt: skip
def test_looping_megabyte_is_read_in_seconds(loop: str, rules: ParseRules) -> None:
    started = time.process_time()
    boxes, _ = parse_boxes("[" + loop * (1_000_000 // len(loop)), rules=rules)
    assert time.process_time() - started < 20
    assert rules is RELEASE or len(boxes) <= 1


numbers = st.one_of(st.integers(0, 1000), st.floats(0, 1000))
labels = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
spans = st.lists(numbers, min_size=2, max_size=2, unique=True).map(sorted)
plain_boxes = st.builds(
    lambda across, down, label: Box(x1=across[0], y1=down[0], x2=across[1], y2=down[1], label=label),
    spans,
    spans,
    labels,
)


@given(st.lists(plain_boxes, max_size=8, unique_by=lambda box: box.xyxy), st.sampled_from([None, 1, 4]), st.booleans())
def test_serialized_boxes_come_back(boxes: list[Box], indent: int | None, ensure_ascii: bool) -> None:
    reply = [{"bbox_2d": list(box.xyxy), "label": box.label} for box in boxes]
    text = json.dumps(reply, indent=indent, ensure_ascii=ensure_ascii)
    for rules in (ROBUST, RELEASE):
        assert parse_boxes(text, rules=rules)[0] == tuple(boxes)


@given(st.lists(plain_boxes, min_size=1, max_size=8, unique_by=lambda box: box.xyxy), st.data())
def test_cut_anywhere_only_boxes_that_were_there_are_read(boxes: list[Box], data: st.DataObject) -> None:
    text = json.dumps([{"bbox_2d": list(box.xyxy), "label": "x"} for box in boxes])
    cut = data.draw(st.integers(0, len(text)))
    assert set(corners(text[:cut])) <= {box.xyxy for box in boxes}


fragments = st.sampled_from(
    [
        '{"bbox_2d": ',
        "[1, 2, 3, 4]",
        "[1, 2",
        '"label": "',
        '"',
        "'",
        "{",
        "}",
        "[",
        "]",
        ",",
        "```",
        "</think>",
        "\\",
        "NaN",
    ]
)


@given(st.one_of(st.text(), st.lists(st.one_of(fragments, st.text(max_size=5)), max_size=30).map("".join)))
def test_no_text_makes_parsing_fail(text: str) -> None:
    for rules in (ROBUST, RELEASE):
        boxes, parse = parse_boxes(text, rules=rules)
        assert not boxes or parse.step != "none"
        assert boxes or parse.reason


def test_iou_of_equal_disjoint_and_half_covered_boxes() -> None:
    box = make_box(0, 0, 10, 10)
    assert iou(box, box) == 1
    assert iou(box, make_box(10, 0, 20, 10)) == 0
    assert iou(box, make_box(0, 0, 10, 5)) == 0.5


def test_hit_is_a_center_inside_or_on_the_edge() -> None:
    gold = [make_box(0, 0, 10, 10)]
    assert hits([make_box(5, 5, 15, 15)], gold)
    assert not hits([make_box(6, 5, 15, 15)], gold)


def test_localization_without_boxes_or_gold_is_all_zero() -> None:
    for boxes, gold in (([], [make_box(0, 0, 1, 1)]), ([make_box(0, 0, 1, 1)], []), ([], [])):
        found = localize(boxes, gold)
        assert not found.hit_any
        assert not found.hit_all
        assert found.hit_share_of_gold == found.mean_iou_of_boxes == found.best_iou == mean_best_iou(boxes, gold) == 0


def test_target_lies_inside_a_crop_when_no_side_reaches_out() -> None:
    gold = make_box(100, 100, 200, 200)
    assert target_inside_crop(gold, [(0, 0, 10, 10), (100, 50, 200, 200)], (1000, 1000))
    assert not target_inside_crop(gold, [(120, 50, 300, 300)], (1000, 1000))
    assert not target_inside_crop(gold, [], (1000, 1000))
