"""Many walks side by side, bounded by their number and by the memory of their pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

from p2r.benchmarks.base import SizedSource
from p2r.errors import P2RError
from p2r.types import Sample, Trace

MOST_PICTURE_BYTES = 1_300_000_000
"""Memory for the pictures of all walks under way: with Python and the libraries a run stays under 2 GB."""

FULL_BYTES_PER_PIXEL = 4
"""Pillow keeps RGB in four bytes."""

SIZED_BYTES_PER_PIXEL, SIZED_PIXELS = 44, 4096 * 32 * 32
"""Sized, drawn on, cut out, encoded, as base64 and as a request's body, at a model's usual pixel budget; measured."""


async def walk_all(
    samples: Iterable[Sample],
    walk_one: Callable[[Sample], Awaitable[Trace]],
    *,
    num_at_once: int = 8,
    most_picture_bytes: int = MOST_PICTURE_BYTES,
) -> AsyncGenerator[Trace, None]:
    """Walk every sample, at most `num_at_once` at a time, and yield traces as they finish.

    Samples are drawn only when a place is free, so a long iterable costs no memory. Of large pictures fewer are under
    way, so that they take `most_picture_bytes` at most; one is always walked. Closing the iterator, or an exception in
    one walk, cancels the others.
    """
    waiting = iter(samples)
    running: dict[asyncio.Future[Trace], int] = {}
    drawn: tuple[Sample, int] | None = None
    try:
        while True:
            while len(running) < num_at_once:
                if drawn is None and (sample := next(waiting, None)) is not None:
                    is_sized = isinstance(sample.image, SizedSource)
                    drawn = sample, await asyncio.to_thread(estimate_bytes, sample) if is_sized else 0
                if drawn is None or (running and sum(running.values()) + drawn[1] > most_picture_bytes):
                    break
                running[asyncio.ensure_future(walk_one(drawn[0]))] = drawn[1]
                drawn = None
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del running[task]
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def estimate_bytes(sample: Sample) -> int:
    """Memory that a walk's pictures take at most, about; 0 where the size is not known without decoding."""
    if not isinstance(sample.image, SizedSource):
        return 0
    try:
        width, height = sample.image.read_size()
    except P2RError:  # the walk will say so
        return 0
    return width * height * FULL_BYTES_PER_PIXEL + min(width * height, SIZED_PIXELS) * SIZED_BYTES_PER_PIXEL
