"""The jobs of a study, each one command: rows that a script makes, an arm trained with a seed, an arm that is asked.

Whether a job is finished is read from the folder that its command writes, never from a list of our own. So a kill loses
nothing, arms and seeds can be added later, and a job can be run by hand.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pydantic import JsonValue

from p2r.config import Recipe
from p2r.errors import StorageError
from p2r.modes import Mode
from p2r.runs.evaluation import SAMPLES_FILE, Run, read_run
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training import read_training_run
from p2r.studies.match import explain_other_answers, list_other_settings
from p2r.studies.study import QuestionSet

LOGS_FOLDER = "logs"


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


def let_go(looked: Sequence[tuple[Job, Progress]]) -> list[tuple[Job, Progress]]:
    """Count rows as finished too where all that is trained on them is: nothing needs them any more.

    So a study can be handed on without them.
    """
    needed = {need for job, progress in looked if not progress.is_finished for need in job.needs}
    return [
        (job, replace(progress, is_finished=True) if isinstance(job, FilesJob) and job.name not in needed else progress)
        for job, progress in looked
    ]


def show_command(job: Job) -> str:
    """A job's command, as it is typed."""
    program = ["p2r"] if job.module == "p2r" else ["python", "-m", job.module]
    return shlex.join([*program, *job.command])
