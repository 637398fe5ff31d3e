"""Roles whose replies are drawn with a seed for each sample, so that repeated samples get different draws."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TypeVar

from p2r.dialogue import Decoding
from p2r.evidence import Evidence
from p2r.images.budget import FullImage
from p2r.roles.base import Perceiver, Reasoner
from p2r.roles.model import EvidenceReasoner, ModelPerceiver, PlainReasoner
from p2r.roles.partial import BlindReasoner, PartialReasoner
from p2r.roles.tools import ToolReasoner
from p2r.types import Completion, Perception, Sample

Role = TypeVar("Role", Perceiver, Reasoner)


@dataclass(frozen=True, slots=True)
class DrawnPerceiver:
    """Perceives as `perceiver` does, with the sample's own seed."""

    perceiver: Perceiver

    @property
    def fingerprint(self) -> str:
        return self.perceiver.fingerprint

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        return await give_seed(self.perceiver, sample)(sample, full_image)


@dataclass(frozen=True, slots=True)
class DrawnReasoner:
    """Reasons as `reasoner` does, with the sample's own seed."""

    reasoner: Reasoner

    @property
    def fingerprint(self) -> str:
        return self.reasoner.fingerprint

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        return await give_seed(self.reasoner, sample)(sample, evidence)


def give_seed(role: Role, sample: Sample) -> Role:
    """Return a role whose decoding has a seed made of its own and the sample's id; greedy ones stay as they are."""
    if isinstance(role, PartialReasoner):
        return replace(role, reasoner=give_seed(role.reasoner, sample))
    if isinstance(role, (ModelPerceiver, EvidenceReasoner, PlainReasoner, BlindReasoner, ToolReasoner)):
        return replace(role, decoding=_give_seed(role.decoding, sample))
    return role


def _give_seed(decoding: Decoding, sample: Sample) -> Decoding:
    if not decoding.temperature or decoding.seed is None:
        return decoding
    digest = hashlib.sha256(f"{decoding.seed} {sample.id}".encode()).digest()
    return decoding.model_copy(update={"seed": int.from_bytes(digest[:4], "big") >> 1})  # servers take 31 bits
