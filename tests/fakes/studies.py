"""Studies, and folders with answers as `p2r study` leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from p2r.benchmarks.base import Aggregation
from p2r.evidence import plan_crops
from p2r.files import write_lines
from p2r.images.load import MemoryImage
from p2r.modes import Mode
from p2r.runs.clock import CLOCK_FILE, Session
from p2r.runs.evaluation import RunSettings, write_facts
from p2r.runs.store import RECIPE_FILE, SETTINGS_FILE, TRACES_FILE
from p2r.runs.training import METRICS_FILE
from p2r.studies.joblist import list_jobs, make_asking
from p2r.studies.jobs import TrainJob, let_go
from p2r.studies.listing import tabulate_study
from p2r.studies.measure import Reader
from p2r.studies.page import build_study_page, make_headline
from p2r.studies.study import Study, load_study
from p2r.studies.verdicts import judge_claims
from p2r.types import Answer, Box, Completion, Failure, Perception, Sample, Trace, Usage, Verdict

GOLD = Box(x1=100, y1=100, x2=300, y2=300)
TEXT = """
title = "Does it help?"
out = "{out}"
seeds = [0, 1, 2]
arms.start.checkpoint = "nano-base"
arms.both = {{ recipe = "nano", set = ["data.num_rows=64"] }}
arms.first = {{ of = "both", phase = "0-perceiver" }}
evaluations.fresh = {{ benchmark = "needles", num = 40, seed = 9000 }}

[[claims]]
name = "training"
says = "Training raises accuracy."
evaluation = "fresh"
plus = [{{ arm = "both" }}]
minus = [{{ arm = "start" }}]
"""


def make_study(folder: Path, more: str = "", *, changes: Sequence[str] = ()) -> Study:
    """A study with three arms and one claim, in a file of the folder. more: other tables of the file."""
    path = folder / "study.toml"
    path.write_text(TEXT.format(out=folder / "out") + more, encoding="utf-8")
    return load_study(path, changes)


def build_page(study: Study, command: str) -> str:
    """The page of what is there, as `p2r study` makes it."""
    reader = Reader(study)
    judged = judge_claims(study, reader)
    looked = let_go([(job, job.look()) for job in list_jobs(study)])
    headline = make_headline(study, judged, command, [progress for _, progress in looked])
    return build_study_page(study, reader, judged, tabulate_study(study, reader, judged), headline, looked)


def write_answers(
    study: Study,
    arm: str,
    seed: int | None,
    right: Sequence[bool | None],
    *,
    mode: Mode = "p2r",
    perceiver: str | None = None,
    evaluation: str = "fresh",
    boxes: Mapping[int, tuple[Box, ...]] | None = None,
    categories: Sequence[str] = (),
    clusters: Sequence[str] = (),
    chances: Sequence[float] = (),
    without_gold: Sequence[int] = (),
    aggregation: Aggregation = "categories",
    num_tokens: int = 100,
    seconds: float | None = None,
    started: str = "",
) -> None:
    """Write a run of an arm.

    Args:
        right: of each question, whether it was answered rightly; None where it failed.
        boxes: by question; one that hits where not said.
        chances: of guessing each question. without_gold: questions of which nobody knows the box.
        seconds: that all of it took. started: when.
    """
    job = make_asking(study, evaluation, arm, perceiver, seed, (mode,))
    folder = job.folder / "needles" / mode
    folder.mkdir(parents=True)
    settings = RunSettings(
        benchmark="needles",
        mode=mode,
        aggregation=aggregation,
        model=job.model,
        limit=job.questions.num,
        seed=job.questions.seed,
    )
    (folder / SETTINGS_FILE).write_text(settings.model_dump_json(), encoding="utf-8")
    samples = [
        Sample(
            id=str(place),
            image=MemoryImage(Image.new("RGB", (640, 480)), str(place)),
            question="Which?",
            options=("a star", "a fish"),
            answer_form="choice",
            target="A",
            gold_boxes=() if place in without_gold else (GOLD,),
            category=categories[place] if categories else "",
            cluster=clusters[place] if clusters else "",
            chance=chances[place] if chances else 0.5,
        )
        for place in range(len(right))
    ]
    write_facts(folder, samples)
    traces = [
        _make_trace(sample, is_right, (boxes or {}).get(place, (GOLD,)), num_tokens)
        for place, (sample, is_right) in enumerate(zip(samples, right, strict=True))
    ]
    write_lines(folder / TRACES_FILE, traces)
    if seconds is not None:
        write_lines(folder / CLOCK_FILE, [Session(started=started, seconds=seconds, num_asked=len(right))])


def _make_trace(sample: Sample, is_right: bool | None, boxes: tuple[Box, ...], num_tokens: int) -> Trace:
    if is_right is None:
        failure = Failure(stage="reason", kind="EndpointError", message="the server has gone")
        return Trace(sample_id=sample.id, image="", question=sample.question, failure=failure)
    letter = "A" if is_right else "B"
    return Trace(
        sample_id=sample.id,
        image=sample.image.uri,
        question=sample.question,
        options=sample.options,
        answer_form=sample.answer_form,
        target=sample.target,
        perception=Perception(source="test", boxes=boxes),
        evidence=plan_crops((640, 480), boxes),
        reasoning=Completion(
            text=f"<answer>{letter}</answer>",
            finish_reason="stop",
            model="scripted",
            usage=Usage(visual_tokens=(), prompt_tokens=num_tokens - 4, generated_tokens=4),
        ),
        answer=Answer(text=letter, letter=letter, span=(8, 9)),
        verdict=Verdict(correct=is_right, score=float(is_right), judge="choice"),
    )


def write_training(job: TrainJob, *, is_finished: bool = True, num_steps: int = 1) -> None:
    """Leave a folder as a training does that has begun, or has finished."""
    job.folder.mkdir(parents=True)
    (job.folder / RECIPE_FILE).write_text(job.recipe.model_dump_json(), encoding="utf-8")
    phases = job.recipe.phases()
    write_lines(job.folder / METRICS_FILE, [{"phase": phases[0].name, "step": each + 1} for each in range(num_steps)])
    for phase in phases if is_finished else ():
        (job.folder / phase.name).mkdir()
