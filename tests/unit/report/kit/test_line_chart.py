"""Curves: ticks, smoothing and thinning."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2r.report.kit.line_chart import CurvePoint, find_even_ticks, show_even_tick, smooth, thin


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_enclose_what_is_drawn_and_can_be_told_apart(least: float, span: float) -> None:
    ticks = find_even_ticks(least, least + span)
    slack = 1e-6 * max(1.0, abs(least), span)
    assert ticks[0] <= least + slack and ticks[-1] >= least + span - slack
    assert 2 <= len(ticks) <= 8
    if span > 1e-3 * abs(least) + 1e-3:
        assert len({show_even_tick(tick, ticks) for tick in ticks}) == len(ticks)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.sampled_from([1, 3, 9]))
def test_a_smoothed_curve_keeps_its_ends_and_stays_within_its_values(values: list[float], window: int) -> None:
    points = [CurvePoint(x, y) for x, y in enumerate(values)]
    smoothed = smooth(points, window)
    assert [point.x for point in smoothed] == [point.x for point in points]
    assert (smoothed[0].y, smoothed[-1].y) == (values[0], values[-1])
    assert all(min(values) - 1e-9 <= point.y <= max(values) + 1e-9 for point in smoothed)
    if window == 1:
        assert smoothed == points


def test_a_thinned_curve_keeps_its_first_and_last_point() -> None:
    points = [CurvePoint(x, x) for x in range(1001)]
    assert len(thin(points, 100)) == 100
    assert (thin(points, 100)[0], thin(points, 100)[-1]) == (points[0], points[-1])
    assert thin(points, 2000) == points
