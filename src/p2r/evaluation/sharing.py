"""Samples that ask the same thing of the same picture are looked at once, also while the first look is under way.

The same thing is the same question and options about the same pixels. The rotations of one HR-Bench question state
their options in another order, so they share only when asked to ("across-rotations"); the official protocol looks at
each. A shared perception is marked: its completion's `reused` is "shared".
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from p2r.models.cached import is_drawn
from p2r.pixels import Picture, hash_pixels
from p2r.roles import ModelPerceiver, Perceiver
from p2r.types import Perception, Sample

Sharing = Literal["same-prompt", "across-rotations", "never"]
Question = tuple[str, ...]
Key = tuple[Question, str]
"""A question, and the hash of the picture as the perceiver sees it."""

MOST_KEPT = 1024
"""Perceptions. Rows of one picture or question stand together in a run, so that older ones are hardly asked for."""


class SharedPerceiver:
    """Asks `perceiver` once for all samples that ask the same thing. What failed is not shared: each tries itself.

    samples: those that will come, so that pictures are compared only where a question comes more than once.
    across_rotations: also samples of one cluster, whatever the order of their options.
    """

    def __init__(self, perceiver: ModelPerceiver, samples: Sequence[Sample], *, across_rotations: bool = False) -> None:
        self._perceiver, self._across_rotations = perceiver, across_rotations
        counts = Counter(map(self._name_question, samples))
        self._repeated = {question for question, count in counts.items() if count > 1}
        self._kept: dict[Key, Perception] = {}
        self._under_way: dict[Key, asyncio.Event] = {}

    @property
    def fingerprint(self) -> str:
        """The perceiver's: sharing a prompt changes nothing, sharing a question does."""
        return self._perceiver.fingerprint + ("-across-rotations" if self._across_rotations else "")

    async def __call__(self, sample: Sample, picture: Picture) -> Perception:
        question = self._name_question(sample)
        if question not in self._repeated:
            return await self._perceiver(sample, picture)
        key = await asyncio.to_thread(self._make_key, question, picture)
        while (kept := self._kept.get(key)) is None and key in self._under_way:
            await self._under_way[key].wait()
        if kept is not None:
            return _mark(kept)
        done = self._under_way[key] = asyncio.Event()
        try:
            perception = await self._perceiver(sample, picture)
            self._keep(key, perception)
        finally:
            del self._under_way[key]
            done.set()
        return perception

    def _name_question(self, sample: Sample) -> Question:
        if self._across_rotations and sample.cluster:
            return (sample.cluster,)
        return (sample.question, str(sample.options_in_question), *sample.options)

    def _make_key(self, question: Question, picture: Picture) -> Key:
        budget = self._perceiver.budget or self._perceiver.model.profile.budget
        return question, hash_pixels(picture.fitted(budget))

    def _keep(self, key: Key, perception: Perception) -> None:
        if len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = perception


def share_perception_of(perceiver: Perceiver, sharing: Sharing, samples: Sequence[Sample]) -> Perceiver:
    """The perceiver as `sharing` wants it for these samples. Only a model's greedy or seeded replies are shared."""
    if sharing == "never" or not isinstance(perceiver, ModelPerceiver) or is_drawn(perceiver.decoding):
        return perceiver
    return SharedPerceiver(perceiver, samples, across_rotations=sharing == "across-rotations")


def _mark(perception: Perception) -> Perception:
    completion = perception.completion
    if completion is None:
        return perception
    return perception.model_copy(update={"completion": completion.model_copy(update={"reused": "shared"})})
