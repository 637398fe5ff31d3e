"""What stands around a reply, and which of several boxes a reply means."""

from __future__ import annotations

import pytest

from p2r.boxes import RELEASE, parse_boxes
from p2r.boxes.wrapping import after_thinking, is_correction, load_json, load_unwrapped, straighten, unescape

FIRST, LAST = '{"bbox_2d": [1, 2, 30, 40], "label": "a"}', '{"bbox_2d": [100, 200, 300, 400], "label": "b"}'


@pytest.mark.parametrize(
    "words",
    [
        "Wait, correct:", "Wait, that is the wrong one.", "Correction:", "Sorry,", "No, it is", "It should be",
        "Refined box:", "The final box is:", "Let me correct this.", "More precisely,", "Scratch that:",
        "(too large) revised:", "更正：", "不对，应该是", "oops",
    ],
)  # fmt: skip
def test_a_correction_takes_back_what_was_before(words: str) -> None:
    boxes, parse = parse_boxes(f"First guess: {FIRST}. {words} {LAST}")
    assert [box.label for box in boxes] == ["b"]
    assert (parse.num_revised, parse.num_invalid) == (1, 0)
    assert parse.faults == ("was corrected by a later one",)


@pytest.mark.parametrize(
    "words",
    [
        "And", "Wait, there is another one:", "Actually, there is also", "The second:", "Next, corrected for size:",
        "还有：", "A label that says \"wait\":", "Note that there is nobody here:", "The corrector:",
    ],
)  # fmt: skip
def test_a_further_box_takes_nothing_back(words: str) -> None:
    boxes, parse = parse_boxes(f"First: {FIRST}. {words} {LAST}")
    assert [box.label for box in boxes] == ["a", "b"]
    assert parse.num_revised == 0


def test_only_the_last_correction_counts() -> None:
    text = f"{FIRST} Wait: {FIRST.replace('1,', '3,')} Sorry: {LAST} {LAST.replace('400', '401')}"
    boxes, parse = parse_boxes(text)
    assert [box.xyxy for box in boxes] == [(100, 200, 300, 400), (100, 200, 300, 401)]
    assert parse.num_revised == 2


def test_one_json_value_revises_nothing() -> None:
    boxes, parse = parse_boxes(f"[{FIRST}, {LAST.replace('b', 'wait', 1)}]".replace("waitbox", "bbox"))
    assert (len(boxes), parse.num_revised) == (2, 0)
    assert parse_boxes(f"{FIRST} Wait: {LAST}", rules=RELEASE)[1].num_revised == 0


def test_words_between_boxes_correct_but_quoted_ones_do_not() -> None:
    assert is_correction("no: ") and not is_correction('"no: "')
    assert not is_correction("nobody ") and not is_correction("a corrector ")
    assert is_correction("final box:") and not is_correction("final box ")


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a", "a"),
        ("<think>a</think>b", "b"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>a</think> \n", "<think>a \n"),
        ("<think>a", ""),
        ("b<think>a", "b"),
        ("<think>a</think>b<think>c", "b"),
        ("<think>[1]", "<think>[1]"),
        ("<think>1", ""),
    ],
)
def test_what_follows_the_last_thought_counts(text: str, rest: str) -> None:
    assert after_thinking(text) == rest


def test_a_reply_that_ends_within_a_thought_says_so() -> None:
    boxes, parse = parse_boxes(f"<think>Perhaps {LAST}")
    assert boxes == ()
    assert (parse.step, parse.reason) == ("none", "the reply ends within a thought")


def test_a_reply_that_a_server_took_for_a_thought_is_read() -> None:
    assert [box.label for box in parse_boxes(f"<think>[{LAST}]")[0]] == ["b"]


def test_json_in_json_is_loaded_once_more() -> None:
    assert load_json('"[1]"') == [1]
    assert load_json('"[1"') == "[1"
    assert load_json('"text"') == "text"
    assert load_json('"[1]"', literal=True) == "[1]"
    assert load_json("[1") is None


def test_only_a_single_code_block_is_the_reply() -> None:
    assert load_unwrapped("see ```json\n[1]\n``` there") == [1]
    assert load_unwrapped("```\n[1]\n``` and ```\n[2]\n```") is None


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('{\\"a\\": \\"b\\"}', '{"a": "b"}'),
        ('{"a": "say \\"b\\" now"}', '{"a": "say \\"b\\" now"}'),
        ("{“a”: “b”}", '{"a": "b"}'),
        ('{"a": "say “b” now"}', '{"a": "say “b” now"}'),
        ("bbox\\_2d", "bbox_2d"),
        ("[{\\n\\\"a\\\": 1}]", '[{\n"a": 1}]'),
    ],
)  # fmt: skip
def test_quotation_marks_of_keys_are_made_plain(text: str, plain: str) -> None:
    assert unescape(text) == plain


def test_full_width_characters_are_made_plain_one_by_one() -> None:
    wide = "［｛“ｂ”：（１２，３．５）｝］、"
    assert straighten(wide) == '[{"ｂ":(12,3.5)}],'
    assert len(straighten(wide)) == len(wide)
