"""Which layout columns mean, and what is nearest to columns that mean none."""

from __future__ import annotations

import pytest

from p2r.benchmarks.row_layouts.layouts import LAYOUTS, RowLayout, explain_nearest, recognize_layout


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_is_recognized_by_its_columns_among_others(layout: RowLayout) -> None:
    assert recognize_layout({*layout.columns, "extra", "id"}) == layout


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"image", "problem", "answer"}, "easyr1"),
        ({"image", "question", "answer", "A", "B"}, "zwz"),
        ({"image_path", "question", "answer"}, "zwz"),
        ({"messages", "images"}, "openai_chat"),
        ({"messages", "images", "solution"}, "ms_swift"),
        ({"image", "query", "response"}, "query_response"),
    ],
)
def test_the_image_may_have_another_name(columns: set[str], name: str) -> None:
    found = recognize_layout(columns)
    assert found is not None and found.name == name


@pytest.mark.parametrize("columns", [set[str](), {"fish"}, {"images"}, {"problem", "solution"}, {"image", "question"}])
def test_other_columns_are_no_layout(columns: set[str]) -> None:
    assert recognize_layout(columns) is None


def test_the_nearest_layouts_are_named_with_what_is_missing() -> None:
    assert explain_nearest({"messages", "answer"}).startswith("nearest: ")
    assert "EasyR1 rows (problem, images, answer), without answer" in explain_nearest({"problem", "images"})
    assert explain_nearest({"fish"}) == ""
