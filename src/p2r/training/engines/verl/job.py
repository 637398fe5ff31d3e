"""What a run and verl's workers hand each other: pickles in the run's folder, which all machines share."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2r.config import PartnerSettings, Phase, Recipe
from p2r.dialogue import ModelProfile
from p2r.files import explain_write_errors, replace_file
from p2r.images.budget import FullImage
from p2r.models.checkpoint import open_checkpoint
from p2r.runs.training_log import QuotedGroup
from p2r.training.engines.local.policy import training_profile
from p2r.training.groups import RolloutStats
from p2r.training.lockstep import Partner
from p2r.training.partner import Unasked, is_copy_asked, is_partner_asked, open_partner
from p2r.training.watch.metrics import GroupFacts
from p2r.types import Sample, Trace

JOB_FILE, LOG_FILE, RECORDS = "job.pickle", "verl.jsonl", "records"


@dataclass(frozen=True, slots=True)
class Record:
    """The fate of a row, for the run.

    outcomes: of its rollouts: see `FailureGauge.count`.
    facts, quoted: of its groups, for the metrics, and word by word.
    """

    outcomes: Sequence[str]
    facts: Sequence[GroupFacts]
    stats: RolloutStats
    quoted: Sequence[QuotedGroup]


@dataclass(frozen=True, slots=True)
class Job:
    """A phase, for verl.

    folder: for the job, the records of its rows, and what verl writes.
    source: the folder of the checkpoint that it starts from.
    rows: of all steps, in the order in which they are asked.
    num_done: the steps that are done, of which verl has a checkpoint.
    evidence: where the frozen perceiver looks, by the rows' ids, in a reasoner phase.
    """

    recipe: Recipe
    phase: Phase
    folder: Path
    source: Path
    rows: Sequence[Sample]
    num_done: int = 0
    evidence: Mapping[str, Trace] = field(default_factory=dict[str, Trace])

    @property
    def num_steps(self) -> int:
        return len(self.rows) // self.phase.prompts_per_step

    @property
    def profile(self) -> ModelProfile:
        model = self.recipe.model
        return training_profile(open_checkpoint(self.source), model.max_pixels, model.frame)

    def checkpoint(self, step: int) -> Path:
        """The folder of the state that verl keeps after a step, counted from 1."""
        return self.folder / f"global_step_{step}"

    def records(self, step: int) -> Path:
        """The folder of the records of a step's rows."""
        return self.folder / RECORDS / f"{step:06d}"

    def open_partner(self, *, is_launched: bool = False) -> AbstractAsyncContextManager[Partner]:
        """Get the frozen role ready to be asked. is_launched: whether its server runs already."""
        settings = self.recipe.partner if is_anyone_asked(self.recipe, self.phase) else PartnerSettings()
        settings = settings.model_copy(update={"launch": None}) if is_launched else settings
        return open_partner(settings, Unasked(self.profile), self.source, self.recipe.out)

    async def perceive(self, rows: Sequence[Sample], full_images: Sequence[FullImage]) -> list[Trace]:
        """Repeat what is known, as `EvidenceStore` does."""
        return [self.evidence[row.id] for row in rows]


def is_anyone_asked(recipe: Recipe, phase: Phase) -> bool:
    """Tell whether the frozen role answers or judges in a phase, if only for the metrics."""
    return is_partner_asked(recipe, phase) or is_copy_asked(recipe, phase)


def hand_over(path: Path, value: Job | Record) -> None:
    """Write a job or a record, whole or not at all. Raises StorageError."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, pickle.dumps(value))


def take_over(path: Path) -> Any:  # noqa: ANN401  # whoever reads it knows what it is
    """Read what `hand_over` wrote."""
    return pickle.loads(path.read_bytes())
