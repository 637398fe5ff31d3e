"""How written boxes miss: by dropped digits, or by the wrong place.

    python -m recipes.nano.misses                   # nano-base and nano, seed 7000, 300 questions
    python -m recipes.nano.misses --model nano-base --model runs/seed0/1-reasoner --num-samples 600

Greedy replies, numbers as written. Box k of a reply is compared with gold box k: both are in the order of the question,
left box first for a relation. A box that is not a list of four numbers keeps its place. An axis is wrong when the box's
center is off by more than 90 per mille along it; objects are some 140 wide, so it then lies outside. The first number
on the axis (x1 or y1) is compared with the gold one, in digits before the point. A gold box counts once: with two wrong
axes, fewer digits go before more. "On an object, its name" counts boxes whose center lies in a gold box, and those that
are labeled with its name. Intervals take boxes as independent. Changes are from the first model to the last: "share" is
an axis row's part of the change in wrong axes, "now found" how many gold boxes of a row the last finds.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from p2r import load_model
from p2r.benchmarks.needles import Needles
from p2r.boxes import is_hit, parse_boxes
from p2r.cli.guard import run_script
from p2r.cli.screen import print_tables
from p2r.errors import ConfigError, ModelError
from p2r.evaluation.misses import MAX_OFF, Digits, compare_digits, find_wrong_axes, read_corners
from p2r.evaluation.tables import MISSING, Table, show_interval
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import ModelPerceiver
from p2r.statistics import wilson
from p2r.types import Box, Sample
from p2r.walks import walk_all

BATCH = 48
Outcome = Literal["found", Digits, "no readable box"]
OFF, WRONG, RIGHT_LABELS = f"center off by > {MAX_OFF}", "wrong axes, two a box", "on an object, its name"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", action="append", help="may be repeated; nano-base and nano when left out")
    parser.add_argument("--num-samples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7000)
    arguments = parser.parse_args()
    models, num_samples, seed = arguments.model or ["nano-base", "nano"], arguments.num_samples, arguments.seed
    if num_samples < 1 or not 0 <= seed < 2**32:
        raise ConfigError(f"there are no {num_samples} questions of seed {seed}", hint="at least 1; seeds below 2^32")
    samples = list(Needles(seed=seed, num_samples=num_samples))
    replies = [asyncio.run(ask_for_boxes(model, samples)) for model in models]
    counts = [count_misses(each, [sample.gold_boxes for sample in samples]) for each in replies]
    print_tables([tabulate_counts(models, counts)])


async def ask_for_boxes(spec: str, samples: Sequence[Sample]) -> list[str]:
    """The perceiver's replies, in the order of the samples. Raises ModelError when one is missing."""
    model = load_model(spec, batch_size=BATCH)
    if model.profile.frame != "per_mille":
        raise ConfigError(f"{spec} does not write boxes per mille", hint="digits are compared per mille only")
    perceiver, replies = ModelPerceiver(model, load_prompt_set("release")), dict[str, str]()
    async for trace in walk_all(samples, lambda sample: walk(sample, perceiver, None), num_at_once=BATCH):
        if trace.perception is None or trace.perception.completion is None:
            raise ModelError(f"{spec} has no reply to {trace.sample_id}: {trace.failure and trace.failure.message}")
        replies[trace.sample_id] = trace.perception.completion.text
    return [replies[sample.id] for sample in samples]


@dataclass(frozen=True, slots=True)
class Counts:
    """What one model wrote: an outcome per gold box, and for each wrong axis its first number, written and gold.

    labels: for each box whose center lies in a gold box, whether it has the name of one that it lies in.
    """

    num_questions: int
    num_written: int
    num_unreadable: int
    outcomes: tuple[Outcome, ...]
    wrong_axes: tuple[tuple[float, float], ...]
    labels: tuple[bool, ...]


def count_misses(replies: Sequence[str], gold: Sequence[Sequence[Box]]) -> Counts:
    """Compare each reply's boxes with the gold boxes of its question, in order."""
    written = [read_corners(reply) for reply in replies]
    outcomes: list[Outcome] = []
    wrong_axes: list[tuple[float, float]] = []
    for boxes, targets in zip(written, gold, strict=True):
        for k, target in enumerate(targets):
            if k >= len(boxes) or isinstance(corners := boxes[k], str):
                outcomes.append("no readable box")
                continue
            wrong = find_wrong_axes(corners, target.xyxy)
            misses = [compare_digits(*numbers) for numbers in wrong]
            outcomes.append(next((miss for miss in get_args(Digits) if miss in misses), "found"))
            wrong_axes += wrong
    unreadable = [isinstance(corners, str) for boxes in written for corners in boxes]
    labels = [label for reply, targets in zip(replies, gold, strict=True) for label in check_labels(reply, targets)]
    return Counts(len(replies), len(unreadable), sum(unreadable), tuple(outcomes), tuple(wrong_axes), tuple(labels))


def check_labels(reply: str, gold: Sequence[Box]) -> list[bool]:
    """For each box of a reply whose center lies in a gold box: whether it has the name of one that it lies in."""
    boxes = parse_boxes(reply)[0]
    under = [(box.label, [g.label for g in gold if is_hit(box, g)]) for box in boxes]
    return [label in names for label, names in under if names]


def list_figures(counts: Counts) -> dict[str, tuple[int, int]]:
    """Each row's count, and of how many it is a share; 0 for no share."""
    misses = [compare_digits(*axis) for axis in counts.wrong_axes]
    same_start = [str(a)[0] == str(b)[0] for a, b in counts.wrong_axes if compare_digits(a, b) == "fewer digits"]
    num_compared = len(counts.outcomes) - counts.outcomes.count("no readable box")
    return {
        "questions": (counts.num_questions, 0),
        "gold boxes": (len(counts.outcomes), 0),
        "boxes written": (counts.num_written, 0),
        "unreadable boxes": (counts.num_unreadable, counts.num_written),
        "compared with gold": (num_compared, 0),
        OFF: (num_compared - counts.outcomes.count("found"), num_compared),
        WRONG: (len(misses), 2 * num_compared),
        RIGHT_LABELS: (sum(counts.labels), len(counts.labels)),
        **{f"axis: {miss}": (misses.count(miss), len(misses)) for miss in get_args(Digits)},
        "fewer, same first digit": (sum(same_start), len(same_start)),
        **{f"box: {name}": (counts.outcomes.count(name), len(counts.outcomes)) for name in get_args(Outcome)},
    }


def tabulate_counts(models: Sequence[str], counts: Sequence[Counts]) -> Table:
    """A row per count, a column per model, and for several models what changed."""
    columns, rows = [list_figures(each) for each in counts], list[tuple[str, ...]]()
    fates: list[tuple[str, str]] = list(zip(counts[0].outcomes, counts[-1].outcomes, strict=True))
    for name in columns[0]:
        kind, _, label = name.partition(": ")
        change, whole = (columns[-1][row][0] - columns[0][row][0] for row in (name, WRONG))
        share = f"{change / whole or 0:.0%}" if kind == "axis" and whole else MISSING
        found = show_part(fates.count((label, "found")), columns[0][name][0]) if kind == "box" else MISSING
        cells = [show_part(*column[name], with_interval=name == OFF) for column in columns]
        rows.append((name, *cells, *((f"{change:+}", share, found) if len(models) > 1 else ())))
    names = ("", *models, "change", "share", "now found")[: len(rows[0])]
    return Table(title="Needles: written boxes against gold boxes", columns=names, rows=tuple(rows))


def show_part(count: int, whole: int, *, with_interval: bool = False) -> str:
    interval = f" [{show_interval(wilson(count, whole))}]" if with_interval else ""
    return f"{count} ({count / whole:.1%}){interval}" if whole else str(count)


if __name__ == "__main__":
    run_script(main)
