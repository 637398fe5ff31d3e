"""Tables of change: what each gain was made of, and how a measure grows from point to point."""

from __future__ import annotations

from collections.abc import Sequence

from p2r.evaluation.misses import MISSES
from p2r.evaluation.tables import MISSING, Table
from p2r.statistics import Estimate, Part, estimate
from p2r.studies.cells import Measure, StudyCell
from p2r.studies.claims import find_slope_weights
from p2r.studies.measure import CellValues, Reader
from p2r.studies.shown import GainTable, Trend
from p2r.studies.tables import describe_sizes, show_cell, show_difference


def tabulate_gains(table: GainTable, reader: Reader) -> Table:
    """A row for each pair of cells: the gain of accuracy, and how much of it is fewer misses of each kind."""
    rows: list[tuple[str, ...]] = []
    cells: list[CellValues] = []
    for line, (before, after) in zip(table.rows, table.list_cells(), strict=True):
        pair = [reader.values_of(cell.model_copy(update={"measure": MISSES[0]})) for cell in (before, after)]
        is_known = all(each.is_known for each in pair)
        by_miss = [_weigh_loss(before, after, miss, reader) if is_known else [] for miss in MISSES]
        parts = [part for own in by_miss for part in own]
        rows.append((line.name, _show_change(parts), *map(_show_change, by_miss)))
        cells += pair
    return Table(
        title=table.title,
        columns=("", "gain", *MISSES),
        rows=tuple(rows),
        notes=(
            *filter(None, [table.note]),
            "Gain: points of accuracy, with its 95% interval over seeds and questions. The others add up to it: by how "
            "many points fewer answers are wrong for this reason. Format: no box or no answer can be read. Spelling: "
            "evidence is outside the crops, and a box for it has a number with fewer or more digits than the right "
            "one. Place: evidence is outside the crops otherwise. Reading: all evidence is in the crops, or the whole "
            "image is shown, and the answer is wrong.",
            describe_sizes(cells),
        ),
    )


def _weigh_loss(before: StudyCell, after: StudyCell, miss: Measure, reader: Reader) -> list[Part]:
    """Misses of a kind before and after, as parts of the gain.

    A mode that does not look misses no place: where only one of the two looks, its misses are all that counts.
    """
    values = [reader.values_of(cell.model_copy(update={"measure": miss})) for cell in (before, after)]
    return [each.as_part(sign) for sign, each in zip((1.0, -1.0), values, strict=True) if each.is_known]


def _show_change(parts: Sequence[Part]) -> str:
    return _show_estimate(estimate(parts) if parts else None, "accuracy")


def tabulate_trend(trend: Trend, reader: Reader) -> Table:
    """A row for each line: its points, and the slope of their least-squares line."""
    rows: list[tuple[str, ...]] = []
    values = [[reader.values_of(cell) for cell in row] for row in trend.list_cells()]
    for line, row in zip(trend.rows, values, strict=True):
        rows.append((line.name, *map(show_cell, row), _show_slope(row)))
    return Table(
        title=trend.title,
        columns=("", *trend.points, "slope"),
        rows=tuple(rows),
        notes=(
            *filter(None, [trend.note]),
            "Each cell: the mean, and its 95% interval over seeds and questions. Slope: of the least-squares line "
            "through the points of a row, for each step to the next point, in points for shares.",
            describe_sizes([each for row in values for each in row]),
        ),
    )


def _show_slope(row: Sequence[CellValues]) -> str:
    if not all(each.is_known for each in row):
        return MISSING
    parts = [each.as_part(weight) for weight, each in zip(find_slope_weights(len(row)), row, strict=True)]
    return _show_estimate(estimate(parts), row[0].cell.measure)


def _show_estimate(found: Estimate | None, measure: Measure) -> str:
    if found is None:
        return MISSING
    low, high = (show_difference(each, measure) for each in (found.interval.low, found.interval.high))
    return f"{show_difference(found.mean, measure)} [{low}, {high}]"
