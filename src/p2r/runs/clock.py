"""clock.jsonl: how long a run took by the wall clock, over all the calls that resumed it.

Seconds of walks that run side by side overlap, so their sum says nothing about throughput. A run's folder therefore
records, for every call of the command, the seconds since its first question and how many samples it asked. A line is
appended once the clock has moved by a second and by one per cent, so a kill loses no more than that, and the file of a
long run stays short.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from p2r.files import Log, read_lines
from p2r.types import Frozen

CLOCK_FILE = "clock.jsonl"
LEAST_STEP_S, LEAST_STEP_SHARE = 1.0, 0.01


class Session(Frozen):
    """One call of the command: when it began (UTC), how many seconds it asked, and how many samples it asked.

    num_unseen: the samples of which a server altered images; their traces say so as well, until they are asked again.
    """

    started: str
    seconds: float
    num_asked: int
    num_unseen: int = 0


class RunClock:
    """Record a run's wall time, in its folder if it has one. Use as a context manager around the asking.

    session: this call up to the last line; None before the first.
    """

    def __init__(self, folder: Path | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._path, self._now = None if folder is None else folder / CLOCK_FILE, now
        self._started = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        self._begin_s = self._written_s = 0.0
        self._num_asked = self._num_unseen = 0
        self.session: Session | None = None

    def count(self, num_asked: int, num_unseen: int = 0) -> None:
        """Note how many samples were asked so far, failed ones included; see `Session`."""
        self._num_asked, self._num_unseen = num_asked, num_unseen
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
        seconds = round(now - self._begin_s, 3)
        self.session = Session(
            started=self._started, seconds=seconds, num_asked=self._num_asked, num_unseen=self._num_unseen
        )
        self._written_s = now
        if self._path is not None:
            with Log(self._path) as log:
                log.write(self.session)


def read_sessions(folder: Path) -> tuple[Session, ...]:
    """Every call that asked something, in order; of several lines about one call, the last counts.

    A broken line is left out: it costs a few seconds of the clock, and no answer. A run without a clock gives ().
    """
    path = folder / CLOCK_FILE
    sessions: dict[str, Session] = {}
    for line in read_lines(path) if path.exists() else ():
        try:
            session = Session.model_validate_json(line)
        except ValidationError:
            continue
        sessions[session.started] = session
    return tuple(sessions.values())
