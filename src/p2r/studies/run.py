"""Run a study's jobs side by side, each a command in a process of its own, until none is left.

A job whose command fails is tried once more when the others are through, because a server or a full disk may be back;
jobs that need it wait. Each command runs under `keeper`, which ends it when this process has gone, however that ended.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from p2r.errors import P2RError, StorageError
from p2r.files import Log, explain_write_errors, lock_folder, replace_file, unlock_folder
from p2r.runs.training import read_training_run
from p2r.signals import as_exit_code
from p2r.studies.check import check_checkpoints, check_order, check_questions, check_record, look_at
from p2r.studies.joblist import list_jobs
from p2r.studies.jobs import LOGS_FOLDER, FilesJob, Job, Progress, TrainJob
from p2r.studies.sessions import SESSIONS_FILE, JobSession, read_sessions
from p2r.studies.study import Study
from p2r.studies.weights import hash_weights
from p2r.training import keeper

STUDY_FILE = "study.json"
LOOK_EVERY_S = 0.5
LOOK_SHARE = 0.02  # of a core, at most: a job's folder is read whole, and large ones take long
MOST_TRIES = 2
LAST_CHARS = 2000


@dataclass(slots=True)
class JobState:
    """A job, as far as it has come in this call.

    status: "waiting", "running", "finished", "failed" or, because a job that it needs has failed, "blocked".
    reason: the last line that a failed command said.
    """

    job: Job
    progress: Progress
    status: str = "waiting"
    num_tries: int = 0
    reason: str = ""


@dataclass(slots=True)
class _Running:
    state: JobState
    process: subprocess.Popen[bytes]
    started: str
    began: float = field(default_factory=time.monotonic)
    look_after: float = 0.0


def run_study(
    study: Study,
    *,
    resume: bool = False,
    num_jobs: int = 1,
    on_change: Callable[[Sequence[JobState]], None] | None = None,
) -> list[JobState]:
    """Train and ask everything that is missing.

    Args:
        resume: continue in a folder that an earlier call has written.
        num_jobs: jobs side by side.
        on_change: called with all jobs, about twice a second.

    Returns:
        Every job. Some have failed where something went wrong that another call may mend.

    Raises:
        ConfigError: a checkpoint is not there, or questions cannot be loaded.
        StorageError: the folder holds a study and `resume` is off; another process is writing it; or a job's folder
            is damaged, or was written with other settings, or before what it needs.
    """
    folder = study.out
    if (folder / STUDY_FILE).exists() and not resume:
        raise StorageError(
            f"{folder} holds a study already",
            hint="continue it with `resume=True`, or name another folder as out in the study",
        )
    check_checkpoints(study)
    chosen = check_questions(study)
    with explain_write_errors(folder):
        (folder / LOGS_FOLDER).mkdir(parents=True, exist_ok=True)
    handle = lock_folder(folder)
    try:
        for record in sorted((folder / LOGS_FOLDER).glob("*.json")):
            keeper.end_recorded(record)  # what a killed call has left
        begun = {each.job: each.started for each in read_sessions(folder)}
        looked = look_at(list_jobs(study), chosen, begun)
        check_order(looked, begun)
        check_record(looked, study, folder / STUDY_FILE)
        with explain_write_errors(folder):
            replace_file(folder / STUDY_FILE, study.model_dump_json(indent=2) + "\n")
        states = [
            JobState(each.job, each.progress, "finished" if each.progress.is_finished else "waiting") for each in looked
        ]
        with Log(folder / SESSIONS_FILE) as sessions:
            _Scheduler(study, states, num_jobs, sessions, on_change or _ignore).run()
        return states
    finally:
        unlock_folder(handle)


class _Scheduler:
    """Starts jobs when what they need is there, and looks after them."""

    def __init__(
        self,
        study: Study,
        states: Sequence[JobState],
        num_jobs: int,
        sessions: Log,
        on_change: Callable[[Sequence[JobState]], None],
    ) -> None:
        self._study, self._states, self._num_jobs = study, states, num_jobs
        self._sessions, self._on_change = sessions, on_change
        self._running: list[_Running] = []

    def run(self) -> None:
        try:
            while True:
                for state in self._choose():
                    self._running.append(self._start(state))
                    state.status = "running"
                self._on_change(self._states)
                if not self._running:
                    break
                time.sleep(LOOK_EVERY_S)
                self._look()
        finally:
            self._end_all()
        for state in self._states:
            if state.status == "waiting":
                state.status = "blocked"
        self._on_change(self._states)

    def _choose(self) -> list[JobState]:
        """The jobs to start now: those that have not been tried, and when nothing is left of these, the others."""
        by_name = {state.job.name: state for state in self._states}
        ready = [
            state
            for state in self._states
            if state.status == "waiting" and all(by_name[name].status == "finished" for name in state.job.needs)
        ]
        fresh = [state for state in ready if not state.num_tries]
        chosen = ready if not fresh and not self._running else fresh
        return chosen[: self._num_jobs - len(self._running)]

    def _start(self, state: JobState) -> _Running:
        job, folder = state.job, self._study.out
        state.num_tries += 1
        command = [sys.executable, "-m", job.module, *job.command]
        env = {**os.environ, "OMP_NUM_THREADS": str(self._study.threads)}
        with explain_write_errors(folder), log_of(folder, job).open("ab") as output:
            process = keeper.start(_record_of(folder, job), command, output, env)
        return _Running(state, process, datetime.now(timezone.utc).isoformat(timespec="seconds"))

    def _look(self) -> None:
        """Take in what has ended, and see how far the others are."""
        for one in list(self._running):
            state, before = one.state, _processor_seconds()
            code = one.process.poll()
            if code is None:
                self._look_now_and_then(one)
                continue
            self._running.remove(one)
            keeper.end_recorded(_record_of(self._study.out, state.job))  # of a keeper that was killed
            keeper.end(one.process)
            damage = self._look_at(state)
            self._note(one, code, before)
            if state.progress.is_finished and not damage:
                state.status = "finished"
                continue
            state.reason = damage or _explain_end(self._study.out, state.job, code)
            state.status = "waiting" if state.num_tries < MOST_TRIES else "failed"

    def _look_now_and_then(self, one: _Running) -> None:
        """See how far a job is, less often where that takes long."""
        began = time.monotonic()
        if began < one.look_after:
            return
        self._look_at(one.state)
        ended = time.monotonic()
        one.look_after = ended + (ended - began) / LOOK_SHARE

    def _look_at(self, state: JobState) -> str:
        """See how far a job is; returns what cannot be read, such as a line that is just being written."""
        try:
            state.progress = state.job.look()
        except P2RError as error:
            return str(error.message)
        return ""

    def _note(self, one: _Running, code: int | None, processor_before: float) -> None:
        job = one.state.job
        is_trained = isinstance(job, TrainJob) and one.state.progress.is_finished
        self._sessions.write(
            JobSession(
                job=job.name,
                started=one.started,
                wall_s=round(time.monotonic() - one.began, 3),
                processor_s=round(_processor_seconds() - processor_before, 3),
                exit_code=None if code is None else as_exit_code(code),
                weights=hash_weights(read_training_run(job.folder)) if is_trained else "",
            )
        )

    def _end_all(self) -> None:
        """End what still runs, after Ctrl-C or an error: each command saves what it has, and is waited for."""
        for one in self._running:
            keeper.ask_to_end(one.process)
        ended: list[tuple[_Running, float]] = []
        for one in self._running:
            ended.append((one, _processor_seconds()))
            keeper.end(one.process)
        self._running.clear()
        for one, before in ended:
            self._note(one, None, before)


def _explain_end(folder: Path, job: Job, code: int) -> str:
    """Say why a job that has ended is not finished."""
    if code == 0 and isinstance(job, FilesJob):
        return f"{job.module} ended without an error, and has not written {job.folder / job.last}"
    return read_last_words(log_of(folder, job)) or f"it ended with exit code {as_exit_code(code)}, and said nothing"


def read_last_words(log: Path) -> str:
    """The last error that a command has printed, or else its last line; "" when it has said nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_CHARS))
            lines = [line.strip() for line in file.read().decode("utf-8", errors="replace").splitlines()]
    except OSError:
        return ""
    errors = [line for line in lines if re.match(r"\w*[Ee]rror: ", line)]
    return (errors or [line for line in lines if line] or [""])[-1].removeprefix("error: ")


def log_of(folder: Path, job: Job) -> Path:
    """The file with the output of a job."""
    return _file_of(folder, job, ".log")


def _record_of(folder: Path, job: Job) -> Path:
    """The file in which the keeper of a job says what it runs."""
    return _file_of(folder, job, ".json")


def _file_of(folder: Path, job: Job, suffix: str) -> Path:
    return folder / LOGS_FOLDER / f"{job.name.replace('/', '.')}{suffix}"


def _processor_seconds() -> float:
    """Processor seconds of all processes that were started here and have ended, and of those that they started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ignore(_: object) -> None:
    pass


def count_by_status(states: Sequence[JobState]) -> Mapping[str, int]:
    """Count the jobs by status."""
    return Counter(state.status for state in states)
