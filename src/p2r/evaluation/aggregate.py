"""From scored samples to the tables that each benchmark's own code and the paper print.

HR-Bench: the official score is the mean over the four cycles of each cycle's mean; the authors take the mean over rows,
which is the same only when the cycles are complete. MME-RealWorld: Overall is the micro average over all samples, as in
the paper's Table 2. Nothing is rounded, and shares are percentages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Scored:
    """One judged sample. What failed is not among them: it is neither right nor wrong.

    score: 0 to 1; accuracy for a choice.
    cluster, cycle: which question, and which rotation of it (HR-Bench).
    num_boxes: boxes of the perceiver, None when there was none.
    """

    category: str
    score: float
    cluster: str = ""
    cycle: int | None = None
    num_boxes: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A mean with what it was counted from. `percent` is None without samples."""

    num_samples: int
    sum_scores: float

    @property
    def percent(self) -> float | None:
        return self.sum_scores / self.num_samples * 100 if self.num_samples else None


@dataclass(frozen=True, slots=True)
class CycleTable:
    """HR-Bench, for one category or all.

    official: mean over cycles of the mean per cycle, in per cent; None without samples.
    rows: the authors' mean over rows.
    cycles: each cycle, by number.
    strict: questions that are right in every one of their cycles; only those whose cycles are complete count.
    num_incomplete: questions of which a cycle is missing.
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


def count_share(scored: Iterable[Scored]) -> Share:
    scores = [sample.score for sample in scored]
    return Share(len(scores), sum(scores))


def aggregate_categories(scored: Iterable[Scored]) -> dict[str, Share]:
    """ "overall", then each category by name: V*'s two types, or any other benchmark's."""
    samples = list(scored)
    by_category = _group(samples, lambda sample: sample.category)
    return {"overall": count_share(samples)} | {name: count_share(by_category[name]) for name in sorted(by_category)}


def aggregate_cycles(scored: Iterable[Scored], *, num_cycles: int = 4) -> dict[str, CycleTable]:
    """HR-Bench: "overall", then each category ("single" is the paper's FSP, "cross" its FCP).

    Raises:
        ValueError: a sample without a cycle.
    """
    samples = list(scored)
    if any(sample.cycle is None for sample in samples):
        raise ValueError("a sample has no cycle; only HR-Bench has cycles")
    by_category = _group(samples, lambda sample: sample.category)
    groups = {"overall": samples} | {name: by_category[name] for name in sorted(by_category)}
    return {name: _aggregate_cycles(group, num_cycles) for name, group in groups.items()}


def aggregate_mme(scored: Iterable[Scored]) -> dict[str, Share]:
    """MME-RealWorld as in the paper's Table 2: "Overall", then "Perception OCR", "Perception RS", ... in its order.

    Columns without a sample are left out (there is no Reasoning RS). "Perception" and "Reasoning", the micro averages
    of each task, come last.
    """
    samples = list(scored)
    by_category = _group(samples, lambda sample: sample.category)
    table = {"Overall": count_share(samples)}
    for task in ("Perception", "Reasoning"):
        for column, subtask in MME_COLUMNS.items():
            if found := by_category.get(f"{task}/{subtask}"):
                table[f"{task} {column}"] = count_share(found)
    for task in ("Perception", "Reasoning"):
        if found := [sample for sample in samples if sample.category.startswith(f"{task}/")]:
            table[task] = count_share(found)
    return table


def make_release_table(scored: Iterable[Scored]) -> dict[str, dict[str, float]]:
    """The table that the authors' release prints for V*, MME-RealWorld and (a table for each size) HR-Bench.

    Returns:
        "overall" and each category -> "accuracy" in per cent and, when any sample has boxes counted, "bbox_count", the
        mean over the samples that have; NaN in a category where none has.
    """
    samples = list(scored)
    if not samples:
        return {"overall": {"accuracy": 0.0}}
    counts_boxes = any(sample.num_boxes is not None for sample in samples)
    by_category = _group(samples, lambda sample: sample.category)
    groups = {"overall": samples} | {name: by_category[name] for name in sorted(by_category)}
    table: dict[str, dict[str, float]] = {}
    for name, group in groups.items():
        share = count_share(group)
        table[name] = {"accuracy": share.sum_scores / share.num_samples * 100}
        if counts_boxes:
            counts = [sample.num_boxes for sample in group if sample.num_boxes is not None]
            table[name]["bbox_count"] = sum(counts) / len(counts) if counts else float("nan")
    return table


def _aggregate_cycles(samples: Sequence[Scored], num_cycles: int) -> CycleTable:
    by_cycle = _group(samples, lambda sample: sample.cycle if sample.cycle is not None else -1)
    cycles = {cycle: count_share(by_cycle[cycle]) for cycle in sorted(by_cycle)}
    percents = [share.percent for share in cycles.values() if share.percent is not None]
    questions = _group(samples, lambda sample: sample.cluster).values()
    complete = [rows for rows in questions if {row.cycle for row in rows} == set(range(num_cycles))]
    return CycleTable(
        official=sum(percents) / len(percents) if percents else None,
        rows=count_share(samples),
        cycles=cycles,
        strict=Share(len(complete), sum(all(row.score == 1.0 for row in rows) for rows in complete)),
        num_incomplete=len(questions) - len(complete),
    )


def _group(samples: Iterable[Scored], key_of: Callable[[Scored], Key]) -> dict[Key, list[Scored]]:
    groups: dict[Key, list[Scored]] = defaultdict(list)
    for sample in samples:
        groups[key_of(sample)].append(sample)
    return groups
