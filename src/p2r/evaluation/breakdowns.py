"""What is behind an accuracy: rotations, letters, boxes, and what went wrong. Each is one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from p2r.boxes import hits, localize, mean_best_iou, tagged_iou
from p2r.errors import count_nouns
from p2r.evaluation.aggregate import aggregate_cycles
from p2r.evaluation.counts import DEFINITIONS, count_troubles
from p2r.evaluation.scoring import (
    ScoredRow,
    ScoredRun,
    chance_of,
    group_rows,
    interval_of,
    interval_of_values,
    to_scored,
)
from p2r.evaluation.tables import MISSING, Table, show_interval, show_number, show_share
from p2r.modes import LOOKING
from p2r.statistics import Interval, mean_of, wilson
from p2r.types import LETTERS


def tabulate_rotations(run: ScoredRun) -> Table:
    """HR-Bench: the strict score, and how far the cycles are apart."""
    rows: list[tuple[str, ...]] = []
    incomplete = 0
    for name, group in group_rows(run, "robust").items():
        table = aggregate_cycles([to_scored(row, "robust") for row in group])
        percents = [share.percent for share in table.cycles.values() if share.percent is not None]
        strict = table.strict
        interval = wilson(round(strict.sum_scores), strict.num_samples) if strict.num_samples else None
        rows.append(
            (
                name,
                str(strict.num_samples),
                show_share(strict.share),
                show_interval(interval),
                show_share(table.rows.share),
                *(show_share(table.cycles[k].share if k in table.cycles else None) for k in range(4)),
                show_share((max(percents) - min(percents)) / 100 if percents else None),
            )
        )
        incomplete = max(incomplete, table.num_incomplete)
    cycles = tuple(f"cycle {k}" for k in range(4))
    notes = ["all: questions answered right in each of their four rotations; n counts questions."]
    if incomplete:
        notes.append(f"Not counted, for lack of a rotation: {count_nouns(incomplete, 'question')}.")
    return Table(
        title="Rotations (robust)",
        columns=("", "n", "all", "95% interval", "mean of rows", *cycles, "spread"),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def tabulate_letters(rows: Sequence[ScoredRow]) -> Table:
    """Tabulate which letters are chosen, and which are right."""
    choices = [row for row in rows if row.trace.options and row.trace.target]
    right = Counter((row.trace.target or "").upper() for row in choices)
    chosen = Counter(row.answers["robust"].letter or MISSING for row in choices)
    num_read = sum(count for letter, count in chosen.items() if letter != MISSING)
    body: list[tuple[str, ...]] = []
    moved = 0.0
    for letter in [letter for letter in LETTERS if right[letter] or chosen[letter]]:
        group = [row for row in choices if (row.trace.target or "").upper() == letter]
        correct = sum(row.verdicts["robust"].correct for row in group)
        share_right = right[letter] / len(choices)
        share_chosen = chosen[letter] / num_read if num_read else 0.0
        moved += abs(share_chosen - share_right) / 2
        body.append(
            (
                letter,
                str(right[letter]),
                str(chosen[letter]),
                show_share(share_right),
                show_share(share_chosen),
                show_share(correct / len(group) if group else None),
                show_interval(interval_of(group, "robust")) if group else MISSING,
            )
        )
    return Table(
        title="Letters (robust)",
        columns=("letter", "n right", "n chosen", "right", "chosen", "accuracy", "95% interval"),
        rows=tuple(body),
        notes=(
            f"Position bias {show_share(moved)}: half the sum of |chosen - right|, 0 without bias; "
            f"{chosen[MISSING]} of {len(choices)} answers have no letter.",
        ),
    )


def tabulate_boxes(rows: Sequence[ScoredRow]) -> Table:
    """Tabulate how well boxes fit the gold boxes, by every measure."""
    found = [localize(row.trace.boxes, row.facts.gold_boxes) for row in rows]
    readings: list[tuple[str, str, list[float]]] = [
        ("hit rate, any", "the center of some box lies in some gold box (the paper's)", [f.hit_any for f in found]),
        ("hit rate, all", "every gold box is hit", [f.hit_all for f in found]),
        ("gold boxes hit", "share of a sample's gold boxes", [f.hit_share_of_gold for f in found]),
        ("boxes that hit", "share of a sample's boxes", [f.hit_share_of_boxes for f in found]),
        ("IoU, per gold box", "mean best IoU of a sample's gold boxes", [f.mean_iou_of_gold for f in found]),
        ("IoU, per box", "mean best IoU of a sample's boxes", [f.mean_iou_of_boxes for f in found]),
        ("IoU, best pair", "best IoU of any pair", [f.best_iou for f in found]),
    ]
    body = [
        (
            name,
            str(len(v)),
            show_number(mean_of(v), 3),
            _show_bounds(interval_of_values(list(map(float, v)), rows)),
            meaning,
        )
        for name, meaning, v in readings
    ]
    num_boxes = mean_of([len(row.trace.boxes) for row in rows])
    areas = [box.area for row in rows for box in row.trace.boxes]
    return Table(
        title="Boxes",
        columns=("", "n", "mean", "95% interval", "measured per sample; 0 without boxes"),
        rows=tuple(body),
        notes=(
            f"{show_number(num_boxes)} boxes per sample, each {show_share(mean_of(areas))} of the image on average.",
        ),
    )


def tabulate_targets(run: ScoredRun) -> Table:
    """TreeBench as its authors score it, in every column: the letter alone, and the IoU with the targets.

    They read the boxes in <box> tags of the reply; those that were looked at are measured the same way.
    """
    looks = run.settings.mode in LOOKING
    body: list[tuple[str, ...]] = []
    for name, rows in group_rows(run, "treevgr").items():
        tagged = [_tagged_iou(row) for row in rows]
        looked = [mean_best_iou(row.trace.boxes, row.facts.gold_boxes) for row in rows] if looks else []
        body.append(
            (
                name,
                str(len(rows)),
                show_share(mean_of([row.score("treevgr") for row in rows])),
                show_number(mean_of(tagged), 3),
                _show_bounds(interval_of_values(tagged, rows)) if rows else MISSING,
                show_number(mean_of(looked), 3),
                _show_bounds(interval_of_values(looked, rows)) if looked else MISSING,
            )
        )
    return Table(
        title="TreeBench as its authors score it (treevgr)",
        columns=("", "n", "accuracy", "mIoU, tags", "95% interval", "mIoU, boxes", "95% interval"),
        rows=tuple(body),
        notes=(
            "Accuracy: the first answer tag is the letter and nothing else. mIoU: mean over a question's targets of "
            "the best IoU, 0 without targets; of the boxes in <box> tags of the reply, taken as pixels of the image, "
            "which models of other frames do not write, and of the boxes where the model looked.",
        ),
    )


def _tagged_iou(row: ScoredRow) -> float:
    reasoning, evidence = row.trace.reasoning, row.trace.evidence
    if reasoning is None or evidence is None:
        return 0.0
    return tagged_iou(reasoning.text, row.facts.gold_boxes, evidence.image_wh)


def tabulate_hits(rows: Sequence[ScoredRow]) -> Table:
    """Accuracy after a hit and after a miss: errors of reasoning apart from errors of perception."""
    groups = {
        "hit": [row for row in rows if hits(row.trace.boxes, row.facts.gold_boxes)],
        "miss": [row for row in rows if not hits(row.trace.boxes, row.facts.gold_boxes)],
    }
    return Table(
        title="Accuracy by hit or miss (robust)",
        columns=("boxes", "n", "chance", "accuracy", "95% interval"),
        rows=tuple(
            (
                name,
                str(len(group)),
                show_share(chance_of(group)),
                show_share(mean_of([row.score("robust") for row in group])),
                show_interval(interval_of(group, "robust")) if group else MISSING,
            )
            for name, group in groups.items()
        ),
        notes=(
            "A wrong answer after a hit is an error of reasoning; after a miss, most likely an error of perception.",
        ),
    )


def tabulate_troubles(run: ScoredRun) -> Table:
    """Tabulate what went wrong apart from wrong answers; see DEFINITIONS."""
    counts = count_troubles(run)
    return Table(
        title="Counted apart",
        columns=("", "samples", "of", "meaning"),
        rows=tuple((name, str(count), str(len(run.rows)), DEFINITIONS[name]) for name, count in counts.items()),
    )


def _show_bounds(interval: Interval) -> str:
    return f"{interval.low:.3f} - {interval.high:.3f}"
