"""The zoom-in tool shows the very parts, at the very sizes, that Qwen's own does."""

from __future__ import annotations

from typing import Any

import pytest

from p2r.errors import ToolError
from p2r.roles.dialects.qwen3_vl import find_size, find_window
from tests.golden.rows import read_rows

ROWS = read_rows("qwen_zoom_tool")


@pytest.mark.parametrize("row", [row for row in ROWS if not row["expected"]["error"]], ids=lambda row: row["id"])
def test_part_and_size_are_those_of_the_official_tool(row: dict[str, Any]) -> None:
    window = find_window(row["bbox_2d"], tuple(row["image_size"]))
    assert list(window) == row["expected"]["validated_box"]
    assert list(find_size(window)) == row["expected"]["output_size_wh"]


@pytest.mark.parametrize("row", [row for row in ROWS if row["expected"]["error"]], ids=lambda row: row["id"])
def test_what_the_official_tool_cannot_show_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match="Tool Execution Error"):
        find_size(find_window(row["bbox_2d"], tuple(row["image_size"])))
