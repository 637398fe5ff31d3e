"""Reasoners that are shown a part of the evidence: nothing, the annotated image, or the crops.

The wording stays that of the full evidence, so that only the images differ; the trace still records everything that
was gathered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image

from p2r.dialogue import Budget, Decoding, Model, Prompt
from p2r.evidence import Evidence
from p2r.images.budget import fit
from p2r.prompts import PromptSet
from p2r.roles.base import DEFAULT_DECODING, Reasoner, hash_roles
from p2r.roles.given import NoPerceiver
from p2r.roles.model import PlainReasoner
from p2r.types import Completion, Sample


@dataclass(frozen=True, slots=True)
class BlindReasoner:
    """Answers without seeing anything, to measure what the question and its options give away."""

    model: Model
    prompts: PromptSet
    decoding: Decoding = DEFAULT_DECODING.reasoner

    @property
    def fingerprint(self) -> str:
        return hash_roles(NoPerceiver(), PlainReasoner(self.model, self.prompts, decoding=self.decoding)) + "-blind"

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        text = self.prompts.direct(sample)
        return await self.model.complete(
            Prompt("reasoner", self.prompts.system, text, (), self.prompts.fingerprint), self.decoding
        )


@dataclass(frozen=True, slots=True)
class PartialReasoner:
    """Shows `reasoner` a part of the evidence: only the annotated image, or only the crops."""

    reasoner: Reasoner
    part: Literal["annotated", "crops"]

    @property
    def fingerprint(self) -> str:
        return f"{self.reasoner.fingerprint}-{self.part}"

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        if not evidence.record.annotated:
            return await self.reasoner(sample, evidence)
        kept = (
            replace(evidence, crops=())
            if self.part == "annotated"
            else CropsAlone(evidence.full_image, evidence.boxes, evidence.crops, evidence.record)
        )
        return await self.reasoner(sample, kept)


class CropsAlone(Evidence):
    """Evidence without the annotated image."""

    @property
    def images(self) -> tuple[Image.Image, ...]:
        return self.crops

    def sized(self, budget: Budget) -> tuple[Image.Image, ...]:
        return tuple(fit(crop, budget) for crop in self.crops)
