"""What `p2r train` has written so far: its recipe, its phases with their steps and probes, and groups word by word.

A run that still goes on, or was killed, is read like one that has ended: a last line without an end is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate
from pathlib import Path

from pydantic import JsonValue, ValidationError

from p2r.config import ActiveRole, Recipe, load_recipe
from p2r.errors import StorageError
from p2r.files import read_log
from p2r.training.watch.guards import find_collapse
from p2r.training.watch.trackers import METRICS_FILE, PROBES_FILE, RECIPE_FILE, ROLLOUTS_FILE, Row
from p2r.types import Frozen, Trace


class QuotedRollout(Frozen):
    """A rollout as `dynamics.quote_group` writes it."""

    text: str
    reward: float | None
    advantage: float
    terms: Mapping[str, float]
    trace: Trace | None


class QuotedGroup(Frozen):
    """A group of one step, word by word."""

    phase: str
    step: int
    sample_id: str
    role: ActiveRole
    rollouts: tuple[QuotedRollout, ...]


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """A phase as far as it has come.

    num_planned: steps it is to have; None when that depends on the rows.
    is_finished: its checkpoint is there.
    """

    name: str
    lr: float
    num_planned: int | None
    steps: tuple[Row, ...]
    probes: tuple[Row, ...]
    is_finished: bool


@dataclass(frozen=True, slots=True)
class Alarm:
    """A guard that saw a collapse after each step from `first` to `last` of a phase. text: what it said first."""

    phase: str
    first: int
    last: int
    text: str


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A run's folder. phases: those that have begun. written: when the last step was."""

    folder: Path
    recipe: Recipe
    phases: tuple[PhaseRecord, ...]
    groups: tuple[Row, ...]
    written: datetime | None

    @property
    def is_finished(self) -> bool:
        return len(self.phases) == len(self.recipe.phases()) and all(phase.is_finished for phase in self.phases)

    @property
    def probes(self) -> list[Row]:
        return [probe for phase in self.phases for probe in phase.probes]

    @property
    def num_steps(self) -> int:
        return sum(len(phase.steps) for phase in self.phases)


def find_training_folders(place: Path) -> list[Path]:
    """The runs of `p2r train` in a folder or below it, in the order of their names, 2 before 10."""
    if (place / RECIPE_FILE).is_file():
        return [place]
    return sorted((path.parent for path in place.rglob(RECIPE_FILE)), key=_natural)


def read_training_run(folder: Path) -> TrainingRun:
    """Raises StorageError for a broken log, ConfigError for a recipe that is none."""
    recipe = load_recipe(folder / RECIPE_FILE)
    steps, probes, groups = (_read(folder / file) for file in (METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE))
    phases = tuple(
        PhaseRecord(
            name=phase.name,
            lr=phase.lr,
            num_planned=phase.steps,
            steps=tuple(row for row in steps if row.get("phase") == phase.name),
            probes=tuple(row for row in probes if row.get("phase") == phase.name),
            is_finished=(folder / phase.name).is_dir(),
        )
        for phase in recipe.phases()
    )
    metrics = folder / METRICS_FILE
    return TrainingRun(
        folder=folder,
        recipe=recipe,
        phases=tuple(phase for phase in phases if phase.steps or phase.probes or phase.is_finished),
        groups=tuple(groups),
        written=datetime.fromtimestamp(metrics.stat().st_mtime) if steps else None,
    )


def parse_group(run: TrainingRun, row: Row) -> QuotedGroup:
    """Raises StorageError when the row is none."""
    try:
        return QuotedGroup.model_validate(row)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise StorageError(f"{run.folder / ROLLOUTS_FILE} holds a group without a usable {where}") from error


def find_alarms(run: TrainingRun) -> list[Alarm]:
    """What the guards said, or would have said with the recipe's settings, one for each time that it lasted."""
    alarms: list[Alarm] = []
    for phase in run.phases:
        ringing: dict[str, Alarm] = {}
        ended: list[Alarm] = []
        for step in range(1, len(phase.steps) + 1):
            probes = [probe for probe in phase.probes if step_of(probe) <= step]
            now = find_collapse(phase.steps[:step], probes, run.recipe.guards)
            ended += [ringing.pop(name) for name in set(ringing) - set(now)]
            for name, text in now.items():
                began = ringing.get(name, Alarm(phase.name, step, step, text))
                ringing[name] = replace(began, last=step)
        alarms += sorted([*ended, *ringing.values()], key=lambda alarm: (alarm.first, alarm.text))
    return alarms


def have_same_phases(runs: Sequence[TrainingRun]) -> bool:
    """Whether they are seeds of one schedule, say, and not a schedule and its control."""
    return len({tuple(phase.name for phase in run.recipe.phases()) for run in runs}) == 1


def place_phases(runs: Sequence[TrainingRun]) -> dict[str, tuple[int, int]]:
    """By name, from which step to which each phase lies that some run has begun: the same phases at the same place."""
    lengths: dict[str, int] = {}
    for run in runs:
        for phase in run.phases:
            lengths[phase.name] = max(lengths.get(phase.name, 0), *map(step_of, (*phase.steps, *phase.probes)), 0)
    names = sorted(lengths, key=_natural)
    ends = list(accumulate(lengths[name] for name in names))
    return {name: (end - lengths[name], end) for name, end in zip(names, ends, strict=True)}


def name_training_runs(runs: Sequence[TrainingRun]) -> list[str]:
    """By their folders' names; by their whole paths where two are called the same."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def value_of(row: Row, name: str) -> float | None:
    """A figure of a row by its name, such as timing/seconds; None where it has none."""
    value: JsonValue = dict(row)
    for part in name.split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return float(value) if isinstance(value, (int, float)) else None


def interval_of(row: Row, name: str) -> tuple[float, float] | None:
    """From where to where a figure of a probe may lie (95%); None where that is not known."""
    intervals = row.get("intervals")
    match intervals.get(name) if isinstance(intervals, dict) else None:
        case [int() | float() as low, int() | float() as high]:
            return float(low), float(high)
        case _:
            return None


def step_of(row: Row) -> int:
    return int(value_of(row, "step") or 0)


def _read(path: Path) -> list[dict[str, JsonValue]]:
    return read_log(path) if path.exists() else []


def _natural(path: Path | str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]
