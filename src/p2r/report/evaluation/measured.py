"""What a system scored in one column, how it is shown, and whether it is better than every other system's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from p2r.evaluation.compare import ALPHA, asks_same_data
from p2r.evaluation.repeats import count_replies, group_questions
from p2r.evaluation.scorecard import Column
from p2r.evaluation.scoring import ScoredRun
from p2r.evaluation.tables import MISSING
from p2r.report.evaluation.layouts import TableLayout
from p2r.report.evaluation.published import choose_scorer
from p2r.statistics import Interval, correct_holm, permute_clusters


@dataclass(frozen=True, slots=True)
class Measured:
    """The score of a system in one column."""

    run: ScoredRun
    column: Column

    @property
    def score(self) -> float:
        return self.column.score or 0.0

    @property
    def num_questions(self) -> int:
        """Its judged questions, of which each may have several replies."""
        return len(group_questions(self.run, self.column.rows))


def mark_best(layout: TableLayout, grid: Sequence[Sequence[Measured | None]]) -> list[list[bool]]:
    """Tell for each cell whether the test finds it better than every other system's, after Holm's correction.

    The overall columns are one family, the categories another.
    """
    found = [find_best([row[column] for row in grid]) for column in range(len(layout.places))]
    is_best = [[False] * len(layout.places) for _ in grid]
    for is_whole in (True, False):
        tested = [
            (column, best)
            for column, (place, best) in enumerate(zip(layout.places, found, strict=True))
            if best is not None and place.is_whole is is_whole
        ]
        for (column, (row, _)), p in zip(tested, correct_holm([best[1] for _, best in tested]), strict=True):
            is_best[row][column] = p < ALPHA
    return is_best


def find_best(cells: Sequence[Measured | None]) -> tuple[int, float] | None:
    """Return the index of the highest score, and the largest p-value of its tests against the others.

    None where there is only one, or where some other cannot be paired with it: asked other questions, or of other data.
    """
    known = [(k, cell) for k, cell in enumerate(cells) if cell is not None]
    if len(known) < 2:
        return None
    best, first = max(known, key=lambda pair: pair[1].score)
    p_values = [_test(first, cell) for k, cell in known if k != best]
    return None if any(p is None for p in p_values) else (best, max(p for p in p_values if p is not None))


def _test(first: Measured, second: Measured) -> float | None:
    """The p-value of the exact test for pairs by question, on the questions of both; None without a pair."""
    if first.run.rows and second.run.rows and not asks_same_data(first.run, second.run):
        return None
    one, other = _score_questions(first), _score_questions(second)
    grid = math.lcm(count_replies(first.run), count_replies(second.run))
    sums: dict[str, int] = {}
    for name in one.keys() & other.keys():
        (cluster, mine), (_, theirs) = one[name], other[name]
        sums[cluster] = sums.get(cluster, 0) + round(grid * (mine - theirs))
    if not sums:
        return None
    if sum(sums.values()) <= 0:
        return 1.0
    return permute_clusters(list(sums.values()))


def _score_questions(cell: Measured) -> dict[str, tuple[str, float]]:
    """The cluster and the mean score of each question, by its id without the number of a repeated one."""
    scorer = choose_scorer(cell.run)
    return {
        id: (rows[0].cluster or id, math.fsum(row.score(scorer) for row in rows) / len(rows))
        for id, rows in group_questions(cell.run, cell.column.rows).items()
    }


def show_measured(cell: Measured | None) -> str:
    if cell is None or cell.column.interval is None:
        return MISSING
    replies = count_replies(cell.run)
    num = f"n {cell.num_questions:,}" + (f" x {replies}" if replies > 1 else "")
    return f"{100 * cell.score:.1f}\n{_show_bounds(cell.column.interval)}\n{num}"


def show_average(cells: Sequence[Measured], num: int) -> str:
    """The mean of independent scores. Its interval joins theirs (Zou and Donner, Statistics in Medicine 27, 2008)."""
    known = [(cell.score, cell.column.interval) for cell in cells if cell.column.interval is not None]
    if len(known) < num:
        return MISSING
    mean = math.fsum(score for score, _ in known) / num
    low = mean - math.hypot(*(score - interval.low for score, interval in known)) / num
    high = mean + math.hypot(*(interval.high - score for score, interval in known)) / num
    return f"{100 * mean:.1f}\n{_show_bounds(Interval(low=low, high=high))}"


def _show_bounds(interval: Interval) -> str:
    return f"{100 * interval.low:.1f} - {100 * interval.high:.1f}"
