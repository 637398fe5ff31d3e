"""What `p2r train` leaves in a run's folder: one class for each file, constructed by training, validated by readers.

recipe.json       `p2r.config.Recipe`, defaults included
metrics.jsonl     a `Step` per line
probes.jsonl      a `Probe` per line
rollouts.jsonl    a `QuotedGroup` per line: one group of each step, word by word
changes.jsonl     a `RecipeChange` per line: settings that a resumed run had otherwise
rewards.json      `RewardSources`, if the recipe names reward functions
difficulty/       a folder per phase with pre-rollouts, as `p2r.runs.difficulty` says

A run that is still under way, or was killed, is read like a finished one: a last line that was cut off is left out.
Older versions wrote fewer keys and newer ones may write more, so missing keys have no value and unknown keys are
ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from p2r.config import DataSettings, GuardSettings, Phase, PhaseKind, Recipe, find_measuring_phase, load_recipe
from p2r.errors import count_nouns
from p2r.runs.difficulty import DIFFICULTY_FILE, RowDifficulty, is_measurement
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training_log import Probe, QuotedGroup, RecipeChange, Step, read_rows

METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE = "metrics.jsonl", "probes.jsonl", "rollouts.jsonl"
CHANGES_FILE, REWARDS_FILE = "changes.jsonl", "rewards.json"
EVIDENCE_FOLDER, DIFFICULTY_FOLDER = "evidence", "difficulty"
BEST_FOLDER = "best"


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """A phase as far as it has come.

    num_planned: steps it is to have; None when that depends on the rows.
    checkpoint: the folder of its final checkpoint; None while there is none.
    """

    name: str
    kind: PhaseKind
    lr: float
    num_planned: int | None
    steps: tuple[Step, ...]
    probes: tuple[Probe, ...]
    checkpoint: Path | None

    @property
    def is_finished(self) -> bool:
        return self.checkpoint is not None

    @property
    def is_supervised(self) -> bool:
        """True for one that learns from demonstrations: it has no rollouts, and its loss is that of their words."""
        return self.kind == "sft"


@dataclass(frozen=True, slots=True)
class Measurement:
    """The difficulty of rows by right answers, as far as it is known. phases: those that keep rows by it."""

    phases: tuple[str, ...]
    num_rollouts: int
    rows: tuple[RowDifficulty, ...]


@dataclass(frozen=True, slots=True, repr=False)
class TrainingRun:
    """A run's folder.

    recipe: as of the last call. changes: what earlier calls had otherwise.
    phases: those that have begun.
    written: when the last step was logged.
    measurements: those that phases with `data.difficulty.keep` share.
    """

    folder: Path
    recipe: Recipe
    phases: tuple[PhaseRecord, ...]
    groups: tuple[QuotedGroup, ...]
    changes: tuple[RecipeChange, ...]
    written: datetime | None
    measurements: tuple[Measurement, ...] = ()

    @property
    def is_finished(self) -> bool:
        return len(self.phases) == len(self.recipe.phases()) and all(phase.is_finished for phase in self.phases)

    @property
    def steps(self) -> list[Step]:
        return [step for phase in self.phases for step in phase.steps]

    @property
    def probes(self) -> list[Probe]:
        return [probe for phase in self.phases for probe in phase.probes]

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the newest finished phase's checkpoint, which `load_model` takes; None before the first."""
        return next((phase.checkpoint for phase in reversed(self.phases) if phase.checkpoint), None)

    def data_of(self, group: QuotedGroup) -> DataSettings:
        """Return where the rows of a group's phase come from."""
        own = (phase.data for phase in self.recipe.phases() if phase.name == group.phase)
        return next(own, self.recipe.data)

    def guards_at(self, phase: str, step: int) -> GuardSettings:
        """Return the guards' settings when a phase took a step: those of the recipe, without what was changed later."""
        order = {each.name: index for index, each in enumerate(self.recipe.phases())}
        settings: dict[str, object] = self.recipe.guards.model_dump()
        for change in reversed(self.changes):
            if (order[phase], step) > (order.get(change.phase, -1), change.step):
                break
            for name, was in change.was.items():
                table, _, setting = name.partition(".")
                if table == "guards" and was is not None:
                    settings[setting] = was
        return GuardSettings.model_validate(settings)

    @property
    def best(self) -> Path | None:
        """The folder of the checkpoint with the best probe; None without a probe."""
        folder = self.folder / BEST_FOLDER
        return folder if folder.is_dir() else None

    def __repr__(self) -> str:
        finished = sum(phase.is_finished for phase in self.phases)
        accuracy = self.probes[-1].accuracy_p2r if self.probes else None
        probed = "no probe" if accuracy is None else f"last probe {accuracy:.1%} right"
        return (
            f"<TrainingRun in {self.folder}: {finished} of {count_nouns(len(self.recipe.phases()), 'phase')} finished, "
            f"{count_nouns(len(self.steps), 'step')}, {probed}>"
        )


def read_training_run(folder: str | Path) -> TrainingRun:
    """Read a run's folder, whether the run has finished or not.

    Raises:
        StorageError: a log is broken.
        ConfigError: the recipe is not usable.
    """
    folder = Path(folder).expanduser()
    recipe = load_recipe(folder / RECIPE_FILE)
    steps = read_rows(folder / METRICS_FILE, Step)
    probes = read_rows(folder / PROBES_FILE, Probe)
    phases = tuple(
        PhaseRecord(
            name=phase.name,
            kind=phase.kind,
            lr=phase.lr,
            num_planned=phase.steps,
            steps=tuple(row for row in steps if row.phase == phase.name),
            probes=tuple(row for row in probes if row.phase == phase.name),
            checkpoint=folder / phase.name if (folder / phase.name).is_dir() else None,
        )
        for phase in recipe.phases()
    )
    metrics = folder / METRICS_FILE
    return TrainingRun(
        folder=folder,
        recipe=recipe,
        phases=tuple(phase for phase in phases if phase.steps or phase.probes or phase.is_finished),
        groups=tuple(read_rows(folder / ROLLOUTS_FILE, QuotedGroup)),
        changes=tuple(read_rows(folder / CHANGES_FILE, RecipeChange)),
        written=datetime.fromtimestamp(metrics.stat().st_mtime) if steps else None,
        measurements=tuple(_read_measurements(folder, recipe)),
    )


def _read_measurements(folder: Path, recipe: Recipe) -> Iterator[Measurement]:
    sharing: dict[str, list[Phase]] = {}
    for phase in recipe.rewarded_phases:
        if phase.data.difficulty is not None and phase.data.difficulty.keep is not None:
            sharing.setdefault(find_measuring_phase(recipe, phase).name, []).append(phase)
    for name, phases in sharing.items():
        rule = phases[0].data.difficulty
        # Each of several processes has written its share into a folder of its own.
        own = sorted((folder / DIFFICULTY_FOLDER).glob(f"{name}.*"), key=natural_order)
        places = [folder / DIFFICULTY_FOLDER / name, *own]
        rows = [row for place in places for row in read_rows(place / DIFFICULTY_FILE, RowDifficulty)]
        if rule is not None and rows:
            yield Measurement(tuple(phase.name for phase in phases), rule.num_rollouts, tuple(rows))


def find_training_folders(place: Path) -> list[Path]:
    """The folders of training runs at or below `place`, sorted by name, with 2 before 10."""
    if (place / RECIPE_FILE).is_file():
        return [place]
    return sorted((path.parent for path in place.rglob(RECIPE_FILE)), key=natural_order)


def is_evidence(folder: Path) -> bool:
    """Tell whether a folder holds what the frozen perceiver of a training, or of a measurement, saw.

    That is not a run of its own.
    """
    place = folder.parent
    if folder.name == EVIDENCE_FOLDER and is_measurement(place):
        return True
    return place.name == EVIDENCE_FOLDER and (place.parent / RECIPE_FILE).is_file()


def natural_order(name: Path | str) -> list[tuple[int, str]]:
    """A sort key that puts 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(name))]
