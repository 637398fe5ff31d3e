"""Walks of training: retried once when they fail, and with a reply that is there already."""

from __future__ import annotations

from dataclasses import dataclass

from p2r.evidence import Evidence
from p2r.pipeline import walk
from p2r.pixels import Picture
from p2r.roles import Perceiver, Reasoner
from p2r.roles.base import hash_parts
from p2r.types import Completion, Judge, Sample, Trace


async def walk_twice(
    sample: Sample,
    perceiver: Perceiver,
    reasoner: Reasoner | None = None,
    judge: Judge | None = None,
    *,
    picture: Picture,
) -> Trace:
    """`walk`, and once more if that fails: a server that was restarting, a judge that was cut off."""
    trace = await walk(sample, perceiver, reasoner, judge, picture=picture)
    if trace.failure is None:
        return trace
    return await walk(sample, perceiver, reasoner, judge, picture=picture)


@dataclass(frozen=True, slots=True)
class GivenReasoner:
    """Says what it was given: a reply that the policy has sampled."""

    completion: Completion

    @property
    def fingerprint(self) -> str:
        return hash_parts({"source": "given", "model": self.completion.model})

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        return self.completion
