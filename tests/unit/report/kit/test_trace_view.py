"""A trace in words."""

from __future__ import annotations

import pytest

from p2r.report.kit.trace_view import find_strange_labels, view_boxes, view_reply
from p2r.types import Answer, EvidenceRecord
from tests.fakes.reports import ELSEWHERE, GOLD, make_sample, make_trace


def test_of_a_reply_that_is_too_long_the_answer_stays() -> None:
    trace = make_trace(make_sample("a"), letter=None, reply="so " * 1000 + "<answer>A</answer>" + " well" * 1000)
    start = 3000 + len("<answer>")
    answered = trace.model_copy(update={"answer": Answer(text="A", letter="A", span=(start, start + 1))})
    reply = view_reply(answered, max_chars=200)
    assert reply.span == "A"
    assert reply.before.endswith("<answer>") and reply.after.startswith("</answer>")
    assert "characters left out" in reply.before
    assert len(reply.before) < 260


def test_boxes_have_the_crops_that_the_record_says_they_became() -> None:
    rect = (0, 0, 10, 10)
    record = EvidenceRecord(image_wh=(640, 480), crops=(rect, rect), skipped=(1,), annotated=True)
    boxes = view_boxes([GOLD, ELSEWHERE, GOLD, ELSEWHERE], record)
    assert [box.crop for box in boxes] == [1, None, 2, None]
    assert [box.color for box in boxes] == ["red", "green", "blue", "yellow"]
    assert boxes[0].corners_px == (64, 48, 192, 144)


def test_without_a_record_nothing_is_known_in_pixels() -> None:
    [box] = view_boxes([GOLD], None)
    assert (box.corners_px, box.crop) == (None, None)


@pytest.mark.parametrize(
    ("label", "question", "is_strange"),
    [
        ("red star", "What pattern is on the red star?", False),
        ("The Red Stars", "What pattern is on the red star?", False),
        ("star, red", "What pattern is on the red star?", False),
        ("red cross", "What patterns are on the red ring and the blue bar?", True),
        ("orange triangle", "What pattern is on the red star?", True),
        ("a fish", "What is on the sail?", False),
        ("红色的船", "红色的船上写着什么？", False),
        ("蓝色的船", "红色的船上写着什么？", True),
        ("", "What is on the sail?", False),
    ],
)
def test_a_label_is_strange_when_neither_question_nor_options_name_it(
    label: str, question: str, is_strange: bool
) -> None:
    box = GOLD.model_copy(update={"label": label})
    trace = make_trace(make_sample("a", question), boxes=(box, box))
    assert find_strange_labels(trace) == ([label] if is_strange else [])
