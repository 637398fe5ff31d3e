"""The line of requests: some are answered, some wait, and the rest is told to come back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from p2r.serving.refusal import LONGEST_RETRY_AFTER_S, TOO_MANY, UNAVAILABLE, Refused

RECENT = 0.1
"""The weight of the newest request in the mean of their seconds."""


class RequestLine:
    """Admits requests.

    Args:
        num_at_once: requests that are answered at a time.
        num_waiting: the most that wait for that.
    """

    def __init__(self, num_at_once: int, num_waiting: int) -> None:
        self._num_at_once, self._num_waiting = num_at_once, num_waiting
        self._slots = asyncio.Semaphore(num_at_once)
        self._mean_s = 1.0
        self._closed = asyncio.Event()
        self.num_inside = self.num_running = 0

    @property
    def is_closed(self) -> bool:
        """True once nobody is admitted any more."""
        return self._closed.is_set()

    def close(self) -> None:
        """Admit nobody any more; who waits is sent away, and who is answered stays."""
        self._closed.set()

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None, None]:
        """Take a place in the line, before anything of the request is read. Raises Refused when there is none."""
        self._check_open()
        if self.num_inside >= self._num_at_once + self._num_waiting:
            raise Refused(
                TOO_MANY, "too many requests are waiting", code="queue_full", retry_after_s=self._estimate_wait_s()
            )
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

    def _check_open(self) -> None:
        if self.is_closed:
            raise Refused(UNAVAILABLE, "the server is ending", code="shutting_down", retry_after_s=5)

    def _estimate_wait_s(self) -> int:
        wait_s = self._mean_s * max(1, self.num_inside - self.num_running) / self._num_at_once
        return min(max(1, math.ceil(wait_s)), LONGEST_RETRY_AFTER_S)
