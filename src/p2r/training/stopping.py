"""A run that is asked to stop: by Ctrl-C, or by the SIGTERM of SLURM, Kubernetes, `docker stop` and torchrun.

The first signal leaves the rollouts or the update under way at the next token, layer or micro-batch, and the run keeps
the state of its last finished step. A second one ends the process at once, without a checkpoint, as if no training had
taken the first.

Several processes have to stop at the same point, since each of them writes its part of a checkpoint: after a part of a
step they tell each other how it went, and a request to one of them is a request to all.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from p2r.errors import P2RError, TrainingError
from p2r.signals import EXIT_OFFSET, describe_signal
from p2r.training.engines.local.distributed import World

Result = TypeVar("Result")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FINE, FAILED, STOPPED = range(3)


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and has cleaned up.

    exit_code: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, sign: signal.Signals, kept: str) -> None:
        super().__init__(f"{describe_signal(sign)}; {kept}")
        self.message = str(self)
        self.exit_code = EXIT_OFFSET + sign


class StopRequested(Exception):
    """The run stops here, because it was asked to."""


class StopRequest:
    """The signals that a run has got. `say` is told of the first, in the event loop.

    sign: the first of them. was_heeded: the run has ended early. kept: what it can be resumed from, in words.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self.was_heeded, self.kept = False, "no step was finished"
        self._say = say
        self._cancel: Callable[[], object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._is_over = self._is_said = False
        self.sign: signal.Signals | None = None

    @contextmanager
    def heeding_signals(self) -> Generator[None, None, None]:
        """Take SIGINT and SIGTERM as requests. Outside the main thread Python allows no handlers: nothing is done."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._before = {sign: signal.getsignal(sign) for sign in SIGNALS}
        for sign in SIGNALS:
            signal.signal(sign, self._handle)
        try:
            yield
        finally:
            for sign, handler in self._before.items():
                signal.signal(sign, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.sign is None:
            self.make(signal.Signals(number))
            return
        self._is_over = True
        if callable(before := self._before.get(number)):  # what the command does about it, such as noting which it was
            before(number, frame)
        raise KeyboardInterrupt

    def make(self, sign: signal.Signals) -> None:
        """Ask the run to stop."""
        self.sign = sign
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._leave)

    def check(self) -> None:
        """Leave work that keeps the event loop busy, and that calls this now and then, once a request is made.

        Raises:
            StopRequested: it was made.
        """
        if self.sign is not None:
            self._tell(self.sign)
            raise StopRequested

    def _leave(self) -> None:
        assert self.sign is not None
        self._tell(self.sign)
        if self._cancel is not None:
            self._cancel()

    def _tell(self, sign: signal.Signals) -> None:
        if not self._is_said:
            self._is_said = True
            self._say(f"{describe_signal(sign)}: stopping; a second signal stops at once, without a checkpoint")

    async def run(self, work: Awaitable[Result]) -> Result:
        """Await `work`, and leave it once a request is made. Calls may be nested: the innermost is left.

        Raises:
            StopRequested: it was made.
        """
        self._loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        around, self._cancel = self._cancel, task.cancel
        if self.sign is not None:
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            if self.sign is None or self._is_over:
                raise
            raise StopRequested from None
        finally:
            self._cancel = around

    async def run_together(self, work: Awaitable[Result], world: World, *, talks: bool = False) -> Result:
        """Await `work` in every process, and end all of them if one was asked to stop or failed.

        Args:
            talks: the processes talk to each other within `work`, so that one alone cannot leave it halfway.

        Raises:
            StopRequested: one was asked to stop.
            P2RError: this process's work failed.
            TrainingError: another's did.
        """
        result: list[Result] = []
        fate, error = FINE, None
        try:
            if talks and world.size > 1:
                result.append(await work)
            else:
                result.append(await self.run(work))
        except StopRequested:
            fate = STOPPED
        except P2RError as raised:
            fate, error = FAILED, raised
        fates = world.gather([STOPPED if fate == FINE and self.sign is not None else fate])
        if error is not None:
            raise error
        if STOPPED in fates:
            raise StopRequested
        if FAILED in fates:
            raise TrainingError("another process of the run has stopped", hint="its own message says why")
        return result[0]
