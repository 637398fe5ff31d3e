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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar, cast

from pydantic import ConfigDict, JsonValue, ValidationError

from p2r.config import ActiveRole, DataSettings, Phase, PhaseKind, Recipe, find_measuring_phase, load_recipe
from p2r.errors import StorageError, count_nouns, explain_fault
from p2r.files import BROKEN_LOG_HINT, read_log
from p2r.runs.difficulty import DIFFICULTY_FILE, RowDifficulty, is_measurement
from p2r.types import Frozen, Trace

RECIPE_FILE, METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE = "recipe.json", "metrics.jsonl", "probes.jsonl", "rollouts.jsonl"
CHANGES_FILE, REWARDS_FILE = "changes.jsonl", "rewards.json"
EVIDENCE_FOLDER, DIFFICULTY_FOLDER = "evidence", "difficulty"
BEST_FOLDER = "best"


class LogRow(Frozen):
    """A line of a training log. `phase` is the phase's name, `step` counts its steps from 1 (a probe's from 0)."""

    model_config = ConfigDict(extra="ignore")

    phase: str
    step: int


class Step(LogRow):
    """The metrics of one step; None where nothing is known.

    reward, accuracy: means over the judged rollouts.
    num_rows: rows that were drawn; num_failed_rows of them have no group.
    num_unjudged: rollouts without a reward. num_truncated: rollouts cut off at the token limit.
    mean_length, max_length: tokens of a rollout.
    dead_groups, dropped_groups: shares of groups whose rewards are all alike, or of which fewer than two were judged.
    drawn_reward, drawn_accuracy, drawn_dead_groups: of all groups that dynamic sampling drew, while the metrics beside
        them are of those that it kept; None without it. It takes a group as dead when its answers are all right or
        all wrong, however long they are.
    unique_evidence, unique_replies: share of the judged replies that differ within their group.
    num_box_replies: replies with boxes, the policy's and the frozen perceiver's. num_other_frame: those with a box that
        was left out because it does not fit the frame in which it is read.
    num_partner_calls, num_reused: calls of the frozen role, and calls that its memo answered instead.
    num_judge_calls, num_judge_reused: the same of a model that judges free answers.
    failures: rollouts without a reward, by why.
    mean_boxes, one_box, mean_box_area, hit_rate: of the perceiver's rollouts; areas are shares of the image.
    terms: mean of each reward term.
    policy, kl, entropy, clip_share, ratio: means over the response tokens; kl and entropy in nats.
    num_learned_tokens: tokens of replies that a supervised step learned; its loss is their mean negative log-prob.
    grad_norm: before clipping.
    sampler_diff, sampler_diff_max: mean and largest absolute difference between the probabilities of a token in
        training, before the first update, and in sampling. sampler_ratio: their mean ratio, training / sampling.
        sampler_kl: k3 estimate of the divergence between them, in nats.
    timing: seconds by part and tokens per second. Only these differ between a run and its repetition.
    """

    reward: float | None = None
    accuracy: float | None = None
    drawn_reward: float | None = None
    drawn_accuracy: float | None = None
    num_rows: int = 0
    num_groups: int = 0
    num_failed_rows: int = 0
    num_rollouts: int = 0
    num_unjudged: int = 0
    num_truncated: int = 0
    num_generated_tokens: int = 0
    num_learned_tokens: int = 0
    mean_length: float | None = None
    max_length: int = 0
    dead_groups: float | None = None
    dropped_groups: float | None = None
    drawn_dead_groups: float | None = None
    unique_evidence: float | None = None
    unique_replies: float | None = None
    num_box_replies: int = 0
    num_other_frame: int = 0
    num_partner_calls: int = 0
    num_reused: int = 0
    num_judge_calls: int = 0
    num_judge_reused: int = 0
    failures: Mapping[str, int] = {}
    mean_boxes: float | None = None
    one_box: float | None = None
    mean_box_area: float | None = None
    hit_rate: float | None = None
    lr: float | None = None
    terms: Mapping[str, float | None] = {}
    loss: float | None = None
    policy: float | None = None
    kl: float | None = None
    entropy: float | None = None
    clip_share: float | None = None
    ratio: float | None = None
    grad_norm: float | None = None
    sampler_diff: float | None = None
    sampler_diff_max: float | None = None
    sampler_ratio: float | None = None
    sampler_kl: float | None = None
    timing: Mapping[str, float] = {}


class Probe(LogRow):
    """The metrics of one probe: what the policy did with its questions; None where nothing is known.

    num_failed: walks that failed, in both modes. num_findable: samples with gold boxes that were looked at.
    seen_rate: share of these whose gold boxes all lie wholly in a crop.
    intervals: by metric, the ends of its 95% interval over samples.
    """

    num_samples: int = 0
    num_failed: int = 0
    num_findable: int = 0
    accuracy_p2r: float | None = None
    accuracy_direct: float | None = None
    hit_rate: float | None = None
    mean_iou: float | None = None
    seen_rate: float | None = None
    mean_boxes: float | None = None
    one_box: float | None = None
    mean_box_area: float | None = None
    intervals: Mapping[str, tuple[float, float] | None] = {}


class QuotedRollout(Frozen):
    """One rollout.

    reward, advantage: None when it was masked, because it, or too much of its group, was not judged.
    failure: why it was not judged.
    """

    model_config = ConfigDict(extra="ignore")

    text: str
    reward: float | None
    advantage: float | None
    terms: Mapping[str, float]
    failure: str = ""
    trace: Trace | None


class QuotedGroup(LogRow):
    """One group of a step, word by word."""

    sample_id: str
    role: ActiveRole
    rollouts: tuple[QuotedRollout, ...]


class RecipeChange(LogRow):
    """Settings that are others after a step than before it, by their dotted names.

    The recipe in the folder has those of `now`. What is None in one of them was not there, or not set.
    """

    was: Mapping[str, JsonValue] = {}
    now: Mapping[str, JsonValue] = {}


class RewardSources(Frozen):
    """A hash of the file that defines each reward function of the user's, by term, as the run last used it."""

    sources: Mapping[str, str]


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


RowType = TypeVar("RowType", bound=Frozen)


def read_rows(path: Path, kind: type[RowType]) -> list[RowType]:
    """The rows of a training log; [] when the file does not exist yet.

    Raises:
        StorageError: a line cannot be read, or is not a row of this kind.
    """
    rows: list[RowType] = []
    for number, row in enumerate(read_log(path) if path.exists() else [], start=1):
        try:
            rows.append(kind.model_validate(row))
        except ValidationError as error:
            raise StorageError(
                f"line {number} of {path} is not usable: {explain_fault(error.errors()[0])}", hint=BROKEN_LOG_HINT
            ) from error
    return rows


def value_of(row: Step | Probe, name: str) -> float | None:
    """A metric by its name, such as `kl` or `timing/seconds`; None where the row does not have it."""
    outer, _, inner = name.partition("/")
    value: object = getattr(row, outer, None)
    if inner:
        value = cast("Mapping[str, object]", value).get(inner) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None


def interval_of(row: Step | Probe, name: str) -> tuple[float, float] | None:
    """The ends of a metric's 95% interval; None where they are not known."""
    return row.intervals.get(name) if isinstance(row, Probe) else None
