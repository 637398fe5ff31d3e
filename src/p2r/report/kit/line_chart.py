"""Curves over the steps of a run as SVG inside the page; `scatter_chart` says why they are drawn by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from p2r.report.kit.scatter_chart import LETTER_PX, show_tick, to_px, write_text

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 20, 36
NUM_STEPS = 4
"""About so many steps lie between the first and the last tick of an axis."""
LEAST_SPAN = 1e-12
"""Values closer together than this are drawn as one."""
NUM_COLORS = 6


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of a curve. low, high: the interval of `y`, if there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one run that belong together, in the order of x.

    run: index of the run, which gives the color.
    style: "solid"; "dashed" for a second metric; "faint" for the values that another curve is the mean of.
    has_dots: mark each point, because they are few.
    """

    name: str
    run: int
    points: Sequence[CurvePoint]
    style: str = "solid"
    has_dots: bool = False


@dataclass(frozen=True, slots=True)
class AxisSpan:
    """A part of the x axis, with its name."""

    name: str
    begin: float
    end: float


def draw_curves(
    curves: Sequence[Curve], parts: Sequence[AxisSpan], label: str, *, from_zero: bool, x_label: str = "steps"
) -> Markup:
    """Draw curves in one frame.

    Args:
        parts: of the x axis, from left to right, divided by lines.
        label: describes the chart to screen readers.
        from_zero: the y axis begins at 0, not near the least value.
    """
    values = [value for curve in curves for point in curve.points for value in (point.y, point.low, point.high)]
    known = [value for value in values if value is not None]
    y_ticks = find_even_ticks(min(0.0, *known) if from_zero else min(known), max(known))
    begin, end = parts[0].begin, max(parts[-1].end, parts[0].begin + 1)

    def at_x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - begin) / (end - begin)

    def at_y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (y_ticks[-1] - value) / (y_ticks[-1] - y_ticks[0])

    drawn: list[Markup] = []
    for tick in y_ticks:
        drawn.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, to_px(at_y(tick)), WIDTH - RIGHT))
        drawn.append(write_text(LEFT - 6, at_y(tick) + 4, show_even_tick(tick, y_ticks), "tick end"))
    for tick in find_even_ticks(begin, end):
        if begin <= tick <= end and tick == round(tick):
            drawn.append(write_text(at_x(tick), HEIGHT - BOTTOM + 16, show_tick(tick), "tick middle"))
    drawn.append(write_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label, "label middle"))
    for part in parts:
        if part is not parts[0]:
            drawn.append(Markup('<path class="between" d="M{} {}V{}"/>').format(
                to_px(at_x(part.begin)), TOP - 14, HEIGHT - BOTTOM
            ))  # fmt: skip
        if LETTER_PX * len(part.name) < at_x(part.end) - at_x(part.begin):
            drawn.append(write_text((at_x(part.begin) + at_x(part.end)) / 2, TOP - 7, part.name, "tick middle"))
    for curve in curves:
        places = [(at_x(point.x), at_y(point.y)) for point in curve.points]
        bounds = [
            (at_x(point.x), at_y(point.low), at_y(point.high))
            for point in curve.points
            if point.low is not None and point.high is not None
        ]
        dots = Markup("").join(
            Markup('<circle cx="{}" cy="{}" r="3"><title>{}, step {}: {}</title></circle>').format(
                to_px(x), to_px(y), curve.name, show_tick(point.x), _show(point)
            )
            for (x, y), point in zip(places, curve.points, strict=True)
            if curve.has_dots or len(places) == 1
        )
        drawn.append(
            Markup('<g class="curve {} s{}"><title>{}</title>{}{}{}</g>').format(
                curve.style, curve.run % NUM_COLORS, curve.name, _draw_bounds(bounds), _draw_line(places), dots
            )
        )
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(drawn)
    )


def find_even_ticks(least: float, most: float) -> list[float]:
    """Two or more multiples of 1, 2 or 5 times a power of ten, from at or below `least` to at or above `most`."""
    size = max(abs(least), abs(most))
    span = next(each for each in (most - least, size, 1.0) if each > max(LEAST_SPAN, 1e-9 * size))
    rough = span / NUM_STEPS
    power = 10.0 ** math.floor(math.log10(rough))
    stride = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
    first, last = math.floor(least / stride + 1e-9), math.ceil(most / stride - 1e-9)
    return [k * stride for k in range(first, max(last, first + 1) + 1)]


def show_even_tick(value: float, ticks: Sequence[float]) -> str:
    """Write a tick with as many digits as the ticks need to differ."""
    stride, size = ticks[1] - ticks[0], max(map(abs, ticks))
    if size < 1e-3 or stride >= 1e5:
        return f"{value:.3g}"
    digits = max(0, -math.floor(math.log10(stride) + 1e-9))
    return f"{value:,.{digits}f}"


def smooth(points: Sequence[CurvePoint], window: int) -> list[CurvePoint]:
    """Replace each point by the mean of the `window` points around it, of fewer at the ends. `window` is odd."""
    half = window // 2
    means: list[CurvePoint] = []
    for index, point in enumerate(points):
        reach = min(half, index, len(points) - 1 - index)
        near = points[index - reach : index + reach + 1]
        means.append(CurvePoint(point.x, sum(each.y for each in near) / len(near)))
    return means


def thin(points: Sequence[CurvePoint], most: int) -> list[CurvePoint]:
    """Choose at most `most` points at equal distances, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(k * (len(points) - 1) / (most - 1))] for k in range(most)]


def _draw_line(places: Sequence[tuple[float, float]]) -> Markup:
    if len(places) < 2:
        return Markup("")
    path = "M" + "L".join(f"{to_px(x)} {to_px(y)}" for x, y in places)
    return Markup('<path class="line" d="{}"/>').format(path)


def _draw_bounds(bounds: Sequence[tuple[float, float, float]]) -> Markup:
    """A band between the bounds; for a single point a line from low to high."""
    if not bounds:
        return Markup("")
    if len(bounds) == 1:
        x, low, high = bounds[0]
        return Markup('<path class="whisker" d="M{} {}V{}"/>').format(to_px(x), to_px(low), to_px(high))
    there = [f"{to_px(x)} {to_px(high)}" for x, _, high in bounds]
    back = [f"{to_px(x)} {to_px(low)}" for x, low, _ in reversed(bounds)]
    return Markup('<path class="band" d="M{}Z"/>').format("L".join([*there, *back]))


def _show(point: CurvePoint) -> str:
    text = f"{point.y:.4g}"
    if point.low is None or point.high is None:
        return text
    return f"{text} ({point.low:.4g} to {point.high:.4g})"
