"""From the answers on disk to numbers: each cell's values by seed and question."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2r.boxes import hits, mean_best_iou
from p2r.errors import StorageError, count_nouns
from p2r.evaluation.cost import find_speed, measure_cost
from p2r.evaluation.metrics import saw_all_evidence
from p2r.evaluation.misses import MISSES, Miss, find_miss
from p2r.evaluation.scoring import ScoredRow, ScoredRun, chance_of, score_run
from p2r.modes import LOOKING
from p2r.runs.evaluation import SAMPLES_FILE, Run, SampleFacts
from p2r.runs.training import TrainingRun, read_training_run
from p2r.statistics import Part, mean_of
from p2r.studies.cells import OF_BOXES, Measure, StudyCell
from p2r.studies.joblist import BESIDE, list_seeds, make_asking, who_is_asked
from p2r.studies.jobs import TrainJob
from p2r.studies.study import Study


@dataclass(frozen=True, slots=True)
class CellValues:
    """The answers to a cell, as numbers.

    seeds: those with answers, in the order of the rows of `values_SQ`; (None,) where nothing is trained.
    num_seeds_planned: how many there will be.
    values_SQ: NaN where a question failed, was not judged, or has no such measure.
    chance: the mean accuracy of guessing; None for other measures, and where nobody states it.
    trained_as: the arms whose training gave the checkpoints; cells of two phases of one arm share its seeds.
    questions: a name that cells with the same questions share.
    """

    cell: StudyCell
    trained_as: str
    questions: str
    seeds: tuple[int | None, ...]
    num_seeds_planned: int
    values_SQ: NDArray[np.float64]
    clusters_Q: tuple[str, ...]
    chance: float | None

    @property
    def is_known(self) -> bool:
        """Tell whether each seed has a value."""
        return bool(self.seeds) and not np.isnan(self.values_SQ).all(axis=1).any()

    @property
    def num_failed(self) -> int:
        """Questions without a value, over all seeds."""
        return int(np.isnan(self.values_SQ).sum())

    def as_part(self, weight: float) -> Part:
        """The cell as a part of a weighted sum."""
        trained = "" if self.seeds == (None,) else f"{self.trained_as} {self.seeds}"
        return Part(weight, self.values_SQ, trained, self.questions, self.clusters_Q, self._find_span())

    def _find_span(self) -> float:
        """The most by which two values can differ: 1 for a share, what was seen for others."""
        if self.cell.measure in _COUNTED:
            return float(np.nanmax(self.values_SQ) - np.nanmin(self.values_SQ))
        return 1.0


@dataclass(slots=True)
class Reader:
    """Reads each run and each training once."""

    study: Study
    _trainings: dict[Path, TrainingRun | None] = field(default_factory=dict[Path, "TrainingRun | None"])
    _asked: dict[str, Run] = field(default_factory=dict[str, Run])
    _runs: dict[tuple[str, str, str | None, int | None, str], ScoredRun | None] = field(
        default_factory=dict[tuple[str, str, str | None, int | None, str], "ScoredRun | None"]
    )

    def training_of(self, job: TrainJob) -> TrainingRun | None:
        """Read a job's training so far; None before it has begun. Raises StorageError for a broken log."""
        if job.folder not in self._trainings:
            self._trainings[job.folder] = read_training_run(job.folder) if job.has_begun() else None
        return self._trainings[job.folder]

    def read(self, cell: StudyCell, seed: int | None) -> ScoredRun | None:
        """The run that a cell is about, judged; None until every question of it has been asked."""
        key = (*who_is_asked(cell), seed, cell.mode)
        if key not in self._runs:
            run = make_asking(self.study, *who_is_asked(cell), seed, (cell.mode,)).read(cell.mode)
            self._runs[key] = None
            if run is not None:
                self._check_questions(cell, run)
                if run.facts.keys() <= run.traces.keys():
                    self._runs[key] = score_run(run)
        return self._runs[key]

    def _check_questions(self, cell: StudyCell, run: Run) -> None:
        """Raise StorageError where an evaluation has answers to two sets of questions, as when its file was changed."""
        other = self._asked.setdefault(self.study.name_questions(cell.evaluation), run)
        if len(run.facts) != len(other.facts):
            raise StorageError(
                f"{run.place} lists {count_nouns(len(run.facts), 'question')}, and {other.place} lists "
                f"{len(other.facts)} of the same: {SAMPLES_FILE} of one of them is damaged",
                hint="restore that file; or move its folder away, and ask again with `resume=True`",
            )
        hashes = {each.settings.benchmark_fingerprint for each in (run, other)} - {""}
        if len(hashes) > 1 or list(run.facts) != list(other.facts):
            raise StorageError(
                f"{run.place} holds answers to other questions than {other.place}",
                hint="move away the one that is damaged or not asked any more, and ask again with `resume=True`",
            )

    def values_of(self, cell: StudyCell) -> CellValues:
        """A cell's values, of the seeds that have been asked so far."""
        planned = list_seeds(self.study, cell.arm, cell.perceiver)
        runs = {seed: run for seed in planned if (run := self.read(cell, seed)) is not None}
        facts = next((run.facts for run in runs.values()), dict[str, SampleFacts]())
        names = [name for name, fact in facts.items() if cell.category in ("", fact.category)]
        measure = MEASURES[cell.measure]
        rows = [_measure_run(run, names, measure, needs_looking=cell.measure in OF_BOXES) for run in runs.values()]
        asked = [row for run in list(runs.values())[:1] for row in run.rows if row.facts.sample_id in set(names)]
        return CellValues(
            cell=cell,
            trained_as=self._name_training(cell),
            questions=f"{self.study.name_questions(cell.evaluation)}/{cell.category}",
            seeds=tuple(runs),
            num_seeds_planned=len(planned),
            values_SQ=np.vstack(rows) if rows else np.empty((0, len(names))),
            clusters_Q=tuple(facts[name].cluster for name in names),
            chance=chance_of(asked) if cell.measure == "accuracy" and asked else None,
        )

    def speed_of(self, cell: StudyCell) -> float | None:
        """Samples per second of wall time, the mean over the seeds so far."""
        planned = list_seeds(self.study, cell.arm, cell.perceiver)
        runs = [run for seed in planned if (run := self.read(cell, seed)) is not None]
        return mean_of([speed for run in runs if (speed := find_speed(run)) is not None])

    def _name_training(self, cell: StudyCell) -> str:
        names = [cell.arm] if cell.perceiver is None else [cell.perceiver, cell.arm]
        roots = [self.study.arms[name].of or name for name in names if self.study.seeds_of(name)]
        return BESIDE.join(dict.fromkeys(roots))


def _measure_run(
    run: ScoredRun,
    names: Sequence[str],
    measure: Callable[[ScoredRow, ScoredRun], float | None],
    *,
    needs_looking: bool,
) -> list[float]:
    """The value of each question; NaN where there is none."""
    rows = {row.facts.sample_id: row for row in run.rows}
    looks = run.settings.mode in LOOKING

    def value(name: str) -> float:
        row = rows.get(name)
        if row is None or row.trace.failure is not None or (needs_looking and not looks):
            return math.nan
        found = measure(row, run)
        return math.nan if found is None else float(found)

    return [value(name) for name in names]


def _accuracy(row: ScoredRow, run: ScoredRun) -> float | None:
    return row.score(run.scorers[0]) if run.scorers[0] in row.verdicts else None


def _is_miss(miss: Miss) -> Callable[[ScoredRow, ScoredRun], float | None]:
    """Tell whether an answer is wrong for this reason; None where that cannot be said."""

    def measure(row: ScoredRow, run: ScoredRun) -> float | None:
        found = find_miss(row, run)
        return None if found is None else float(found == miss)

    return measure


def _of_gold(measure: Callable[[ScoredRow], float]) -> Callable[[ScoredRow, ScoredRun], float | None]:
    """A measure that needs boxes, and gold boxes to compare them with."""
    return lambda row, _: measure(row) if row.facts.gold_boxes and row.trace.perception is not None else None


def _count_tokens(row: ScoredRow, _: ScoredRun) -> float | None:
    return measure_cost([row]).tokens


MEASURES: Mapping[Measure, Callable[[ScoredRow, ScoredRun], float | None]] = {
    "accuracy": _accuracy,
    "hit rate": _of_gold(lambda row: hits(row.trace.boxes, row.facts.gold_boxes)),
    "in crops": _of_gold(lambda row: saw_all_evidence(row.trace, row.facts.gold_boxes)),
    "IoU": _of_gold(lambda row: mean_best_iou(row.trace.boxes, row.facts.gold_boxes)),
    "boxes": lambda row, _: None if row.trace.perception is None else len(row.trace.boxes),
    "box size": lambda row, _: mean_of([box.area for box in row.trace.boxes]),
    "tokens": _count_tokens,
    **{miss: _is_miss(miss) for miss in MISSES},
}
"""Each measure of a question, by the name that a study gives it; see `p2r.evaluation.metrics.Summary`.

"box size" is the mean area of the boxes as a share of the image; "tokens" are those read and written for the answer. A
miss is the share of questions that are answered wrong for this reason; see `p2r.evaluation.misses`.
"""
_COUNTED: frozenset[Measure] = frozenset({"boxes", "tokens"})
