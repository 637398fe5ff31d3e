"""Embedded images, and pages as files."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from p2r.errors import StorageError
from p2r.report.kit.embed import embed
from p2r.report.kit.page import choose_printed, mark_code, write_page


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


FILTERS = {"asked": "All", "gained": "Gained", "wrong": "Wrong"}


def test_paper_shows_questions_of_every_filter_in_turn() -> None:
    flags = [["0:asked"], ["0:asked", "0:gained"], ["0:asked", "0:gained"], ["0:asked", "0:wrong"], ["0:asked"]]
    assert choose_printed(FILTERS, flags, 0, 2) == {2, 4}
    assert choose_printed(FILTERS, flags, 0, 3) == {2, 3, 4}
    assert choose_printed(FILTERS, flags, 0, 4) == {1, 2, 3, 4}


def test_paper_shows_all_questions_when_there_are_few_and_counts_none_twice() -> None:
    flags = [["1:asked", "1:gained", "1:wrong"], ["0:asked"]]
    assert choose_printed(FILTERS, flags, 1, 6) == {1, 2}
    assert choose_printed(FILTERS, [], 0, 6) == set()
    both = [["0:asked"], ["0:gained"], ["0:gained", "0:wrong"], ["0:wrong"]]
    assert choose_printed(FILTERS, both, 0, 3) == {2, 3, 4}


def test_what_stands_in_backticks_is_shown_as_code_and_nothing_else_as_html() -> None:
    assert mark_code("Made by `p2r a&b` <now>.") == "Made by <code>p2r a&amp;b</code> &lt;now&gt;."
