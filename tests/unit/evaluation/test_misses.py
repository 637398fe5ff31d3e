"""Why an answer is wrong: each wrong answer has exactly one reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from PIL import Image

from p2r.boxes import parse_boxes
from p2r.evaluation.misses import find_miss
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.evidence import plan_crops
from p2r.images.load import MemoryImage
from p2r.modes import Mode
from p2r.runs.evaluation import RunSettings, make_run
from p2r.types import Box, Completion, Failure, Perception, Sample, Trace

WH = (1000, 1000)
FIRST, SECOND = Box(x1=220, y1=600, x2=360, y2=740), Box(x1=700, y1=100, x2=840, y2=240)
HIT, ALSO_HIT = (215, 595, 365, 745), (695, 95, 845, 245)
DROPPED, ADDED, ELSEWHERE = (22, 600, 162, 740), (2200, 600, 2340, 740), (500, 600, 640, 740)


def write(*boxes: Sequence[float]) -> str:
    return "[" + ", ".join(f'{{"bbox_2d": {list(box)}, "label": "red star"}}' for box in boxes) + "]"


def make(
    reply: str | None,
    answer: str = "<answer>B</answer>",
    gold: tuple[Box, ...] = (FIRST,),
    mode: Mode = "p2r",
    settings: RunSettings | None = None,
) -> ScoredRun:
    """A run of one question, whose right answer is A. reply: of the perceiver; None where nothing was perceived."""
    sample = Sample(
        id="0", image=MemoryImage(Image.new("RGB", (8, 8)), "0"), question="Which?", options=("a", "b"),
        answer_form="choice", target="A", gold_boxes=gold,
    )  # fmt: skip
    perception = None
    if reply is not None:
        boxes, parse = parse_boxes(reply, image_wh=WH)
        perception = Perception(
            source="model:x",
            boxes=boxes,
            completion=Completion(text=reply, finish_reason="stop", model="x"),
            parse=parse,
        )
    trace = Trace(
        sample_id="0", image="0", question=sample.question, options=sample.options, answer_form="choice", target="A",
        perception=perception, evidence=None if perception is None else plan_crops(WH, perception.boxes),
        reasoning=Completion(text=answer, finish_reason="stop", model="x"),
    )  # fmt: skip
    return score_run(make_run([sample], [trace], settings or RunSettings(benchmark="x", mode=mode)))


def explain(run: ScoredRun) -> str | None:
    return find_miss(run.rows[0], run)


def test_a_right_answer_has_missed_nothing_wherever_it_looked() -> None:
    assert explain(make(write(HIT), "<answer>A</answer>")) == "right"
    assert explain(make(write(ELSEWHERE), "<answer>A</answer>")) == "right"
    assert explain(make("no idea", "<answer>A</answer>")) == "right"


@pytest.mark.parametrize(
    ("boxes", "why"),
    [
        ((HIT,), "reading"),
        ((DROPPED,), "spelling"),
        ((ELSEWHERE,), "place"),
        (((220, 60, 360, 200),), "spelling"),
        (((225, 100, 365, 240),), "place"),
    ],
)
def test_one_box_is_in_place_misspelt_or_elsewhere(boxes: Sequence[Sequence[float]], why: str) -> None:
    assert explain(make(write(*boxes))) == why


def test_a_number_that_should_be_short_is_misspelt_as_well() -> None:
    low = Box(x1=40, y1=500, x2=180, y2=640)
    assert explain(make(write((152, 500, 292, 640)), gold=(low,))) == "spelling"


@pytest.mark.parametrize("reply", ["", "no idea", "[]", '[{"bbox_2d": [22, "x"]}]'])
def test_without_a_readable_box_it_is_the_format(reply: str) -> None:
    assert explain(make(reply)) == "format"


def test_an_answer_that_cannot_be_read_is_the_format_only_where_the_evidence_was_seen() -> None:
    assert explain(make(write(HIT), "hm")) == "format"
    assert explain(make(write(ELSEWHERE), "hm")) == "place"


@pytest.mark.parametrize(
    ("boxes", "why"),
    [
        ((HIT, ALSO_HIT), "reading"),
        ((HIT, ELSEWHERE), "place"),
        ((DROPPED, ALSO_HIT), "spelling"),
        ((DROPPED, ELSEWHERE), "spelling"),
        ((HIT,), "place"),
        ((DROPPED, HIT, ALSO_HIT), "reading"),
        ((ELSEWHERE, (70, 100, 210, 240), ALSO_HIT), "place"),
    ],
)
def test_with_two_objects_the_missed_one_counts(boxes: Sequence[Sequence[float]], why: str) -> None:
    assert explain(make(write(*boxes), gold=(FIRST, SECOND))) == why


def test_a_missed_object_whose_box_cannot_be_read_is_the_format() -> None:
    reply = f'[{{"bbox_2d": {list(HIT)}, "label": "a"}}, {{"bbox_2d": [700, 100], "label": "b"}}]'
    assert explain(make(reply, gold=(FIRST, SECOND))) == "format"


def test_a_mode_that_does_not_look_reads_wrongly_or_writes_wrongly() -> None:
    assert explain(make(None, "B", mode="direct")) == "reading"
    assert explain(make(None, "<answer></answer>", mode="none")) == "format"


def test_boxes_in_pixels_are_not_compared_by_their_digits() -> None:
    settings = RunSettings(benchmark="x", mode="p2r", family="qwen2_5_vl")
    assert explain(make(write(DROPPED), settings=settings)) == "place"
    settings = RunSettings(benchmark="x", mode="p2r", frame="pixels")
    assert explain(make(write(DROPPED), settings=settings)) == "place"


def test_without_gold_boxes_nothing_can_be_said_about_a_wrong_answer() -> None:
    assert explain(make(write(HIT), gold=())) is None
    assert explain(make(write(HIT), "<answer>A</answer>", gold=())) == "right"


def test_a_failed_question_has_no_reason() -> None:
    run = make(write(HIT))
    failed = run.rows[0].trace.model_copy(
        update={"failure": Failure(stage="reason", kind="x", message="gone"), "reasoning": None}
    )
    assert explain(score_run(replace(run, traces={"0": failed}))) is None


def test_where_boxes_are_the_answer_a_wrong_one_is_its_place() -> None:
    run = make(write((215, 595, 650, 990)), settings=RunSettings(benchmark="x", mode="p2r", scored_by="box"))
    trace = run.rows[0].trace.model_copy(update={"reasoning": None})
    assert explain(score_run(replace(run, traces={"0": trace}))) == "place"
