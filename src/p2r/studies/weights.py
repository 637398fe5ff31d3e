"""Hashes of the weights that a study's trainings leave, so that another machine can tell whether it has the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from p2r.evaluation.tables import MISSING, Table
from p2r.models.checkpoint import fingerprint_weights
from p2r.runs.training import TrainingRun
from p2r.studies.joblist import list_trainings
from p2r.studies.jobs import show_command
from p2r.studies.measure import Reader
from p2r.studies.sessions import read_sessions
from p2r.studies.study import Study

NOWHERE = Path()
"""Holds no run, so that a command is that of a fresh start."""


def hash_weights(run: TrainingRun) -> str:
    """The hash of the last weights of a finished run; "" before its end, and where they were left behind."""
    if not run.is_finished or run.checkpoint is None or not any(run.checkpoint.rglob("*.safetensors")):
        return ""
    return fingerprint_weights(run.checkpoint)


def tabulate_weights(study: Study, reader: Reader) -> Table:
    """A hash of the weights that each training left, and the command that leaves the same ones on such a machine.

    Where a study was copied without its weights, the hash is the one that was written down when they were made.
    """
    written = {each.job: each.weights for each in read_sessions(study.out) if each.weights}
    rows = tuple(
        (job.name, hash_weights(run) or written.get(job.name, MISSING), show_command(replace(job, folder=NOWHERE)))
        for job in list_trainings(study)
        if (run := reader.training_of(job)) is not None and run.is_finished
    )
    return Table(
        title="Weights",
        columns=("arm and seed", "SHA-256", "command"),
        rows=rows or ((MISSING,) * 3,),
        notes=(
            f"The first 16 digits of the hash of the last checkpoint's weights. With OMP_NUM_THREADS={study.threads}, "
            "the same versions, and the same kind of processor the command leaves the same weights, bit by bit.",
        ),
    )
