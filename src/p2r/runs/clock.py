"""How long a run took by the wall clock, over all the calls that went on with it.

Seconds of walks that run side by side overlap, so their sum says nothing of throughput. A run's folder therefore
keeps, for every call of the command, the seconds since its first question and how many were asked. A line is appended
once the clock has moved by a second and by one per cent, so that a kill loses no more, and a long run stays short.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from p2r.files import explain_write_errors
from p2r.types import Frozen

CLOCK_FILE = "clock.jsonl"
LEAST_STEP_S, LEAST_STEP_SHARE = 1.0, 0.01


class Session(Frozen):
    """One call of the command: when it began (UTC), how long it asked, and how many samples it asked."""

    started: str
    seconds: float
    num_asked: int


class RunClock:
    """Writes the wall time of a run into its folder. Use as a context manager around the asking."""

    def __init__(self, folder: Path, *, now: Callable[[], float] = time.monotonic) -> None:
        self.path, self._now = folder / CLOCK_FILE, now
        self._started = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        self._begin_s = self._written_s = 0.0
        self._num_asked = 0

    def count(self, num_asked: int) -> None:
        """So many samples are asked by now, failed ones among them."""
        self._num_asked = num_asked
        now = self._now()
        if num_asked and now - self._written_s >= max(LEAST_STEP_S, LEAST_STEP_SHARE * (now - self._begin_s)):
            self._write(now)

    def __enter__(self) -> RunClock:
        self._begin_s = self._written_s = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._num_asked:
            self._write(self._now())

    def _write(self, now: float) -> None:
        session = Session(started=self._started, seconds=round(now - self._begin_s, 3), num_asked=self._num_asked)
        with explain_write_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(session.model_dump_json() + "\n")
        self._written_s = now


def read_sessions(folder: Path) -> tuple[Session, ...]:
    """Every call that asked something, in order; of its lines the last counts. () for a run without a clock.

    A line that is broken by a kill is left out: it takes a few seconds with it, and no answer.
    """
    path = folder / CLOCK_FILE
    sessions: dict[str, Session] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            session = Session.model_validate_json(line)
        except ValidationError:
            continue
        sessions[session.started] = session
    return tuple(sessions.values())


def write_sessions(folder: Path, sessions: Iterable[Session]) -> None:
    """Raises StorageError when the folder cannot be written."""
    path = folder / CLOCK_FILE
    with explain_write_errors(path):
        path.write_text("".join(session.model_dump_json() + "\n" for session in sessions), encoding="utf-8")
