"""The walk: one straight way, a failure recorded where it happens, a bug raised."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt
from p2r.errors import EndpointError, JudgeError
from p2r.evidence import Evidence
from p2r.images.budget import FullImage
from p2r.images.load import FileImage, MemoryImage
from p2r.models.scripted import ScriptedModel
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import (
    EvidenceReasoner,
    FixedPerceiver,
    ModelPerceiver,
    NoPerceiver,
    OraclePerceiver,
    PlainReasoner,
    hash_roles,
)
from p2r.types import Answer, Box, Completion, Perception, Sample, Trace, Verdict

PROMPTS = load_prompt_set("release")
IMAGE = MemoryImage(Image.new("RGB", (200, 150), "white"), name="white.png")
SAMPLE = Sample(
    id="s1",
    image=IMAGE,
    question="What is on the sail?",
    options=("a star", "an anchor"),
    answer_form="choice",
    target="B",
    benchmark="boats",
    category="attribute",
)
MODEL = ScriptedModel(
    {
        "perceiver": '[{"bbox_2d": [100, 200, 300, 400], "label": "sail"}]',
        "reasoner": "<think>An anchor.</think><answer>B</answer>",
    }
)
PERCEIVER, REASONER = ModelPerceiver(MODEL, PROMPTS), EvidenceReasoner(MODEL, PROMPTS)


async def judge(sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
    correct = answer.letter == sample.target
    return Verdict(correct=correct, score=float(correct), judge="letters", reason=f"{len(boxes)} boxes")


class Broken:
    """A role or judge that raises."""

    fingerprint = "broken"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def __call__(self, *seen: object) -> Perception | Completion | Verdict:
        raise self.error


async def test_walk_records_everything_from_image_to_verdict() -> None:
    trace = await walk(SAMPLE, PERCEIVER, REASONER, judge)
    assert (trace.sample_id, trace.image, trace.target) == ("s1", "white.png", "B")
    assert (trace.benchmark, trace.category, trace.options) == ("boats", "attribute", SAMPLE.options)
    assert [box.xyxy for box in trace.boxes] == [(100, 200, 300, 400)]
    assert trace.evidence is not None
    assert trace.evidence.crops == ((0, 15, 80, 75),)
    assert trace.reasoning is not None
    assert trace.reasoning.usage.visual_tokens == (30, 20)
    assert trace.answer is not None
    assert trace.answer.letter == "B"
    assert trace.verdict == Verdict(correct=True, score=1.0, judge="letters", reason="1 boxes")
    assert trace.failure is None
    assert trace.seconds > 0
    assert Trace.model_validate_json(trace.model_dump_json()) == trace


async def test_without_a_judge_there_is_an_answer_and_no_verdict() -> None:
    trace = await walk(SAMPLE, PERCEIVER, REASONER)
    assert trace.answer is not None
    assert trace.verdict is None
    assert trace.failure is None


async def test_without_a_reasoner_the_walk_ends_with_the_evidence_and_the_judge_sees_boxes() -> None:
    trace = await walk(SAMPLE, PERCEIVER, None, judge)
    assert (trace.reasoning, trace.answer, trace.failure) == (None, None, None)
    assert trace.evidence is not None and trace.evidence.annotated
    assert trace.verdict is not None and trace.verdict.reason == "1 boxes"
    assert hash_roles(PERCEIVER, None) != hash_roles(PERCEIVER, REASONER)


async def test_truncated_reply_is_answered_all_the_same() -> None:
    class Truncated(ScriptedModel):
        async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
            return Completion(text="<answer>B</answer> and so", finish_reason="length", model="t")

    trace = await walk(SAMPLE, NoPerceiver(), PlainReasoner(Truncated({}), PROMPTS), judge)
    assert trace.reasoning is not None
    assert trace.reasoning.finish_reason == "length"
    assert trace.verdict is not None
    assert trace.verdict.correct


async def test_missing_image_fails_at_the_image_stage(tmp_path: Path) -> None:
    sample = replace(SAMPLE, image=FileImage(tmp_path / "gone.png"))
    trace = await walk(sample, PERCEIVER, REASONER, judge)
    assert trace.failure is not None
    assert (trace.failure.stage, trace.failure.kind) == ("image", "ImageError")
    assert "gone.png" in trace.failure.message
    assert trace.failure.hint
    assert (trace.perception, trace.evidence, trace.reasoning, trace.answer, trace.verdict) == (None,) * 5


async def test_empty_question_fails_before_any_model_is_asked() -> None:
    silent = ScriptedModel({})
    trace = await walk(replace(SAMPLE, question=" "), ModelPerceiver(silent, PROMPTS), REASONER)
    assert trace.failure is not None
    assert (trace.failure.stage, trace.failure.kind) == ("perceive", "DataError")


async def test_oracle_without_gold_boxes_fails_at_perceiving() -> None:
    trace = await walk(SAMPLE, OraclePerceiver(), REASONER)
    assert trace.failure is not None
    assert (trace.failure.stage, trace.failure.kind) == ("perceive", "DataError")


async def test_failure_at_reasoning_keeps_what_was_perceived() -> None:
    error = EndpointError("the server said 500", hint="try again")
    trace = await walk(SAMPLE, PERCEIVER, Broken(error), judge)  # type: ignore[arg-type]
    assert trace.failure is not None
    assert trace.failure.model_dump() == {
        "stage": "reason",
        "kind": "EndpointError",
        "message": "the server said 500",
        "hint": "try again",
    }
    assert len(trace.boxes) == 1
    assert trace.evidence is not None
    assert trace.answer is None


async def test_failure_of_the_judge_keeps_the_answer_and_is_no_verdict() -> None:
    trace = await walk(SAMPLE, PERCEIVER, REASONER, Broken(JudgeError("maybe is neither yes nor no")))  # type: ignore[arg-type]
    assert trace.failure is not None
    assert (trace.failure.stage, trace.failure.kind) == ("judge", "JudgeError")
    assert trace.answer is not None
    assert trace.answer.letter == "B"
    assert trace.verdict is None


async def test_a_bug_is_raised_and_not_recorded() -> None:
    with pytest.raises(ZeroDivisionError):
        await walk(SAMPLE, PERCEIVER, Broken(ZeroDivisionError()))  # type: ignore[arg-type]


async def test_cancelling_a_walk_cancels_it() -> None:
    started = asyncio.Event()

    class Waiting:
        fingerprint = "waiting"

        async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError

    task = asyncio.create_task(walk(SAMPLE, PERCEIVER, Waiting()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_walks_run_side_by_side() -> None:
    """Each of two walks reasons only when the other has got there too."""
    barrier: list[asyncio.Event] = [asyncio.Event(), asyncio.Event()]

    class Meeting:
        fingerprint = "meeting"

        def __init__(self, index: int) -> None:
            self.index = index

        async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
            barrier[self.index].set()
            await barrier[1 - self.index].wait()
            return Completion(text="<answer>B</answer>", finish_reason="stop", model="m")

    traces = await asyncio.gather(*(walk(SAMPLE, NoPerceiver(), Meeting(index), judge) for index in range(2)))
    assert all(trace.verdict and trace.verdict.correct for trace in traces)


async def test_perceiver_and_reasoner_may_be_two_models() -> None:
    other = ScriptedModel({"reasoner": "<answer>A</answer>"}, name="other")
    trace = await walk(SAMPLE, PERCEIVER, EvidenceReasoner(other, PROMPTS), judge)
    assert trace.perception is not None
    assert trace.perception.source == "model:scripted"
    assert trace.reasoning is not None
    assert trace.reasoning.model == "other"


async def test_fingerprint_is_of_both_roles_and_not_of_the_sample() -> None:
    first = await walk(SAMPLE, PERCEIVER, REASONER)
    second = await walk(replace(SAMPLE, id="s2"), PERCEIVER, REASONER, judge)
    assert first.fingerprint == second.fingerprint == hash_roles(PERCEIVER, REASONER)
    assert hash_roles(NoPerceiver(), REASONER) != first.fingerprint
    assert hash_roles(PERCEIVER, PlainReasoner(MODEL, PROMPTS)) != first.fingerprint


async def test_image_is_loaded_once_and_not_changed() -> None:
    class Counting:
        uri = "counting"
        loads = 0
        image = Image.new("RGB", (200, 150), "white")

        def load(self) -> Image.Image:
            self.loads += 1
            return self.image

    source = Counting()
    before = source.image.tobytes()
    await walk(replace(SAMPLE, image=source), PERCEIVER, REASONER)
    assert source.loads == 1
    assert source.image.tobytes() == before


async def test_same_boxes_in_order_reach_the_evidence() -> None:
    seen: list[tuple[Box, ...]] = []

    class Looking:
        fingerprint = "looking"

        async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
            seen.append(evidence.boxes)
            assert isinstance(evidence.full_image, FullImage)
            return Completion(text="", finish_reason="stop", model="m")

    boxes = tuple(Box(x1=10 * k, y1=0, x2=10 * k + 5, y2=50) for k in range(5))
    trace = await walk(SAMPLE, FixedPerceiver(boxes), Looking())
    assert seen == [boxes]
    assert trace.evidence is not None
    assert len(trace.evidence.crops) == 3
    assert trace.answer is not None
    assert trace.answer.text is None
