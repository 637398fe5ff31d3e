"""Intervals in SVG: where each value, its ends and the line at 0 are drawn."""

from __future__ import annotations

import re

import pytest

from p2r.report.kit.interval_chart import BOTTOM, LEFT, RIGHT, ROW_PX, TOP, WIDTH, IntervalRow, draw_intervals

ROWS = [IntervalRow("first", 5.0, 2.0, 10.0, "holds"), IntervalRow("second <b>", -4.0, -10.0, 1.0)]


def find_x(svg: str) -> list[list[float]]:
    """The ends of each whisker, and between them its value."""
    found = re.findall(r'class="whisker" d="M([\d.]+) [\d.]+H([\d.]+)M[^"]+"/><circle cx="([\d.]+)"', svg)
    return [[float(low), float(value), float(high)] for low, high, value in found]


def find_zero(svg: str) -> float:
    [zero] = re.findall(r'<path class="between" d="M([\d.]+) ', svg)
    return float(zero)


def test_values_lie_in_their_intervals_on_the_side_of_zero_that_they_are_on() -> None:
    svg = str(draw_intervals(ROWS, "points"))
    first, second = find_x(svg)
    zero = find_zero(svg)
    assert zero < first[0] < first[1] < first[2] < WIDTH - RIGHT
    assert LEFT < second[0] < second[1] < zero < second[2]
    unit = (first[2] - first[0]) / 8
    assert first[1] - first[0] == pytest.approx(3 * unit, abs=0.2)
    assert first[0] - zero == pytest.approx(2 * unit, abs=0.2)
    assert zero - second[0] == pytest.approx(10 * unit, abs=0.2)


def test_a_margin_is_shaded_around_zero_behind_its_own_row() -> None:
    svg = str(draw_intervals([*ROWS, IntervalRow("third", 1.0, -1.0, 2.0, margin=3.0)], "points"))
    [(low, y, high)] = re.findall(r'class="margin" d="M([\d.]+) ([\d.]+)H([\d.]+)"', svg)
    assert (float(low) + float(high)) / 2 == pytest.approx(find_zero(svg), abs=0.2)
    assert (float(low), float(high)) != (find_x(svg)[2][0], find_x(svg)[2][2])
    assert svg.index('class="margin"') < svg.index("<title>third") and float(y) == TOP + 28 + ROW_PX * 2


def test_rows_lie_one_below_the_other_within_the_chart() -> None:
    svg = str(draw_intervals(ROWS * 3, "points"))
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', svg)]
    assert heights == [TOP + 28 + ROW_PX * place for place in range(6)]
    assert f'viewBox="0 0 {WIDTH} {TOP + 6 * ROW_PX + BOTTOM}"' in svg


def test_names_are_written_above_their_intervals_and_told_on_hover() -> None:
    svg = str(draw_intervals(ROWS, "points"))
    assert '<g class="holds"><title>first: 5 (2 to 10)</title>' in svg
    assert "second &lt;b&gt;: -4 (-10 to 1)" in svg and "<b>" not in svg
    assert svg.count(">points</text>") == 1 and 'aria-label="points"' in svg


@pytest.mark.parametrize("ends", [(3.0, 9.0), (-9.0, -3.0), (0.0, 0.0)])
def test_the_line_at_zero_is_always_there(ends: tuple[float, float]) -> None:
    low, high = ends
    svg = str(draw_intervals([IntervalRow("only", (low + high) / 2, low, high)], "points"))
    assert LEFT <= find_zero(svg) <= WIDTH - RIGHT
    assert all(LEFT <= x <= WIDTH - RIGHT for x in find_x(svg)[0])
