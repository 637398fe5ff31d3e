"""What each job of a study took: a line for each time that its command ran."""

from __future__ import annotations

from pathlib import Path

from p2r.runs.training_log import read_rows
from p2r.types import Frozen

SESSIONS_FILE = "sessions.jsonl"


class JobSession(Frozen):
    """A line of sessions.jsonl: one time that a job's command ran.

    wall_s, processor_s: of the command and all that it started. exit_code: as a shell gives it; None after Ctrl-C.
    weights: the hash of the weights that a finished training left; "" for all else.
    """

    job: str
    started: str
    wall_s: float
    processor_s: float
    exit_code: int | None
    weights: str = ""


def read_sessions(folder: Path) -> list[JobSession]:
    """Read what jobs have taken; [] before any has run. Raises StorageError for a broken line."""
    return read_rows(folder / SESSIONS_FILE, JobSession)
