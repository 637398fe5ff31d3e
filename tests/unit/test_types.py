"""Core types: boxes are rectangles, files hold no unknown keys, and traces survive the trip through JSON."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from p2r.dialogue import visual_tokens
from p2r.types import (
    Answer,
    Box,
    BoxParse,
    Completion,
    EvidenceRecord,
    Failure,
    Perception,
    ToolUse,
    Trace,
    Usage,
    Verdict,
)

texts = st.text(max_size=20)
numbers = st.floats(-2000, 2000, allow_nan=False)
counts = st.integers(0, 10**6)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x1, y1 = draw(numbers), draw(numbers)
    return Box(
        x1=x1, y1=y1, x2=x1 + draw(st.floats(0.01, 1000)), y2=y1 + draw(st.floats(0.01, 1000)), label=draw(texts)
    )


usages = st.builds(
    Usage,
    visual_tokens=st.lists(counts, max_size=4).map(tuple),
    prompt_tokens=st.none() | counts,
    generated_tokens=st.none() | counts,
)
completions = st.builds(
    Completion,
    text=texts,
    finish_reason=st.sampled_from(["stop", "length"]),
    model=texts,
    usage=usages,
    seconds=st.floats(0, 1e6),
)
parses = st.builds(
    BoxParse, step=st.sampled_from(["strict", "repaired", "salvaged", "none"]), reason=texts, num_clipped=counts
)
perceptions = st.builds(
    Perception,
    source=texts,
    boxes=st.lists(boxes(), max_size=4).map(tuple),
    completion=st.none() | completions,
    parse=st.none() | parses,
)
rects = st.tuples(counts, counts, counts, counts)
records = st.builds(
    EvidenceRecord,
    image_wh=st.tuples(counts, counts),
    crops=st.lists(rects, max_size=3).map(tuple),
    skipped=st.lists(counts, max_size=3).map(tuple),
    annotated=st.booleans(),
)
answers = st.builds(
    Answer,
    text=st.none() | texts,
    letter=st.none() | st.sampled_from("ABZ"),
    rule=texts,
    span=st.none() | st.tuples(counts, counts),
)
traces = st.builds(
    Trace,
    sample_id=texts,
    image=texts,
    question=texts,
    options=st.lists(texts, max_size=4).map(tuple),
    answer_form=st.sampled_from(["choice", "number", "free_form"]),
    target=st.none() | texts,
    benchmark=texts,
    category=texts,
    perception=st.none() | perceptions,
    evidence=st.none() | records,
    reasoning=st.none() | completions,
    answer=st.none() | answers,
    verdict=st.none() | st.builds(Verdict, correct=st.booleans(), score=st.floats(0, 1), judge=texts, reason=texts),
    failure=st.none()
    | st.builds(Failure, stage=st.sampled_from(["image", "judge"]), kind=texts, message=texts, hint=texts),
    fingerprint=texts,
    seconds=st.floats(0, 1e6),
)


@given(traces)
def test_trace_survives_json_lines_without_loss(trace: Trace) -> None:
    line = trace.model_dump_json()
    assert "\n" not in line
    assert Trace.model_validate_json(line) == trace


def test_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Trace.model_validate_json('{"sample_id": "1", "image": "a.png", "question": "?", "verdcit": null}')


def test_trace_cannot_be_changed() -> None:
    trace = Trace(sample_id="1", image="a.png", question="?")
    with pytest.raises(ValidationError, match="frozen"):
        trace.question = "!"  # pyright: ignore[reportAttributeAccessIssue]


def test_trace_without_perception_has_no_boxes() -> None:
    assert Trace(sample_id="1", image="a.png", question="?").boxes == ()


@pytest.mark.parametrize("corners", [(5, 0, 5, 9), (6, 0, 5, 9), (0, 9, 5, 9), (0, 10, 5, 9)])
def test_box_without_area_is_refused(corners: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValidationError, match="x1 < x2 and y1 < y2"):
        Box(x1=corners[0], y1=corners[1], x2=corners[2], y2=corners[3])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_box_corner_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Box(x1=0, y1=0, x2=10, y2=value)


def test_box_corners_in_pixels_are_truncated_toward_zero() -> None:
    assert Box(x1=-10, y1=333, x2=999, y2=1000).to_pixels(333, 777) == (-3, 258, 332, 777)


def test_box_center_and_area() -> None:
    box = Box(x1=100, y1=200, x2=300, y2=600)
    assert box.center == (200, 400)
    assert box.area == pytest.approx(0.08)


def test_visual_tokens_count_whole_factors() -> None:
    images = [Image.new("RGB", (64, 96)), Image.new("RGB", (33, 31))]
    assert visual_tokens(images, 32) == (6, 0)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(text="(B)", letter="B"), "B. a fish"),
        (Answer(text="F"), "F"),
        (Answer(text="F", letter="F"), "F"),
        (Answer(text=None), "no answer"),
    ],
)
def test_an_answer_reads_as_its_letter_and_its_option(answer: Answer, text: str) -> None:
    trace = Trace(sample_id="", image="", question="", options=("a star", "a fish"), answer=answer)
    assert str(trace.answer) == text
    assert trace.answer == Answer(**answer.model_dump()), "what an option is called is no part of the answer"
    assert set(answer.model_dump()) == {"text", "letter", "rule", "span"}


def test_boxes_in_pixels_need_the_size_of_the_image() -> None:
    boxes = (Box(x1=0, y1=0, x2=500, y2=999), Box(x1=1, y1=2, x2=1000, y2=1000))
    trace = Trace(sample_id="", image="", question="", perception=Perception(source="", boxes=boxes))
    assert trace.boxes_px == ()
    sized = trace.model_copy(update={"evidence": EvidenceRecord(image_wh=(400, 300))})
    assert sized.boxes_px == ((0, 0, 200, 299), (0, 0, 400, 300))


def test_what_a_model_writes_can_be_written_down() -> None:
    """Half a surrogate pair, which JSON can hold, cannot be encoded."""
    broken, use = "a\ud800", ToolUse(errors=("no tool \udfff",))
    box = Box(x1=0, y1=0, x2=1, y2=1, label=broken)
    failure = Failure(stage="reason", kind="ModelError", message=broken)
    reply = Completion(text=broken, finish_reason="stop", model="m", tool_use=use)
    assert (box.label, reply.text, failure.message, use.errors) == ("a?", "a?", "a?", ("no tool ?",))
    for one in (box, reply, failure):
        assert one.model_dump_json()
    assert Box(x1=0, y1=0, x2=1, y2=1, label="😀").label == "😀"
