"""One trace as text, as HTML and as files."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from p2r.errors import ImageError, StorageError
from p2r.images.load import FileImage
from p2r.report.trace import save_trace, show
from p2r.types import Trace
from tests.fakes.reports import ELSEWHERE, GOLD, Collector, make_sample, make_trace


def test_a_trace_is_saved_as_files(tmp_path: Path) -> None:
    sample = make_sample("a")
    trace = make_trace(sample, letter="A", boxes=(GOLD, ELSEWHERE))
    paths = save_trace(tmp_path / "out", trace, sample.image)
    assert [path.name for path in paths] == ["annotated.png", "crop_1.png", "crop_2.png", "trace.json"]
    assert Trace.model_validate_json((tmp_path / "out" / "trace.json").read_text()) == trace
    assert Image.open(tmp_path / "out" / "annotated.png").size == (640, 480)


def test_files_of_an_earlier_question_do_not_stay_behind(tmp_path: Path) -> None:
    sample = make_sample("a")
    save_trace(tmp_path, make_trace(sample, letter="A", boxes=(GOLD, ELSEWHERE)), sample.image)
    save_trace(tmp_path, make_trace(sample, letter="A"), sample.image)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_a_full_disk_is_named_as_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    sample = make_sample("a")
    with pytest.raises(StorageError, match="no space left on device"):
        save_trace(tmp_path, make_trace(sample, letter="A", boxes=(GOLD,)), sample.image)


def test_a_broken_image_is_reported_by_save(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        save_trace(tmp_path, make_trace(make_sample("a"), letter="A"), FileImage(tmp_path / "gone.png"))


def test_a_notebook_shows_the_image_from_the_file_the_trace_names(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGB", (640, 480)).save(path)
    trace = make_trace(make_sample("a"), letter="A", boxes=(GOLD,)).model_copy(update={"image": str(path)})
    html = show(trace)._repr_html_()
    assert Collector(html).open == []
    assert "data:image/webp" in html
    assert "A. a star" in html


def test_a_notebook_without_the_image_says_how_to_give_it() -> None:
    trace = make_trace(make_sample("a"), letter="A")
    assert "show(trace, image=...)" in show(trace).html
    assert "data:image/webp" in show(trace, image=make_sample("a").image).html


def test_a_trace_as_text_has_boxes_in_pixels() -> None:
    text = repr(show(make_trace(make_sample("a"), letter="A", boxes=(GOLD,))))
    assert "answer     A. a star" in text
    assert "looked at  x 64-192, y 48-144 px  sail  (crop 1)" in text
    assert repr(show(make_trace(make_sample("a"), letter=None))).startswith(
        "question   What is on the sail?\nanswer     no answer\n"
    )
