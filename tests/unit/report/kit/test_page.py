"""Embedded images, and pages as files."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from p2r.errors import StorageError
from p2r.report.kit.embed import embed
from p2r.report.kit.page import write_page


def test_embedded_images_shrink_and_never_grow() -> None:
    large, small = (
        embed(Image.new("RGB", (2000, 1000)), max_side_px=500),
        embed(Image.new("L", (20, 9)), max_side_px=500),
    )
    assert (large.width, large.height, large.full_width, large.full_height) == (500, 250, 2000, 1000)
    assert (small.width, small.height) == (20, 9)
    assert embed(Image.new("RGB", (2000, 1)), max_side_px=500).height == 1


def test_a_report_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        write_page(tmp_path / "taken" / "report.html", "<html></html>")
    assert caught.value.hint
