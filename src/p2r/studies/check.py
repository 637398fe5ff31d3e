"""What is checked before a study runs anything: models, questions, and what earlier calls have left in its folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ConfigDict

from p2r.benchmarks import Benchmark, load_benchmark
from p2r.errors import ConfigError, P2RError, StorageError, count_nouns
from p2r.evaluation.choose import choose_samples
from p2r.evaluation.given import NUM_NEEDLES
from p2r.models.known import expand_name
from p2r.models.load import find_source, runs_on_torch
from p2r.modes import LOOKING, Mode
from p2r.prompts import load_prompt_set
from p2r.runs.evaluation import SAMPLES_FILE, Run
from p2r.studies.cells import OF_GOLD, StudyCell
from p2r.studies.jobs import AskJob, FilesJob, Job, Progress, TrainJob, let_go
from p2r.studies.study import MadeFiles, QuestionSet, Study
from p2r.types import Frozen


@dataclass(frozen=True, slots=True)
class LookedJob:
    """A job, and how far it is.

    began: when, which may have been by hand; "" where that is not known.
    """

    job: Job
    progress: Progress
    began: str


def check_checkpoints(study: Study) -> None:
    """See that the checkpoint of each arm that is not trained is there, or may be on the hub; nothing is downloaded.

    Raises:
        ConfigError: there is none.
    """
    for name, arm in study.arms.items():
        if arm.checkpoint is None or not runs_on_torch(arm.checkpoint):
            continue
        try:
            find_source(expand_name(arm.checkpoint))
        except P2RError as error:
            raise ConfigError(f"arm {name}: {error.message}", hint=error.hint) from error


def load_evaluation(asked: QuestionSet, *, check_images: bool = True) -> Benchmark:
    """Load the questions that `p2r eval` would. Raises P2RError when they cannot be loaded."""
    return load_benchmark(
        asked.benchmark,
        split=asked.split,
        seed=asked.seed,
        num_samples=asked.num or NUM_NEEDLES,
        boxes=asked.boxes,
        images=asked.images,
        check_images=check_images,
    )


@dataclass(frozen=True, slots=True)
class PickedQuestions:
    """The questions of an evaluation: a hash of the benchmark's, and the ids of those that each mode asks."""

    fingerprint: str
    ids: Mapping[Mode, Sequence[str]]


def check_questions(study: Study) -> dict[str, PickedQuestions]:
    """Load every benchmark that is asked, and see that its samples suit the cells, before anything is trained.

    Returns:
        The questions of each evaluation that something needs.

    Raises:
        P2RError: a benchmark cannot be loaded, or lacks what a mode, a category or a claim needs.
    """
    claimed = [cell for claim in study.claims for _, cell in claim.list_terms()]
    chosen: dict[str, PickedQuestions] = {}
    for name, asked in study.evaluations.items():
        cells = [cell for cell in study.list_cells() if cell.evaluation == name]
        if not cells:
            continue
        modes: dict[Mode, None] = {cell.mode: None for cell in cells}
        ids: dict[Mode, Sequence[str]] = {}
        try:
            load_prompt_set(asked.prompts)
            benchmark = load_evaluation(asked)
            for mode in modes:
                samples = choose_samples(benchmark, mode, limit=asked.num, seed=asked.seed, shard=None)
                ids[mode] = [sample.id for sample in samples]
        except P2RError as error:
            raise ConfigError(
                f"evaluation {name}: {name_settings(error.message)}", hint=name_settings(error.hint)
            ) from error
        for cell in cells:
            _check_samples(benchmark, asked, cell, is_claimed=cell in claimed)
        chosen[name] = PickedQuestions(benchmark.fingerprint, ids)
    return chosen


def name_settings(text: str) -> str:
    """Return a text with arguments of `p2r eval` called what an evaluation of a study calls them."""
    return re.sub(f"`({'|'.join(QuestionSet.model_fields)})`", r"\1", text.replace("`limit`", "num"))


def _check_samples(benchmark: Benchmark, asked: QuestionSet, cell: StudyCell, *, is_claimed: bool) -> None:
    """Raise ConfigError where no question has the cell's category, or what the measure of a claim needs."""
    where = f"evaluation {cell.evaluation}"
    if cell.category and cell.category not in benchmark.categories:
        known = load_evaluation(asked.model_copy(update={"num": None})).categories  # fewer may lack a rare one
        if cell.category not in known:
            names = ", ".join(filter(None, known))
            raise ConfigError(
                f"{where} has no category {cell.category!r}", hint=f"it has {names}" if names else "it has none"
            )
    if is_claimed and cell.measure in OF_GOLD and cell.mode in LOOKING:
        own = [sample for sample in benchmark if cell.category in ("", sample.category)]
        if own and not any(sample.gold_boxes for sample in own):
            raise ConfigError(
                f"a claim needs the measure {cell.measure!r}, and no question of {where} has gold boxes",
                hint="take another measure; V* takes the boxes of its original release with boxes",
            )


def look_at(jobs: Sequence[Job], chosen: Mapping[str, PickedQuestions], begun: Mapping[str, str]) -> list[LookedJob]:
    """See how far all jobs are, and that answers are to the chosen questions; every folder is read once.

    Args:
        begun: when each job has last begun in a study.

    Raises:
        StorageError: a folder is damaged, or was written for something else.
    """
    looked = [_look_at(job, chosen, begun.get(job.name, "")) for job in jobs]
    seen = let_go([(each.job, each.progress) for each in looked])
    return [replace(each, progress=progress) for each, (_, progress) in zip(looked, seen, strict=True)]


def _look_at(job: Job, chosen: Mapping[str, PickedQuestions], begun: str) -> LookedJob:
    if not isinstance(job, AskJob):
        return LookedJob(job, job.look(), begun)
    runs = job.read_all()
    progress = job.judge(runs)
    for mode, run in runs.items():
        _check_answers(job, run, chosen[job.evaluation], mode)
    began = min((each.started for run in runs.values() for each in run.sessions), default="")
    return LookedJob(job, progress, began)


def _check_answers(job: AskJob, run: Run, asked: PickedQuestions, mode: Mode) -> None:
    """Raise StorageError where answers are to other questions, or where some of these have been lost."""
    known = run.settings.benchmark_fingerprint
    if not known:
        return
    if known != asked.fingerprint:
        raise StorageError(
            f"{run.place} holds answers to other questions than {job.questions.benchmark} has now",
            hint=f"give the evaluation {job.evaluation} another name, or move the folder away to ask again",
        )
    if list(run.facts) != list(asked.ids[mode]):
        raise StorageError(
            f"{run.place} lists {count_nouns(len(run.facts), 'question')} where {len(asked.ids[mode])} are "
            f"asked: {SAMPLES_FILE} is damaged",
            hint="restore that file; or move the folder away to ask again",
        )


def check_order(looked: Sequence[LookedJob], begun: Mapping[str, str]) -> None:
    """Make sure that nothing was made with an arm, or with rows, that were made again later, or are to be.

    Args:
        begun: when each job has last begun.

    Raises:
        StorageError: something was.
    """
    finished = {each.job.name for each in looked if each.progress.is_finished}
    for each in looked:
        job, began = each.job, each.began
        if not each.progress.done:
            continue
        for need in job.needs:
            if need not in finished:
                raise StorageError(
                    f"{job.folder} was made with {need}, which is not there or not finished",
                    hint=f"restore the folder of {need}; or move that of {job.name} away, and both are made again",
                )
            if began and begun.get(need, "") > began:
                what = "answers from before" if isinstance(job, AskJob) else "what was made before"
                raise StorageError(
                    f"{job.folder} holds {what} {need} was {'made' if need.startswith('files/') else 'trained'} again",
                    hint=f"move that folder away to {'ask' if isinstance(job, AskJob) else 'make it'} again",
                )


def check_record(looked: Sequence[LookedJob], study: Study, record: Path) -> None:
    """Make sure that rows were made, and arms trained, as the study says now.

    Args:
        record: the study as an earlier call has read it; nothing is checked where it does not exist.

    Raises:
        StorageError: a script or its arguments, or the number of threads or processes, were others; or the record is
            damaged.
    """
    made = [each for each in looked if each.progress.done and not isinstance(each.job, AskJob)]
    if not made or not record.exists():
        return
    before = _read_record(record)
    for job in (each.job for each in made):
        if isinstance(job, FilesJob):
            _check_files(job, before)
        elif isinstance(job, TrainJob):
            _check_processors(job, study, before)


def _check_files(job: FilesJob, before: _StudyRecord) -> None:
    was = before.files.get(job.entry)
    if was is not None and (was.module, was.args) != (job.module, job.args):
        raise StorageError(
            f"{job.folder} was made by another command: {shlex.join(['python', '-m', was.module, *was.args])}",
            hint="give the files another name, or move the folder away, and those of the arms that learned from it",
        )


def _check_processors(job: TrainJob, study: Study, before: _StudyRecord) -> None:
    arm = before.arms.get(job.arm)
    if arm is None:
        return
    was = {"threads": before.threads, "num_processes": arm.num_processes or before.num_processes}
    now = {"threads": study.threads, "num_processes": job.num_processes}
    for name in (name for name in was if was[name] != now[name]):
        raise StorageError(
            f"{job.folder} was trained with {name} = {was[name]}, and the study says {now[name]} now, with which the "
            "same seed gives other weights",
            hint=f"set {name} to {was[name]} again; or move the folder away to train it again",
        )


class _ArmRecord(Frozen):
    """The part of an arm in study.json that is read again."""

    model_config = ConfigDict(extra="ignore")

    num_processes: int | None = None


class _StudyRecord(Frozen):
    """The part of study.json that is read again."""

    model_config = ConfigDict(extra="ignore")

    files: Mapping[str, MadeFiles] = {}
    arms: Mapping[str, _ArmRecord] = {}
    threads: int = 1
    num_processes: int = 1


def _read_record(record: Path) -> _StudyRecord:
    try:
        return _StudyRecord.model_validate_json(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{record} does not say how the study was run before",
            hint="restore it; or remove it, if all was made as the study says now",
        ) from error
