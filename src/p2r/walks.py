"""Many walks side by side, bounded by their number and by the memory of their images; perceptions that they share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Literal

from p2r.errors import ConfigError, P2RError, excerpt
from p2r.images.budget import FullImage, hash_pixels
from p2r.images.load import SizedSource
from p2r.models.cached import is_drawn
from p2r.roles import ModelPerceiver, Perceiver
from p2r.types import Perception, Sample, Trace

MOST_IMAGE_BYTES = 1_300_000_000
"""Memory for the images of all walks under way. With Python and the libraries a run then stays under 2 GB."""

FULL_BYTES_PER_PIXEL = 4
"""Pillow keeps RGB in four bytes."""

SIZED_BYTES_PER_PIXEL, SIZED_PIXELS = 44, 4096 * 32 * 32
"""Measured for an image at a model's usual budget: sized, annotated, cropped, encoded, as base64 and in a request."""


async def walk_all(
    samples: Iterable[Sample],
    walk_one: Callable[[Sample], Awaitable[Trace]],
    *,
    num_at_once: int = 8,
    most_image_bytes: int = MOST_IMAGE_BYTES,
) -> AsyncGenerator[Trace, None]:
    """Walk every sample, at most `num_at_once` at a time, and yield traces as they finish.

    A sample is drawn only when a place is free, so a long iterable costs no memory. Fewer samples with large images are
    under way, so that their images take at most `most_image_bytes`; one is always walked. Closing the iterator, or an
    exception in one walk, cancels the others.

    Raises:
        ConfigError: `num_at_once` is not at least 1, or something drawn is not a sample.
    """
    if num_at_once < 1:
        raise ConfigError(f"num_at_once is {num_at_once}, so that nothing would be asked", hint="it is at least 1")
    waiting = _draw(samples)
    running: dict[asyncio.Future[Trace], int] = {}
    drawn: tuple[Sample, int] | None = None
    try:
        while True:
            while len(running) < num_at_once:
                if drawn is None and (sample := next(waiting, None)) is not None:
                    is_sized = isinstance(sample.image, SizedSource)
                    drawn = sample, await asyncio.to_thread(estimate_bytes, sample) if is_sized else 0
                if drawn is None or (running and sum(running.values()) + drawn[1] > most_image_bytes):
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


def _draw(samples: Iterable[Sample]) -> Iterator[Sample]:
    _check_list(samples)
    for sample in samples:
        check_sample(sample)
        yield sample


def _check_list(samples: object) -> None:
    if isinstance(samples, (str, Sample)) or not isinstance(samples, Iterable):
        raise ConfigError(f"samples is {excerpt(samples)}, not a list of samples", hint=_SAMPLE_HINT)


def check_sample(sample: object) -> None:
    """Raise ConfigError for what is not a sample, such as the path of an image."""
    if not isinstance(sample, Sample):
        raise ConfigError(f"{excerpt(sample)} is not a sample, so it cannot be asked", hint=_SAMPLE_HINT)


_SAMPLE_HINT = "make each with make_sample(image, question), and give several as a list"


def estimate_bytes(sample: Sample) -> int:
    """Estimate the most memory that a walk's images take; 0 where the size is not known without decoding."""
    if not isinstance(sample.image, SizedSource):
        return 0
    try:
        width, height = sample.image.read_size()
    except P2RError:  # the walk will report it
        return 0
    return width * height * FULL_BYTES_PER_PIXEL + min(width * height, SIZED_PIXELS) * SIZED_BYTES_PER_PIXEL


Sharing = Literal["same-prompt", "across-rotations", "never"]
Question = tuple[str, ...]
Key = tuple[Question, str]
"""A question, and the hash of the image as the perceiver sees it."""

MOST_KEPT = 1024
"""Perceptions that are kept. Samples of one image or question follow each other, so older ones are rarely needed."""


class SharedPerceiver:
    """A perceiver that is asked once for all samples that ask the same thing. A failure is not shared.

    Args:
        samples: all samples to come, so that images are compared only where a question comes more than once.
        across_rotations: also share among the samples of a cluster, whatever the order of their options.
    """

    def __init__(self, perceiver: ModelPerceiver, samples: Sequence[Sample], *, across_rotations: bool = False) -> None:
        self._perceiver, self._across_rotations = perceiver, across_rotations
        counts = Counter(map(self._name_question, samples))
        self._repeated = {question for question, count in counts.items() if count > 1}
        self._kept: dict[Key, Perception] = {}
        self._under_way: dict[Key, asyncio.Event] = {}

    @property
    def fingerprint(self) -> str:
        """The perceiver's fingerprint, which only sharing across rotations changes."""
        return self._perceiver.fingerprint + ("-across-rotations" if self._across_rotations else "")

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        question = self._name_question(sample)
        if question not in self._repeated:
            return await self._perceiver(sample, full_image)
        key = await asyncio.to_thread(self._make_key, question, full_image)
        while (kept := self._kept.get(key)) is None and key in self._under_way:
            await self._under_way[key].wait()
        if kept is not None:
            return _mark(kept)
        done = self._under_way[key] = asyncio.Event()
        try:
            perception = await self._perceiver(sample, full_image)
            self._keep(key, perception)
        finally:
            del self._under_way[key]
            done.set()
        return perception

    def _name_question(self, sample: Sample) -> Question:
        if self._across_rotations and sample.cluster:
            return (sample.cluster,)
        return (sample.question, str(sample.options_in_question), *sample.options)

    def _make_key(self, question: Question, full_image: FullImage) -> Key:
        return question, hash_pixels(full_image.fitted(self._perceiver.shown_budget))

    def _keep(self, key: Key, perception: Perception) -> None:
        if len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = perception


def share_perception_of(perceiver: Perceiver, sharing: Sharing, samples: Sequence[Sample]) -> Perceiver:
    """Return the perceiver that `sharing` asks for. Only a model's greedy or seeded replies are shared."""
    if sharing == "never" or not isinstance(perceiver, ModelPerceiver) or is_drawn(perceiver.decoding):
        return perceiver
    return SharedPerceiver(perceiver, samples, across_rotations=sharing == "across-rotations")


def _mark(perception: Perception) -> Perception:
    completion = perception.completion
    if completion is None:
        return perception
    return perception.model_copy(update={"completion": completion.model_copy(update={"reused": "shared"})})
