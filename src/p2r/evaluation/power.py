"""A table that says, before anything is asked, which differences a benchmark can show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from p2r.benchmarks.base import Benchmark, Facts
from p2r.errors import ConfigError, count_nouns
from p2r.evaluation.tables import MISSING, Table
from p2r.statistics import find_detectable_difference, find_power

DIFFERING = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of samples on which two runs differ. Only runs tell; two modes of one model often differ on 10 to 30%."""
CYCLES = 4
"""Rotations of a question of HR-Bench."""
ENOUGH = 0.8


def count_questions(benchmark: Benchmark) -> Counter[int]:
    """Count the questions of a benchmark by their number of rotations, 1 for a question asked once."""
    clusters = Counter(sample.cluster or f"\0{sample.id}" for sample in benchmark.samples)
    return Counter(clusters.values())


def count_published_questions(facts: Facts) -> Counter[int]:
    """Do the same for a benchmark as published, without its data; empty where its size is not known."""
    if facts.num_samples is None:
        return Counter()
    return Counter({CYCLES: facts.num_samples // CYCLES} if facts.aggregation == "cycles" else {1: facts.num_samples})


def tabulate_power(name: str, questions: Mapping[int, int], gain: float) -> Table:
    """Tabulate how often a gain is found, and the smallest gain that is found 4 times in 5.

    Args:
        questions: the number of rotations -> the number of questions with as many.
        gain: a true difference in accuracy between two runs on the same samples, in points.

    Raises:
        ConfigError: the gain is not between 0 and 100 points.
    """
    if not 0 < gain < 100:
        raise ConfigError(f"`gain` is {gain:g}, not a difference in points", hint="give a number between 0 and 100")
    num_questions = sum(questions.values())
    num_samples = sum(size * count for size, count in questions.items())
    rows: list[tuple[str, ...]] = []
    for share in DIFFERING:
        spread = _spread(share, questions)
        power = find_power(gain / 100, spread, num_questions, num_samples)
        least = find_detectable_difference(spread, num_questions, num_samples, power=ENOUGH)
        rows.append(
            (
                f"{share:.0%}",
                MISSING if power is None else f"{power:.0%}",
                MISSING if least is None else f"{100 * least:.1f}",
            )
        )
    return Table(
        title=f"Power: {name}",
        columns=("runs differ on", f"a gain of {gain:g} points is found", f"found {ENOUGH:.0%} of the time, points"),
        rows=tuple(rows),
        notes=tuple(_notes(questions, num_questions, num_samples)),
    )


def _notes(questions: Mapping[int, int], num_questions: int, num_samples: int) -> Sequence[str]:
    rotated = f", {count_nouns(num_samples, 'sample')} with rotations" if num_samples > num_questions else ""
    notes = [
        f"{count_nouns(num_questions, 'question')}{rotated}; the exact paired test of p2r compare at the level 0.05.",
        f'"{MISSING}": runs that differ on so few samples cannot be so far apart, or no gain is found so often.',
    ]
    if rotated:
        notes.append("Rotations of a question are taken to differ independently, and in one direction.")
    return notes


def _spread(share: float, questions: Mapping[int, int]) -> dict[int, float]:
    """Return how many of all questions differ by 1, 2, ... samples, where that share of the samples differs."""
    spread: dict[int, float] = {}
    total = sum(questions.values())
    for size, count in questions.items():
        for differing in range(1, size + 1):
            chance = math.comb(size, differing) * share**differing * (1 - share) ** (size - differing)
            spread[differing] = spread.get(differing, 0.0) + chance * count / total
    return spread
