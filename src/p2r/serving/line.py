"""The line of requests: some are answered, some wait, and the rest is told to come back.

A request takes its place when its body is there, so that nobody holds one by sending slowly. Bodies that are on their
way have no place, but a share of the memory that the bodies of a full line may have.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

from p2r.serving.refusal import LONGEST_RETRY_AFTER_S, TOO_MANY, UNAVAILABLE, Refused
from p2r.serving.settings import Limits

RECENT = 0.1
"""The weight of the newest request in the mean of their seconds."""


class RequestLine:
    """Admits requests.

    Args:
        limits: how many requests are answered at a time, and wait for that. All bodies together may have as many bytes
            as a full line of the largest.
    """

    def __init__(self, limits: Limits) -> None:
        self._num_at_once = limits.num_at_once
        self._most_inside = limits.num_at_once + limits.num_waiting
        self._most_bytes = self._most_inside * limits.body_bytes
        self._slots = asyncio.Semaphore(limits.num_at_once)
        self._mean_s = 1.0
        self._closed = asyncio.Event()
        self.num_inside = self.num_running = self.num_bytes = 0

    @property
    def is_closed(self) -> bool:
        """True once nobody is admitted any more."""
        return self._closed.is_set()

    def close(self) -> None:
        """Admit nobody any more; who waits is sent away, and who is answered stays."""
        self._closed.set()

    @contextmanager
    def body(self) -> Generator[Callable[[int], None], None, None]:
        """Yield a function that is told the bytes of a body as they come; leaving the block gives them back.

        What is yielded raises Refused when there is no memory for them.
        """
        held = 0

        def hold(num_bytes: int) -> None:
            nonlocal held
            if self.num_bytes + num_bytes > self._most_bytes:
                raise self._refuse("the requests that are on their way are too large together")
            held += num_bytes
            self.num_bytes += num_bytes

        try:
            yield hold
        finally:
            self.num_bytes -= held

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None, None]:
        """Take a place in the line. Raises Refused when there is none."""
        self.check_place()
        self.num_inside += 1
        try:
            yield
        finally:
            self.num_inside -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        """Wait for the request's turn. Raises Refused when the line is closed meanwhile."""
        await self._wait()
        started = asyncio.get_running_loop().time()
        self.num_running += 1
        try:
            yield
        finally:
            self.num_running -= 1
            self._slots.release()
            seconds = asyncio.get_running_loop().time() - started
            self._mean_s += RECENT * (seconds - self._mean_s)

    async def _wait(self) -> None:
        """Take a slot, unless the line is closed first."""
        self._check_open()
        if not self._slots.locked():
            await self._slots.acquire()
            return
        slot, closed = asyncio.ensure_future(self._slots.acquire()), asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({slot, closed}, return_when=asyncio.FIRST_COMPLETED)
            self._check_open()
        except BaseException:
            if slot.done() and not slot.cancelled():
                self._slots.release()
            slot.cancel()
            raise
        finally:
            closed.cancel()

    def check_place(self) -> None:
        """Raise Refused when there is no place in the line."""
        self._check_open()
        if self.num_inside >= self._most_inside:
            raise self._refuse("too many requests are waiting")

    def _refuse(self, said: str) -> Refused:
        return Refused(TOO_MANY, said, code="queue_full", retry_after_s=self._estimate_wait_s())

    def _check_open(self) -> None:
        if self.is_closed:
            raise Refused(UNAVAILABLE, "the server is ending", code="shutting_down", retry_after_s=5)

    def _estimate_wait_s(self) -> int:
        wait_s = self._mean_s * max(1, self.num_inside - self.num_running) / self._num_at_once
        return min(max(1, math.ceil(wait_s)), LONGEST_RETRY_AFTER_S)
