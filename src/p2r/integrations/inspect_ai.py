# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportUntypedBaseClass=false
# pyright: reportUntypedFunctionDecorator=false, reportCallIssue=false, reportGeneralTypeIssues=false
# Inspect is installed by those who use it, not by p2r, so its types are unknown here, and pyright takes its name
# for this file; it needs Python 3.11
"""Tasks of Inspect (inspect_ai) over p2r's benchmarks: a solver that walks, and a scorer that asks p2r's judge.

    inspect eval p2r/needles -T mode=direct
    inspect eval p2r/benchmark -T spec=vstar:data/vstar_bench -T model=http://localhost:8000/v1#P2R-4B

Inspect finds them by the entry point `inspect_ai`. p2r's model is the argument `model`; Inspect's own is not used. A
sample's metadata holds the whole trace, boxes and crops included, but no images.

Failed is not wrong: a walk that fails is an error of its sample. Inspect counts errors apart, can try them again
(`--retry-on-error`, `inspect eval-retry`), and stops when a tenth of all samples has one. An answer that cannot be
judged is unscored. Neither is part of the accuracy.
"""

from __future__ import annotations

import json
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, distribution

from click import ClickException
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.dataset import Sample as InspectSample
from inspect_ai.model import ModelOutput, ModelUsage
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, grouped, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from p2r.api import revive
from p2r.benchmarks import Benchmark, load_benchmark
from p2r.errors import JudgeError, P2RError
from p2r.evaluation.choose import choose_samples
from p2r.evaluation.cost import ANSWERING, list_calls
from p2r.evaluation.prepare import Prepared, prepare
from p2r.evaluation.scoring import choose_judge
from p2r.models.load import check_profile, load_model
from p2r.models.profiles import FamilyName
from p2r.modes import read_mode
from p2r.pipeline import NOTHING_SAID, walk
from p2r.prompts import question_text
from p2r.runs.evaluation import SampleFacts, to_sample
from p2r.types import Box, Frame, Sample, Trace

MAX_ERROR_RATE = 0.1
TRACE, GOLD_BOXES, SCORED_BY = "trace", "gold_boxes", "scored_by"
"""Keys of a sample's metadata."""


def is_installed_editable() -> bool:
    try:
        direct_url = distribution("perceive-to-reason").read_text("direct_url.json")
    except PackageNotFoundError:
        return False
    return bool(direct_url and json.loads(direct_url).get("dir_info", {}).get("editable"))


PREFIX = "p2r/" if is_installed_editable() else ""
"""Inspect prefixes the package to names that it finds in site-packages, but not to those of an editable install."""


@task(name=f"{PREFIX}needles")
def needles(
    num_samples: int = 400,
    seed: int = 0,
    model: str = "nano",
    mode: str = "p2r",
    perceiver_model: str | None = None,
    prompts: str = "release",
    profile: str | None = None,
    perceiver_profile: str | None = None,
    family: FamilyName | None = None,
    frame: Frame | None = None,
    max_pixels: int | None = None,
) -> Task:
    """Needles: tiny details in large images, made on the spot. Arguments are those of `benchmark`."""
    return benchmark(
        "needles",
        num_samples=num_samples,
        seed=seed,
        model=model,
        mode=mode,
        perceiver_model=perceiver_model,
        prompts=prompts,
        profile=profile,
        perceiver_profile=perceiver_profile,
        family=family,
        frame=frame,
        max_pixels=max_pixels,
    )


@task(name=f"{PREFIX}benchmark")
def benchmark(
    spec: str | list[str],
    split: str | None = None,
    boxes: str | None = None,
    images: str | None = None,
    num_samples: int = 400,
    seed: int = 0,
    model: str = "nano",
    mode: str = "p2r",
    perceiver_model: str | None = None,
    prompts: str = "release",
    profile: str | None = None,
    perceiver_profile: str | None = None,
    family: FamilyName | None = None,
    frame: Frame | None = None,
    max_pixels: int | None = None,
) -> Task:
    """Any benchmark that `p2r eval` takes.

    Args:
        spec, split, boxes, images: the benchmark, as in `load_benchmark`. Inspect makes a list of a spec with commas.
        num_samples: number of needles.
        seed: seed for needles, random boxes and option orders.
        model, mode, perceiver_model, prompts, profile, perceiver_profile, family, frame, max_pixels: as in `p2r eval`.

    Raises:
        ClickException: an argument is not usable; Inspect's command prints it as one line.
    """
    spec = spec if isinstance(spec, str) else ",".join(spec)
    try:
        data = (spec, split, boxes, images, num_samples, seed)
        asked = (model, mode, perceiver_model, prompts, profile, perceiver_profile, family, frame, max_pixels)
        arguments = (*data, *asked)
        prepared = prepare_once(*arguments)
        walks = look_and_answer(*arguments)
    except P2RError as error:
        raise ClickException(str(error)) from error
    found = prepared.benchmark
    return Task(
        dataset=MemoryDataset([to_inspect(sample, found) for sample in prepared.samples], name=found.name),
        solver=walks,
        scorer=verdict(),
        fail_on_error=MAX_ERROR_RATE,
        metadata={"benchmark": found.name, "benchmark_fingerprint": found.fingerprint},
    )


@solver(name=f"{PREFIX}look_and_answer")
def look_and_answer(
    spec: str,
    split: str | None,
    boxes: str | None,
    images: str | None,
    num_samples: int,
    seed: int,
    model: str,
    mode: str,
    perceiver_model: str | None,
    prompts: str,
    profile: str | None,
    perceiver_profile: str | None,
    family: FamilyName | None,
    frame: Frame | None,
    max_pixels: int | None,
) -> Solver:
    """One walk per sample, not judged; without a reasoner where only boxes are scored. Arguments as in `benchmark`."""
    prepared = prepare_once(
        spec, split, boxes, images, num_samples, seed, model, mode, perceiver_model, prompts, profile,
        perceiver_profile, family, frame, max_pixels,
    )  # fmt: skip
    samples = {sample.id: sample for sample in prepared.samples}

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        trace = await walk(samples[str(state.sample_id)], prepared.perceiver, prepared.reasoner)
        state.metadata[TRACE] = trace.model_dump(mode="json")
        if trace.failure is not None:
            raise revive(trace.failure)
        state.output = to_output(trace)
        if not state.output.empty:
            state.messages.append(state.output.message)
        return state

    return solve


@scorer(
    metrics=[accuracy(), stderr(cluster="question"), grouped(accuracy(), "category", all=False)],
    name=f"{PREFIX}verdict",
)
def verdict() -> Scorer:
    """Right or wrong by the judge of the sample's answer form, or of its boxes where those are scored."""

    async def score(state: TaskState, target: Target) -> Score:
        trace = Trace.model_validate(state.metadata[TRACE]) if TRACE in state.metadata else None
        if trace is None or trace.failure is not None:
            return Score.unscored(reason="scoring_failed", explanation="the walk failed")
        # From what the log holds, so that `inspect score` needs no benchmark.
        boxes = tuple(Box.model_validate(box) for box in state.metadata[GOLD_BOXES])
        sample = to_sample(trace, SampleFacts(sample_id=trace.sample_id, category=trace.category, gold_boxes=boxes))
        judge = choose_judge(sample, state.metadata[SCORED_BY])
        if judge is None:
            return Score.unscored(reason="scoring_failed", explanation="the right answer is not known")
        answer = trace.answer or NOTHING_SAID
        try:
            found = await judge(sample, answer, trace.boxes)
        except JudgeError as error:
            return Score.unscored(reason="scoring_failed", answer=answer.text, explanation=str(error))
        return Score(
            value=CORRECT if found.correct else INCORRECT,
            answer=answer.letter or answer.text,
            explanation=found.reason,
            metadata={"judge": found.judge, "score": found.score, "rule": answer.rule},
        )

    return score


@cache
def prepare_once(
    spec: str,
    split: str | None,
    boxes: str | None,
    images: str | None,
    num_samples: int,
    seed: int,
    model: str,
    mode: str,
    perceiver_model: str | None,
    prompts: str,
    profile: str | None,
    perceiver_profile: str | None,
    family: FamilyName | None,
    frame: Frame | None,
    max_pixels: int | None,
) -> Prepared:
    """Prepare what task and solver share: the benchmark, its samples as the mode asks them, and the roles."""
    check_profile(profile, model)
    check_profile(perceiver_profile, perceiver_model, "perceiver_profile")
    found = load_benchmark(spec, split=split, seed=seed, num_samples=num_samples, boxes=boxes, images=images)
    asked_in = read_mode(mode)
    return prepare(
        found,
        choose_samples(found, asked_in, seed=seed),
        model,
        mode=asked_in,
        perceiver_model=perceiver_model,
        prompts=prompts,
        seed=seed,
        share_perception="never",
        profile=profile,
        perceiver_profile=perceiver_profile,
        family=family,
        frame=frame,
        load=partial(load_model, max_pixels=max_pixels),
    )


def to_inspect(sample: Sample, found: Benchmark) -> InspectSample:
    """A sample as Inspect shows it: the question with its options, without the image.

    The metadata's "question" is the same for samples that ask the same thing, such as the rotations of HR-Bench; the
    standard error is clustered by it.
    """
    return InspectSample(
        id=sample.id,
        input=question_text(sample),
        target=sample.target or "",
        metadata={
            "image": sample.image.uri,
            "category": sample.category,
            "question": sample.cluster or sample.id,
            SCORED_BY: found.scored_by,
            GOLD_BOXES: [box.model_dump() for box in sample.gold_boxes],
        },
    )


def to_output(trace: Trace) -> ModelOutput:
    """The last reply as Inspect shows it, with the tokens of all calls where the model reports them."""
    calls = [call for stage in ANSWERING for call in list_calls(trace, stage)]
    if not calls:
        return ModelOutput(time=trace.seconds)
    last = calls[-1]
    stop_reason = "max_tokens" if last.finish_reason == "length" else "stop"
    output = ModelOutput.from_content(last.model, last.text, stop_reason=stop_reason)
    output.time = trace.seconds
    read = [call.usage.prompt_tokens for call in calls if call.usage.prompt_tokens is not None]
    written = [call.usage.generated_tokens for call in calls if call.usage.generated_tokens is not None]
    if len(read) == len(written) == len(calls):
        output.usage = ModelUsage(
            input_tokens=sum(read), output_tokens=sum(written), total_tokens=sum(read) + sum(written)
        )
    return output
