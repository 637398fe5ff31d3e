"""Many walks side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

from p2r.types import Sample, Trace


async def walk_all(
    samples: Iterable[Sample], walk_one: Callable[[Sample], Awaitable[Trace]], *, num_at_once: int = 8
) -> AsyncGenerator[Trace, None]:
    """Walk every sample, at most `num_at_once` at a time, and yield traces as they finish.

    Samples are drawn only when a place is free, so a long iterable costs no memory. Closing the iterator, or an
    exception in one walk, cancels the others.
    """
    waiting = iter(samples)
    running: set[asyncio.Future[Trace]] = set()
    try:
        while True:
            while len(running) < num_at_once and (sample := next(waiting, None)) is not None:
                running.add(asyncio.ensure_future(walk_one(sample)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
