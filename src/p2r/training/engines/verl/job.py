"""Files that a run and verl's workers hand each other: pickles in the run's folder, which all machines share."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from p2r.config import Phase, Recipe
from p2r.files import explain_write_errors, replace_file
from p2r.images.budget import FullImage
from p2r.runs.training_log import QuotedGroup
from p2r.training.groups import RolloutStats
from p2r.training.watch.metrics import GroupFacts
from p2r.types import Sample, Trace

Handed = TypeVar("Handed")


@dataclass(frozen=True, slots=True)
class Job:
    """A phase, for verl.

    source: the folder of the checkpoint that it starts from.
    rows: of all steps, in the order in which they are asked.
    evidence: where the frozen perceiver looks, by the rows' ids, in a reasoner phase.
    """

    recipe: Recipe
    phase: Phase
    source: Path
    num_steps: int
    rows: Sequence[Sample] = ()
    evidence: Mapping[str, Trace] = field(default_factory=dict[str, Trace])

    async def perceive(self, rows: Sequence[Sample], full_images: Sequence[FullImage]) -> list[Trace]:
        """Repeat what is known, as `EvidenceStore` does."""
        return [self.evidence[row.id] for row in rows]


@dataclass(frozen=True, slots=True)
class Record:
    """The fate of a row, for the run. outcomes: of its rollouts, see `FailureGauge.count`. facts: of its groups."""

    outcomes: Sequence[str]
    facts: Sequence[GroupFacts]
    stats: RolloutStats
    quoted: QuotedGroup | None


def records_of(job: Path, step: int) -> Path:
    """The folder of the records of a step, counted from 1. job: the file of the job."""
    return job.with_name("records") / f"{step:06d}"


def hand_over(path: Path, value: Job | Record) -> None:
    """Write a job or a record, whole or not at all. Raises StorageError."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, pickle.dumps(value))


def take_over(path: Path, kind: type[Handed]) -> Handed:
    """Read what `hand_over` wrote."""
    value = pickle.loads(path.read_bytes())
    assert isinstance(value, kind), f"{path} holds another kind"
    return value
