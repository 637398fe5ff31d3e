"""The walk from a question to a judged answer: perceive, gather evidence, reason, read the answer, judge.

Paper: section 3.2. Asking, evaluating and both training phases use this walk; they differ in who perceives and who
reasons. A P2RError ends a walk and is recorded on its trace with everything that was done before: the trace is neither
right nor wrong. Any other exception is a bug and is raised.
"""

from __future__ import annotations

import asyncio
import time

from p2r.answers import extract_answer
from p2r.errors import P2RError
from p2r.evidence import gather
from p2r.images.budget import FullImage
from p2r.loop import run_short
from p2r.roles import Perceiver, Reasoner, hash_roles
from p2r.types import Answer, Completion, EvidenceRecord, Failure, Judge, Perception, Sample, Stage, Trace, Verdict

NOTHING_SAID = Answer(text=None)
"""The answer that a judge sees when no reasoner was asked."""


async def walk(
    sample: Sample,
    perceiver: Perceiver,
    reasoner: Reasoner | None,
    judge: Judge | None = None,
    *,
    full_image: FullImage | None = None,
) -> Trace:
    """Answer one sample, and judge the answer when there is a judge.

    Images are decoded, cut and sized in threads, so that walks side by side do not block the event loop.

    Args:
        reasoner: None ends the walk with the evidence; the judge then sees only the boxes.
        full_image: the sample's image where it is already decoded, so that walks of one sample share it.

    Returns:
        The trace of everything that was seen, said and judged; `failure` says why it is incomplete, if it is.
    """
    start = time.perf_counter()
    perception: Perception | None = None
    record: EvidenceRecord | None = None
    reasoning: Completion | None = None
    answer: Answer | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None
    stage: Stage = "image"
    try:
        full_image = full_image or FullImage(await run_short(sample.image.load))
        stage = "perceive"
        perception = await perceiver(sample, full_image)
        stage = "gather"
        evidence = await asyncio.to_thread(gather, full_image, perception.boxes)
        record = evidence.record
        stage = "reason"
        if reasoner is not None:
            reply = reasoner(sample, evidence)
            del evidence, full_image  # so that the reasoner can free the pixels at full resolution
            reasoning = await reply
        if reasoning is not None:
            answer = extract_answer(
                reasoning.text, sample.answer_form, sample.options, finish_reason=reasoning.finish_reason
            )
        stage = "judge"
        verdict = await judge(sample, answer or NOTHING_SAID, perception.boxes) if judge else None
    except P2RError as error:
        failure = Failure(stage=stage, kind=type(error).__name__, message=error.message, hint=error.hint)
    return Trace(
        sample_id=sample.id,
        image=sample.image.uri,
        question=sample.question,
        options=sample.options,
        answer_form=sample.answer_form,
        target=sample.target,
        benchmark=sample.benchmark,
        category=sample.category,
        perception=perception,
        evidence=record,
        reasoning=reasoning,
        answer=answer,
        verdict=verdict,
        failure=failure,
        fingerprint=hash_roles(perceiver, reasoner),
        seconds=time.perf_counter() - start,
    )


async def walk_twice(
    sample: Sample,
    perceiver: Perceiver,
    reasoner: Reasoner | None = None,
    judge: Judge | None = None,
    *,
    full_image: FullImage,
) -> Trace:
    """`walk`, and a second time if the first fails: a server may have restarted, a judge may have been cut off."""
    trace = await walk(sample, perceiver, reasoner, judge, full_image=full_image)
    if trace.failure is None:
        return trace
    return await walk(sample, perceiver, reasoner, judge, full_image=full_image)
