"""Scatter charts as SVG inside the page. They follow the page's colors, light and dark, and need no library.

matplotlib also writes SVG, but with fixed colors and fonts, so a page would need each chart twice, for light and dark.
It would also be by far the largest dependency, for a scatter chart and a few curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 420, 290
"""Pixels of the drawing: narrow enough that its letters can still be read where a phone scales it down."""
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 14, 44
LINE_PX, LETTER_PX = 15, 7.2
MOST_TICKS = 7


@dataclass(frozen=True, slots=True)
class Point:
    """A run in a scatter chart: `y` and its interval 0 to 1."""

    name: str
    x: float
    y: float
    low: float
    high: float
    is_primary: bool = False


def draw_scatter(points: Sequence[Point], x_label: str, y_label: str, *, reference: float | None = None) -> Markup:
    """Accuracy against a cost, which may span decades: its axis is logarithmic.

    Args:
        points: with `x` above 0.
        reference: a level drawn as a dashed line, 0 to 1.
    """
    ticks = find_ticks(min(point.x for point in points), max(point.x for point in points))
    low, high = math.log(ticks[0]), math.log(ticks[-1])

    def at_x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value) - low) / (high - low)

    def at_y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)

    parts: list[Markup] = []
    for percent in (0, 25, 50, 75, 100):
        y = at_y(percent / 100)
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, to_px(y), WIDTH - RIGHT))
        parts.append(write_text(LEFT - 8, y + 4, str(percent), "tick end"))
    for tick in ticks:
        x = at_x(tick)
        parts.append(Markup('<path class="grid" d="M{} {}V{}"/>').format(to_px(x), TOP, HEIGHT - BOTTOM))
        parts.append(write_text(x, HEIGHT - BOTTOM + 17, show_tick(tick), "tick middle"))
    parts.append(write_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "label middle"))
    if reference is not None:
        y = to_px(at_y(reference))
        parts.append(Markup('<path class="reference" d="M{} {}H{}"/>').format(LEFT, y, WIDTH - RIGHT))
    taken: list[tuple[float, float, float, float]] = [
        (at_x(point.x) - 8, at_y(point.y) - 8, at_x(point.x) + 8, at_y(point.y) + 8) for point in points
    ]
    for point in sorted(points, key=lambda point: -point.y):
        x, y = at_x(point.x), at_y(point.y)
        kind = Markup(' class="primary"') if point.is_primary else Markup("")
        whisker = Markup('<path class="whisker" d="M{} {}V{}"/>').format(
            to_px(x), to_px(at_y(point.high)), to_px(at_y(point.low))
        )
        label_x, label_y, is_end = _place(point.name, x, y, taken)
        parts.append(
            Markup("<g{}><title>{}: {:.1f}%, {} {}</title>{}<circle cx='{}' cy='{}' r='6'/>{}</g>").format(
                kind,
                point.name,
                100 * point.y,
                show_tick(point.x),
                x_label,
                whisker,
                to_px(x),
                to_px(y),
                write_text(label_x, label_y, point.name, "name end" if is_end else "name"),
            )
        )
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{} against {}">{}</svg>').format(
        WIDTH, HEIGHT, y_label, x_label, Markup("").join(parts)
    )


def find_ticks(least: float, most: float) -> list[float]:
    """Two to seven ticks, at 1, 2, 5, 10 ... or at powers of ten, from below `least` to above `most` (both above 0)."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    stride = max(1, math.ceil((last - first) / 5))
    fine = [digit * 10.0**power for power in range(first - 1, last + 2) for digit in (1, 2, 5)]
    coarse = [10.0**power for power in range(first - 1, last + stride + 1, stride)]
    chosen = _bracket(fine, least, most)
    return chosen if len(chosen) <= MOST_TICKS else _bracket(coarse, least, most)


def _bracket(steps: Sequence[float], least: float, most: float) -> list[float]:
    """The steps from the last below `least` to the first above `most`."""
    begin = max(index for index, step in enumerate(steps) if step < least)
    end = min((index for index, step in enumerate(steps) if step > most), default=len(steps) - 1)
    return list(steps[begin : end + 1])


def _place(name: str, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> tuple[float, float, bool]:
    """Find a place for a label: beside its point, else the next free one above or below. Adds it to `taken`."""
    width = LETTER_PX * len(name)
    for shift in (0, 1, -1, 2, -2, 3, -3, 4, -4):
        for is_end in (False, True):
            left = x - 12 - width if is_end else x + 12
            place = (left, y + shift * LINE_PX - 9, left + width, y + shift * LINE_PX + 6)
            is_inside = place[0] >= LEFT and place[2] <= WIDTH - 2 and place[1] >= 0 and place[3] <= HEIGHT - BOTTOM
            is_free = not any(
                place[0] < other[2] and other[0] < place[2] and place[1] < other[3] and other[1] < place[3]
                for other in taken
            )
            if is_inside and is_free:
                taken.append(place)
                return (x - 12 if is_end else x + 12), y + shift * LINE_PX + 4, is_end
    return x + 12, y + 4, False


def write_text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(to_px(x), to_px(y), kind, escape(text))


def show_tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def to_px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
