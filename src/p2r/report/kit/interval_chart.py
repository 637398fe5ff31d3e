"""Intervals one below the other around a line at 0, as SVG inside the page: a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from p2r.report.kit.line_chart import find_even_ticks, show_even_tick
from p2r.report.kit.scatter_chart import to_px, write_text

WIDTH, ROW_PX, TOP, BOTTOM = 420, 40, 8, 40
LEFT, RIGHT = 14, 14
ROOM = 0.04
"""Share of the axis that is left free at each end."""


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """A value with its interval.

    kind: a class of the style sheet, such as "holds".
    margin: a band around 0 that is shaded behind the interval; 0 for none.
    """

    name: str
    value: float
    low: float
    high: float
    kind: str = ""
    margin: float = 0.0


def draw_intervals(rows: Sequence[IntervalRow], x_label: str) -> Markup:
    """Draw a row for each value: its name, and below it the interval. There is at least one row."""
    ends = [end for row in rows for end in (row.low, row.high)]
    span = max(*ends, 0.0) - min(*ends, 0.0) or 1.0
    ticks = find_even_ticks(min(*ends, 0.0) - ROOM * span, max(*ends, 0.0) + ROOM * span)
    height = TOP + ROW_PX * len(rows) + BOTTOM

    def at_x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts: list[Markup] = []
    for tick in ticks:
        kind = "between" if abs(tick) < 1e-12 else "grid"
        parts.append(Markup('<path class="{}" d="M{} {}V{}"/>').format(kind, to_px(at_x(tick)), TOP, height - BOTTOM))
        parts.append(write_text(at_x(tick), height - BOTTOM + 16, show_even_tick(tick, ticks), "tick middle"))
    parts.append(write_text((LEFT + WIDTH - RIGHT) / 2, height - 4, x_label, "label middle"))
    for place, row in enumerate(rows):
        y = TOP + ROW_PX * place + 28
        if row.margin:
            ends_px = (to_px(at_x(-row.margin)), to_px(y), to_px(at_x(row.margin)))
            parts.append(Markup('<path class="margin" d="M{} {}H{}"/>').format(*ends_px))
        parts.append(write_text(LEFT, y - 13, row.name, "name"))
        low, high, top, bottom = (to_px(each) for each in (at_x(row.low), at_x(row.high), y - 6, y + 6))
        parts.append(
            Markup(
                '<g class="{}"><title>{}: {:.4g} ({:.4g} to {:.4g})</title>'
                '<path class="whisker" d="M{} {}H{}M{} {}V{}M{} {}V{}"/><circle cx="{}" cy="{}" r="4"/></g>'
            ).format(
                row.kind, row.name, row.value, row.low, row.high, low, to_px(y), high, low, top, bottom, high, top,
                bottom, to_px(at_x(row.value)), to_px(y),
            )
        )  # fmt: skip
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, x_label, Markup("").join(parts)
    )
