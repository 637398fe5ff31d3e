"""From scored samples to the columns that each benchmark's own code and the paper print.

HR-Bench: the official score is the mean over the four cycles of each cycle's mean; the authors take the mean over rows,
which is the same only when the cycles are complete. MME-RealWorld: Overall is the micro average over all samples, as in
the paper's Table 2. Nothing is rounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from p2r.benchmarks.base import Aggregation

Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Scored:
    """One judged sample. A failed one is not among them: it is neither right nor wrong.

    score: 0 to 1; accuracy for a choice.
    cluster, cycle: which question, and which rotation of it (HR-Bench).
    """

    score: float
    cluster: str = ""
    cycle: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A mean with what it was counted from. `percent` is None without samples."""

    num_samples: int
    sum_scores: float

    @property
    def percent(self) -> float | None:
        return self.sum_scores / self.num_samples * 100 if self.num_samples else None

    @property
    def share(self) -> float | None:
        """The mean score, 0 to 1; None without samples."""
        return None if self.percent is None else self.percent / 100


@dataclass(frozen=True, slots=True)
class CycleTable:
    """HR-Bench, for one column.

    official: mean over cycles of the mean per cycle, 0 to 1; None without samples.
    rows: the authors' mean over rows.
    cycles: each cycle, by number.
    strict: questions that are right in every one of their cycles; only questions with all cycles count.
    num_incomplete: questions that lack a cycle.
    """

    official: float | None
    rows: Share
    cycles: Mapping[int, Share]
    strict: Share
    num_incomplete: int


MME_COLUMNS: Mapping[str, str] = {
    "OCR": "OCR with Complex Context",
    "RS": "Remote Sensing",
    "DT": "Diagram and Table",
    "MO": "Monitoring",
    "AD": "Autonomous_Driving",
}


def group_columns(
    items: Iterable[Item], category_of: Callable[[Item], str], aggregation: Aggregation
) -> dict[str, list[Item]]:
    """The columns of a benchmark: all items first, then those of each category.

    MME-RealWorld has the columns of the paper's Table 2, in its order: "Overall", "Perception OCR", ..., "Reasoning
    AD", and last "Perception" and "Reasoning", the micro averages of each task. Columns without an item are left out.
    Other benchmarks have "overall", and their categories by name where there are several.
    """
    whole = list(items)
    by_category = _group(whole, category_of)
    if aggregation != "mme":
        names = sorted(name for name in by_category if name)
        return {"overall": whole} | ({name: by_category[name] for name in names} if len(names) > 1 else {})
    columns = {"Overall": whole}
    for task in ("Perception", "Reasoning"):
        for column, subtask in MME_COLUMNS.items():
            columns[f"{task} {column}"] = by_category.get(f"{task}/{subtask}", [])
    for task in ("Perception", "Reasoning"):
        columns[task] = [item for item in whole if category_of(item).startswith(f"{task}/")]
    return {name: column for name, column in columns.items() if column or name == "Overall"}


def aggregate(scored: Sequence[Scored], aggregation: Aggregation) -> float | None:
    """The official score of one column, 0 to 1; None without samples."""
    return aggregate_cycles(scored).official if aggregation == "cycles" else count_share(scored).share


def aggregate_cycles(scored: Sequence[Scored], *, num_cycles: int = 4) -> CycleTable:
    """The scores of one HR-Bench column.

    Raises:
        ValueError: a sample has no cycle.
    """
    by_cycle = _group(scored, _read_cycle)
    cycles = {cycle: count_share(by_cycle[cycle]) for cycle in sorted(by_cycle)}
    percents = [share.percent for share in cycles.values() if share.percent is not None]
    questions = _group(scored, lambda sample: sample.cluster).values()
    complete = [rows for rows in questions if {row.cycle for row in rows} == set(range(num_cycles))]
    return CycleTable(
        official=sum(percents) / len(percents) / 100 if percents else None,
        rows=count_share(scored),
        cycles=cycles,
        strict=Share(len(complete), sum(all(row.score == 1.0 for row in rows) for rows in complete)),
        num_incomplete=len(questions) - len(complete),
    )


def count_share(scored: Iterable[Scored]) -> Share:
    """The mean over samples."""
    scores = [sample.score for sample in scored]
    return Share(len(scores), sum(scores))


def _read_cycle(sample: Scored) -> int:
    if sample.cycle is None:
        raise ValueError("a sample has no cycle; only HR-Bench has cycles")
    return sample.cycle


def _group(items: Iterable[Item], key_of: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key_of(item)].append(item)
    return groups
