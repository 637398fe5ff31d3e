"""Scatter charts."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from p2r.report.kit.scatter_chart import LETTER_PX, MOST_TICKS, Point, draw_scatter, find_ticks


@pytest.mark.parametrize(("least", "most"), [(3, 4), (1, 1), (1, 9000), (0.01, 120), (900, 7000), (1e-4, 1e7)])
def test_ticks_enclose_the_points_and_are_few(least: float, most: float) -> None:
    ticks = find_ticks(least, most)
    assert ticks[0] <= least and ticks[-1] >= most
    assert 2 <= len(ticks) <= MOST_TICKS and ticks == sorted(ticks)


def test_labels_of_a_chart_do_not_lie_over_each_other() -> None:
    points = [Point(f"run number {k}", 100.0 + k, 0.5, 0.4, 0.6) for k in range(6)]
    svg = ET.fromstring(str(draw_scatter(points, "tokens", "accuracy", reference=0.25)))
    spans: list[tuple[float, float, float]] = []
    for text in svg.iter("text"):
        kind, x, width = text.get("class") or "", float(text.get("x") or 0), LETTER_PX * len(text.text or "")
        if kind.startswith("name"):
            left = x - width if "end" in kind else x
            spans.append((left, left + width, float(text.get("y") or 0)))
    assert len(spans) == 6
    for k, (left, right, y) in enumerate(spans):
        assert all(abs(y - other[2]) >= 14 or right < other[0] or other[1] < left for other in spans[:k])


def test_a_name_cannot_break_a_chart() -> None:
    svg = str(draw_scatter([Point("<b>&\"'", 1, 0.5, 0.4, 0.6), Point("x", 2, 0.5, 0.4, 0.6)], 'a<i>&"', 'b<i>&"'))
    chart = ET.fromstring(svg)
    assert {element.tag for element in chart.iter()} == {"svg", "path", "text", "g", "title", "circle"}
    assert chart.get("aria-label") == 'b<i>&" against a<i>&"'
    assert "<b>&\"'" in [text.text for text in chart.iter("text")]
