"""The jobs of a study, each one command: rows that a script makes, an arm trained with a seed, an arm that is asked.

Whether a job is finished is read from the folder that its command writes, never from a list of our own. So a kill loses
nothing, arms and seeds can be added later, and a job can be run by hand.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import JsonValue

from p2r.config import Recipe
from p2r.errors import StorageError, mask_secrets
from p2r.models.known import expand_name
from p2r.modes import MODES, Mode
from p2r.runs.evaluation import SAMPLES_FILE, Run, read_run
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training import read_training_run
from p2r.studies.cells import StudyCell
from p2r.studies.consistency import list_needed_arms
from p2r.studies.match import explain_other_answers, list_other_settings
from p2r.studies.study import ARMS_FOLDER, FILES_FOLDER, QuestionSet, Study

ANSWERS_FOLDER, LOGS_FOLDER = "answers", "logs"
BESIDE = "+"
"""Stands between the arm that perceives and the one that answers, in names."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a job. total: None while nobody knows. num_failed: questions that failed."""

    done: int
    total: int | None
    is_finished: bool
    num_failed: int = 0


@dataclass(frozen=True, slots=True)
class FilesJob:
    """Rows that a script makes.

    entry: their name in `files`. last: the file that it writes last.
    """

    name: str
    entry: str
    module: str
    args: tuple[str, ...]
    folder: Path
    last: str
    needs: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """The arguments of the module."""
        return [*self.args, "--out", str(self.folder)]

    def look(self) -> Progress:
        """See whether the last file is there."""
        is_there = (self.folder / self.last).is_file()
        return Progress(int(is_there), 1, is_there)


@dataclass(frozen=True, slots=True)
class TrainJob:
    """An arm that is trained with a seed.

    start: the job that leaves the checkpoint that it starts from.
    files: the jobs that make its rows.
    """

    name: str
    arm: str
    seed: int
    folder: Path
    recipe: Recipe
    recipe_file: str
    changes: tuple[str, ...]
    num_processes: int
    start: str | None
    files: tuple[str, ...] = ()
    module: ClassVar[str] = "p2r"

    @property
    def needs(self) -> tuple[str, ...]:
        return self.files if self.start is None else (self.start, *self.files)

    @property
    def command(self) -> list[str]:
        """The arguments of `p2r`."""
        sets = [part for change in self.changes for part in ("--set", change)]
        several = [] if self.num_processes == 1 else ["--processes", str(self.num_processes)]
        return ["train", self.recipe_file, *sets, *several, *(["--resume"] if self.has_begun() else [])]

    def look(self) -> Progress:
        """See how far it is.

        Raises:
            StorageError: the folder holds a run with other settings, or a broken log.
        """
        planned = [phase.steps for phase in self.recipe.phases()]
        total = sum(each for each in planned if each is not None) if None not in planned else None
        if not self.has_begun():
            return Progress(0, total, is_finished=False)
        run = read_training_run(self.folder)
        if run.is_finished and (others := list_other_settings(self.recipe, run.recipe, self.folder)):
            raise StorageError(
                f"{self.folder} was trained with other settings of {', '.join(others)} than arm {self.arm} has now",
                hint="give the arm another name, or move the folder away to train it again",
            )
        return Progress(len(run.steps), total, run.is_finished)

    def has_begun(self) -> bool:
        """Tell whether its folder holds a run."""
        return (self.folder / RECIPE_FILE).is_file()


@dataclass(frozen=True, slots=True)
class AskJob:
    """Questions that an arm is asked with a seed, in all modes that something needs.

    seed: None where nothing is trained.
    model, perceiver_model: as in `p2r eval`.
    settings: those of its runs' run.json that the study says.
    trained: those that are checkpoints of this study, by their place in its folder, which may move.
    """

    name: str
    evaluation: str
    arm: str
    perceiver: str | None
    seed: int | None
    modes: tuple[Mode, ...]
    folder: Path
    model: str
    perceiver_model: str | None
    questions: QuestionSet
    needs: tuple[str, ...]
    settings: Mapping[str, JsonValue]
    trained: Mapping[str, str]
    module: ClassVar[str] = "p2r"

    @property
    def command(self) -> list[str]:
        """The arguments of `p2r`."""
        asked = self.questions
        named: list[tuple[str, object]] = [
            ("--model", self.model),
            ("--perceiver-model", self.perceiver_model),
            *(("--mode", mode) for mode in self.modes),
            ("--limit", asked.num),
            ("--seed", asked.seed),
            ("--split", asked.split),
            ("--boxes", asked.boxes),
            ("--images", asked.images),
            ("--prompts", asked.prompts),
            ("--num-at-once", asked.num_at_once),
            ("--max-pixels", asked.max_pixels),
            ("--out", self.folder),
        ]
        return [
            "eval",
            asked.benchmark,
            *(part for flag, value in named if value is not None for part in (flag, str(value))),
        ]

    def look(self) -> Progress:
        """See how far it is.

        Raises:
            StorageError: the folder holds answers to other questions, or a broken run.
        """
        return self.judge(self.read_all())

    def judge(self, runs: Mapping[Mode, Run]) -> Progress:
        """Say how far these runs are, which `read_all` has read. Raises as `look` does."""
        known = list(runs.values())
        for run in known:
            if changes := explain_other_answers(run, self.settings, self.trained, self.questions):
                raise StorageError(
                    f"{run.folder} holds {changes}",
                    hint=f"give the evaluation {self.evaluation} another name, or move the folder away to ask again",
                )
        total = sum(len(run.facts) for run in known) if len(known) == len(self.modes) else None
        if total is None and self.questions.num is not None:
            total = self.questions.num * len(self.modes)
        done = sum(len(run.traces) for run in known)
        num_failed = sum(len(run.failures) for run in known)
        is_whole = len(known) == len(self.modes) and all(set(run.facts) == set(run.traces) for run in known)
        return Progress(done, total, is_whole and not num_failed, num_failed)

    def read_all(self) -> dict[Mode, Run]:
        """The runs that are there, by mode."""
        return {mode: run for mode in self.modes if (run := self.read(mode)) is not None}

    def read(self, mode: Mode) -> Run | None:
        """The run of a mode; None while there is none."""
        folder = self.find(mode)
        return None if folder is None else read_run(folder)

    def find(self, mode: Mode) -> Path | None:
        """The folder of the run of a mode; None while there is none.

        Raises:
            StorageError: there are several, of several benchmarks.
        """
        found = [path.parent for path in sorted(self.folder.glob(f"*/{mode}/{SAMPLES_FILE}"))]
        if len(found) > 1:
            raise StorageError(
                f"{self.folder} holds answers to several benchmarks: {found[0]} and {found[1]}",
                hint="move away those that are not asked any more",
            )
        return found[0] if found else None


Job = FilesJob | TrainJob | AskJob


def list_jobs(study: Study) -> list[Job]:
    """Every job, each after those that it needs: rows first, then seed by seed each arm with what it can be asked.

    So a study that was stopped has something to say of every claim, and weights need not be kept for long.
    """
    trainings = list_trainings(study)
    seeds = list(dict.fromkeys([*study.seeds, *(job.seed for job in trainings)]))
    trainings.sort(key=lambda job: seeds.index(job.seed))
    places = {job.name: place for place, job in enumerate(trainings)}
    jobs: list[TrainJob | AskJob] = [*trainings, *list_askings(study)]
    jobs.sort(key=lambda job: places.get(job.name, max((places.get(name, -1) for name in job.needs), default=-1)))
    needed = {name for job in trainings for name in job.files}
    return [*(job for job in list_files(study) if job.name in needed), *jobs]


def show_command(job: Job) -> str:
    """A job's command, as it is typed."""
    program = ["p2r"] if job.module == "p2r" else ["python", "-m", job.module]
    return shlex.join([*program, *job.command])


def list_files(study: Study) -> list[FilesJob]:
    """The rows that scripts make."""
    return [
        FilesJob(f"{FILES_FOLDER}/{name}", name, each.module, each.args, study.find_files(name), each.last)
        for name, each in study.files.items()
    ]


def list_trainings(study: Study) -> list[TrainJob]:
    """The arms that something needs, with their seeds; an arm that others start from comes first."""
    trained = [name for name in list_needed_arms(study) if study.arms[name].recipe is not None]
    return [_make_training(study, name, seed) for name in trained for seed in study.seeds_of(name)]


def group_trainings(study: Study) -> dict[str, list[TrainJob]]:
    """The trainings of each arm that something needs, by seed."""
    by_arm: dict[str, list[TrainJob]] = {}
    for job in list_trainings(study):
        by_arm.setdefault(job.arm, []).append(job)
    return by_arm


def list_askings(study: Study) -> list[AskJob]:
    """List who is asked what: one job for each evaluation, arm, perceiver and seed, with all modes."""
    modes: dict[tuple[str, str, str | None], set[Mode]] = {}
    for cell in study.list_cells():
        modes.setdefault(who_is_asked(cell), set()).add(cell.mode)
    return [
        make_asking(study, *key, seed, tuple(mode for mode in MODES if mode in own))
        for key, own in modes.items()
        for seed in list_seeds(study, key[1], key[2])
    ]


def who_is_asked(cell: StudyCell) -> tuple[str, str, str | None]:
    """Return what cells of one job have in common: the evaluation, the arm, and the perceiver if it is another."""
    return cell.evaluation, cell.arm, cell.perceiver if cell.perceiver != cell.arm else None


def list_seeds(study: Study, arm: str, perceiver: str | None) -> Sequence[int | None]:
    """The seeds with which an arm is asked; [None] where nothing is trained. Two trained arms go together by seed."""
    own = study.seeds_of(arm)
    others = study.seeds_of(perceiver) if perceiver is not None else ()
    if own and others:
        return [seed for seed in own if seed in others]
    return own or others or [None]


def make_asking(
    study: Study, evaluation: str, arm: str, perceiver: str | None, seed: int | None, modes: tuple[Mode, ...]
) -> AskJob:
    """The job that asks an arm with a seed."""
    who = arm if perceiver is None else perceiver + BESIDE + arm
    part = "" if seed is None else f"seed-{seed}"
    needs = [find_training(study, name, seed) for name in (arm, perceiver) if name is not None]
    asked = study.evaluations[evaluation]
    settings: dict[str, JsonValue] = {
        "limit": asked.num,
        "seed": asked.seed,
        "max_pixels": asked.max_pixels,
        "prompts": asked.prompts,
    }
    trained: dict[str, str] = {}
    for setting, name in (("model", arm), ("perceiver_model", perceiver)):
        if name is not None and study.seeds_of(name):
            trained[setting] = Path(find_checkpoint(study, name, seed)).relative_to(study.out).as_posix()
        elif name is not None:
            settings[setting] = mask_secrets(expand_name(find_checkpoint(study, name, seed)))
    return AskJob(
        name="/".join(filter(None, (evaluation, who, part))),
        evaluation=evaluation,
        arm=arm,
        perceiver=perceiver,
        seed=seed,
        modes=modes,
        folder=study.out / ANSWERS_FOLDER / evaluation / who / part,
        model=find_checkpoint(study, arm, seed),
        perceiver_model=None if perceiver is None else find_checkpoint(study, perceiver, seed),
        questions=asked,
        needs=tuple(dict.fromkeys(name for name in needs if name is not None)),
        settings=settings,
        trained=trained,
    )


def find_checkpoint(study: Study, arm: str, seed: int | None) -> str:
    """The model that an arm is with a seed, as `load_model` takes it."""
    found = study.arms[arm]
    if found.checkpoint is not None:
        return found.checkpoint
    assert seed is not None, f"the arm {arm!r} is trained, and was asked without a seed"
    if found.of is not None:
        return str(find_folder(study, found.of, seed) / str(found.phase))
    return str(find_folder(study, arm, seed) / _make_training(study, arm, seed).recipe.phases()[-1].name)


def find_root(study: Study, arm: str) -> str:
    """The model that an arm begins with before anything is trained, as `load_model` takes it."""
    found = study.arms[arm]
    if (other := found.of or found.start) is not None:
        return find_root(study, other)
    if found.checkpoint is not None:
        return found.checkpoint
    return _make_training(study, arm, study.seeds_of(arm)[0]).recipe.model.source


def find_folder(study: Study, arm: str, seed: int) -> Path:
    """The folder of an arm's training run."""
    return study.out / ARMS_FOLDER / arm / f"seed-{seed}"


def find_training(study: Study, arm: str, seed: int | None) -> str | None:
    """The name of the job that trains an arm; None where nothing is trained."""
    if not study.seeds_of(arm):
        return None
    return f"{study.arms[arm].of or arm}/seed-{seed}"


def _make_training(study: Study, name: str, seed: int) -> TrainJob:
    arm, folder = study.arms[name], find_folder(study, name, seed)
    source = None if arm.start is None else find_checkpoint(study, arm.start, seed)
    return TrainJob(
        name=f"{name}/seed-{seed}",
        arm=name,
        seed=seed,
        folder=folder,
        recipe=study.recipe_of(name, seed, folder, source),
        recipe_file=study.find_recipe(name),
        changes=tuple(study.list_overrides(name, seed, folder, source)),
        num_processes=arm.num_processes or study.num_processes,
        start=None if arm.start is None else find_training(study, arm.start, seed),
        files=tuple(dict.fromkeys(f"{FILES_FOLDER}/{each}" for each in study.list_files(name))),
    )
