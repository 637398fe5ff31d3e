"""The images that the command line names, and what is said of the rest of a folder."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from p2r.cli import inputs
from p2r.cli.ask import check_quotes, has_question
from p2r.cli.inputs import FoundImages, find_images, read_stdin
from p2r.errors import DataError
from p2r.images.load import MAX_IMAGE_PIXELS


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "sub" / "deep").mkdir(parents=True)
    for name in (
        "photos/b.JPG",
        "photos/a.png",
        "photos/c.jfif",
        "photos/d.jpe",
        "photos/sub/e.png",
        "photos/sub/deep/f.webp",
    ):
        Image.new("RGB", (4, 3)).save(name, "PNG")
    return tmp_path


def find(*names: str, recursive: bool = False) -> FoundImages:
    return find_images(names, recursive=recursive, max_image_pixels=MAX_IMAGE_PIXELS)


def test_a_folder_gives_its_images_by_name(here: Path) -> None:
    found = find("photos")
    assert list(found.images) == ["a.png", "b.JPG", "c.jfif", "d.jpe"]
    assert (found.is_batch, found.run_name) == (True, "photos")
    assert found.left_out.describe() == "left out 1 folder (--recursive looks into folders)"


def test_a_folder_can_be_looked_through_to_its_ground(here: Path) -> None:
    found = find("photos", recursive=True)
    assert list(found.images) == ["a.png", "b.JPG", "c.jfif", "d.jpe", "sub/deep/f.webp", "sub/e.png"]
    assert found.left_out.describe() == ""


def test_what_a_folder_leaves_out_is_one_line(here: Path) -> None:
    for name in ("doc.PDF", "x.svg", "y.svg", "readme", ".DS_Store"):
        (here / "photos" / name).touch()
    (here / "photos" / "gone.png").symlink_to(here / "nowhere.png")
    (here / "photos" / "good.png").symlink_to(here / "photos" / "a.png")
    found = find("photos")
    assert "good.png" in found.images and "gone.png" not in found.images
    assert found.left_out.describe() == (
        "left out 4 files: no suffix 1, .pdf 1, .svg 2; 1 broken link; 1 folder; 1 hidden file "
        "(--recursive looks into folders)"
    )


def test_a_linked_folder_is_not_walked_in_a_circle(here: Path) -> None:
    (here / "photos" / "sub" / "up").symlink_to(here / "photos")
    found = find("photos", recursive=True)
    assert len(found.images) == 6
    assert found.left_out.describe() == "left out 1 linked folder"


def test_a_folder_of_two_files_that_are_no_images_is_listed_in_the_hint(here: Path) -> None:
    (here / "bare").mkdir()
    with pytest.raises(DataError, match="the folder bare holds no images") as caught:
        find("bare")
    assert ".jfif" in caught.value.hint
    for name in ("a.pdf", "b.svg"):
        (here / "bare" / name).touch()
    with pytest.raises(DataError) as caught:
        find("bare")
    assert caught.value.hint == "left out 2 files: .pdf 1, .svg 1"


def test_heic_without_its_library_is_left_out_with_the_way_to_read_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "photos" / "IMG_1.HEIC").touch()
    assert "IMG_1.HEIC" in find("photos").images
    monkeypatch.setattr(inputs, "list_suffixes", lambda: frozenset({".png"}))
    monkeypatch.setattr(inputs, "reads_heic", lambda: False)
    line = find("photos").left_out.describe()
    assert ".heic 1" in line and "for HEIC: pip install pillow-heif" in line


def test_a_folder_that_cannot_be_read_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="the folder photos cannot be read: permission denied"):
        find("photos")


def test_a_pattern_is_filled_in_here_where_the_shell_left_it(here: Path) -> None:
    (here / "photos" / "doc.pdf").touch()
    found = find("photos/*")
    assert list(found.images) == ["photos/a.png", "photos/b.JPG", "photos/c.jfif", "photos/d.jpe"]
    assert found.left_out.describe() == "left out 1 file: .pdf 1; 1 folder (--recursive looks into folders)"
    assert list(find("photos/**/*.webp").images) == ["photos/sub/deep/f.webp"]
    assert not find("photos/a.*").is_batch
    with pytest.raises(DataError, match=r"no image fits 'photos/\*\.tif'"):
        find("photos/*.tif")


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(here: Path) -> None:
    Image.new("RGB", (4, 3)).save("a[1].png")
    assert list(find("a[1].png").images) == ["a[1].png"]


def test_several_images_are_a_batch_and_each_is_asked_once(here: Path) -> None:
    found = find("photos/a.png", "photos/b.JPG", "photos/a.png")
    assert list(found.images) == ["photos/a.png", "photos/b.JPG"]
    assert (found.is_batch, found.run_name) == (True, "photos")
    assert find("photos/a.png", "photos/sub/e.png").run_name == "images"
    assert find("photos", "http://host/x.png").run_name == "images"
    assert list(find("photos/sub", "photos/a.png").images) == ["photos/sub/e.png", "photos/a.png"]


def test_one_image_is_no_batch(here: Path) -> None:
    assert not find("photos/a.png").is_batch
    assert not find("http://host/x.png").is_batch
    assert find("photos/sub").is_batch


def test_a_password_is_no_part_of_an_id(here: Path) -> None:
    assert list(find("http://me:secret@host/x.png").images) == ["http://***@host/x.png"]


def test_a_name_that_is_no_path_is_left_to_its_image(here: Path) -> None:
    assert len(find("x" * 300, "a\0b.png").images) == 2


def test_standard_input_is_read_where_something_is_piped_in(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO((here / "photos" / "a.png").read_bytes()))
    monkeypatch.setattr(sys, "stdin", piped)
    found = find("-")
    assert found.images["stdin"].load().size == (4, 3)
    with pytest.raises(DataError, match="stdin is empty") as caught:
        read_stdin()
    assert caught.value.hint == "the command before the pipe wrote nothing"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(DataError, match="nothing is") as caught:
        read_stdin()
    assert "< image.jpg" in caught.value.hint


def test_the_last_argument_is_the_question_unless_it_names_an_image(here: Path) -> None:
    assert has_question(["photos/a.png", "What is this?"])
    assert has_question(["photos/a.png", "photos/b.JPG", "What is at http://host/?"])
    assert has_question(["-", "y" * 5000])
    assert not has_question(["photos/a.png"])
    for last in ("photos/b.JPG", "photos", "http://host/x.png", "-"):
        assert not has_question(["photos/a.png", last])


def test_a_name_in_another_encoding_is_found_and_can_be_stored(here: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (4, 3)).save(here / name)
    for found in (find(name), find("."), find("c*.png")):
        (image,) = found.images.values()
        assert (list(found.images), image.uri) == (["caf\\udce9.png"], "caf\\udce9.png")
        assert image.load().size == (4, 3)


@pytest.mark.parametrize("batch", [False, True])
def test_images_that_save_wrote_are_left_out(here: Path, batch: bool) -> None:
    out = here / "photos" / "out" / "images" / "a.png"
    out.mkdir(parents=True)
    for name in ("annotated.png", "crop_1.png", "crop_2.png", "crop_of_mine.png"):
        Image.new("RGB", (4, 3)).save(out / name)
    assert "out/images/a.png/crop_1.png" in find("photos", recursive=True).images  # nobody asked here
    (here / "photos" / "out" / "asked.json" if batch else out / "trace.json").write_text("{}")
    found = find("photos", recursive=True)
    assert [id for id in found.images if id.startswith("out")] == ["out/images/a.png/crop_of_mine.png"]
    assert "3 saved images" in found.left_out.describe()
    assert "(--save wrote the saved images)" in found.left_out.describe()


def test_a_dead_link_is_no_folder_and_no_file(here: Path) -> None:
    (here / "photos" / "gone").symlink_to(here / "nowhere")
    (here / "photos" / "circle").symlink_to("circle")
    for name in ("photos", "photos/*"):
        assert find(name).left_out.describe() == "left out 2 broken links; 1 folder (--recursive looks into folders)"


@pytest.mark.parametrize(
    ("line", "words", "quoted"),
    [
        (["photos/a.png", "What", "is", "it"], "What, is", '"What is it"'),
        (["photos/a.png", "photos/b.JPG", "Why", "red?"], "Why", '"Why red?"'),
        (["photos/a.png", "How", "many", "are there"], "How, many", '"How many are there"'),
    ],
)
def test_a_question_without_quotation_marks_is_refused(here: Path, line: list[str], words: str, quoted: str) -> None:
    with pytest.raises(DataError) as caught:
        check_quotes(line)
    assert caught.value.message == f"{words}: no such file or folder"
    assert caught.value.hint.endswith(quoted)


@pytest.mark.parametrize(
    "line",
    [
        ["photos/a.png", "What is it?"],
        ["photos/a.png", "Why?"],
        ["photos", "scans/*", "gone.png", "http://host/x", "-", "folder/gone", "Why?"],
        ["photos/a.png", "gone", "What is it?"],
    ],
)
def test_names_of_images_are_not_taken_for_words(here: Path, line: list[str]) -> None:
    check_quotes(line)
