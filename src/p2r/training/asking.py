"""From rows to prompts of the policy: lines 8 and 16 to 18 of algorithm 1.

What fails twice is left out, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from p2r.config import Phase
from p2r.evidence import gather
from p2r.images.budget import FullImage
from p2r.prompts import PromptSet
from p2r.roles import perceiver_prompt, reasoner_prompt
from p2r.training.engines.base import Actor
from p2r.training.failures import FailureGauge
from p2r.training.groups import Asked, RolloutStats
from p2r.types import Perception, Sample, Trace

Made = TypeVar("Made")

NOWHERE = Perception(source="none", boxes=())
"""The perception of `answerer`: the whole image."""

MOST_HELD_PX = 2**28
"""Pixels of a step's images that stay decoded until they are judged: 1 GiB, and as much at most for sized copies."""

OpenedRow = tuple[Sample, FullImage]
Question = tuple[str, Sample, FullImage, Perception]
"""The text that seeds depend on, the row with its image, and the boxes to answer on."""


def open_row(row: Sample) -> OpenedRow:
    """Decode the image of a row. Raises a P2RError when it cannot be."""
    return row, FullImage(row.image.load(), row.image.load)


class EvidenceSource(Protocol):
    """Tells where the frozen perceiver looks, as `EvidenceStore` does."""

    async def perceive(self, rows: Sequence[Sample], full_images: Sequence[FullImage]) -> list[Trace]: ...


class Holding:
    """Holds the images of a step's prompts, as many as it may, and frees the others, which are decoded again later."""

    def __init__(self) -> None:
        self._num_px = 0

    def hold(self, asked: Sequence[Asked]) -> None:
        for image in {id(one.full_image): one.full_image for one in asked}.values():
            self._num_px += math.prod(image.size)
            if self._num_px > MOST_HELD_PX:
                image.free()


class Asking:
    """Makes the prompts of one phase.

    actor: encodes them.
    evidence: where the frozen perceiver looks; needed in a reasoner phase.
    group_size: the rollouts that a row's failure counts as.
    """

    def __init__(
        self,
        phase: Phase,
        actor: Actor,
        prompts: PromptSet,
        evidence: EvidenceSource | None,
        failures: FailureGauge,
        group_size: int,
    ) -> None:
        self._phase, self._actor, self._prompts = phase, actor, prompts
        self._evidence, self._failures, self._group_size = evidence, failures, group_size

    async def for_boxes(self, rows: Sequence[Sample], stats: RolloutStats) -> list[Asked]:
        """x = (I, T_p(Q)) for each row."""

        def ask(row: OpenedRow) -> Asked:
            sample, full_image = row
            prompt = perceiver_prompt(self._prompts, sample, full_image, self._actor.profile.budget)
            return Asked(sample.id, sample, full_image, prompt.images[0].size, self._actor.encode(prompt))

        opened = await self._open(rows, stats)
        with stats.timing("prepare"):
            return _present(await self._failures.try_each(opened, ask, self._group_size))

    async def for_answers(self, rows: Sequence[Sample], stats: RolloutStats) -> list[Asked]:
        """x = (I_a, I_c, Q) for each row, on evidence from the frozen perceiver."""
        looked = await self._perceive(await self._open(rows, stats), stats)  # line 16: B
        questions = [(sample.id, sample, full_image, perception) for (sample, full_image), perception in looked]
        return _present(await self.on_boxes(questions, self._group_size, stats))  # lines 17 and 18

    async def on_boxes(
        self, questions: Sequence[Question], num_replies: int, stats: RolloutStats
    ) -> list[Asked | None]:
        """x = (I_a, I_c, Q) for each question; None where it fails, which counts as so many rollouts."""

        def ask(question: Question) -> Asked:
            name, sample, full_image, perception = question
            evidence = gather(full_image, perception.boxes)
            prompt = reasoner_prompt(self._prompts, sample, evidence, self._actor.profile.budget)
            return Asked(name, sample, full_image, prompt.images[0].size, self._actor.encode(prompt), perception)

        with stats.timing("prepare"):
            return await self._failures.try_each(questions, ask, num_replies)

    async def _open(self, rows: Sequence[Sample], stats: RolloutStats) -> list[OpenedRow]:
        """Decode the image of each row."""

        with stats.timing("prepare"):
            return _present(await self._failures.try_each(rows, open_row, self._group_size))

    async def _perceive(self, rows: Sequence[OpenedRow], stats: RolloutStats) -> list[tuple[OpenedRow, Perception]]:
        """B of the frozen perceiver. `answerer` perceives nothing."""
        with stats.timing("perceive"):
            if self._phase.kind == "answerer":
                return [(row, NOWHERE) for row in rows]
            assert self._evidence is not None, "a reasoner phase needs an evidence store"
            traces = await self._evidence.perceive([sample for sample, _ in rows], [image for _, image in rows])
            causes = [trace.failure.message for trace in traces if trace.failure]
            self._failures.count(causes * self._group_size)
            stats.frames.count(trace.perception for trace in traces)
            return [(row, trace.perception) for row, trace in zip(rows, traces, strict=True) if trace.perception]


def _present(items: Sequence[Made | None]) -> list[Made]:
    return [item for item in items if item is not None]
