"""Files that are no images say what they are, and texts that are no paths too."""

from __future__ import annotations

import base64
import gzip
import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from p2r.errors import ImageError
from p2r.images.contents import explain_content, is_base64_image, show_path
from p2r.images.load import FileImage


def make_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def make_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.jpg", make_jpeg())
    return buffer.getvalue()


CONTENTS = {
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 81234\n",
    "git-annex pointer": b"../../.git/annex/objects/Wz/9K/SHA256E-s81234--4d7a.jpg",
    "git-annex": b"/annex/objects/SHA256E-s81234--4d7a.jpg\n",
    "web page": b"\n <!doctype HTML>\n<title>Sign in</title>",
    "web page (HTML)": b"<html><body>404</body></html>",
    "XML": b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
    "SVG": b'<?xml version="1.0"?>\n<!-- by Inkscape -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "drawing": b'<svg width="4"/>',
    "JSON": b'{"error": "quota exceeded"}',
    "PDF": b"%PDF-1.7\n",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0",
    "Photoshop": b"8BPS\0\1",
    "HEIC": b"\0\0\0\x24ftypheic\0\0\0\0",
    "HEIC image": b"\0\0\0\x18ftypmif1\0\0\0\0",
    "video": b"\0\0\0\x18ftypmp42\0\0\0\0",
    "a video": b"\x1aE\xdf\xa3\x01\0\0\0",
    "ZIP": make_zip(),
    "gzip": gzip.compress(make_jpeg()),
    "icon": b"\0\0\1\0\1\0",
    "zeros": b"\0" * 4096,
    "base64": base64.b64encode(make_jpeg()),
    "base64 text": b"data:image/jpeg;base64," + base64.b64encode(make_jpeg()),
    "not an image but text": b"Not Found",
}


@pytest.mark.parametrize("what", CONTENTS)
def test_a_file_that_is_no_image_says_what_it_is(tmp_path: Path, what: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(CONTENTS[what])
    for read in (FileImage(path).load, FileImage(path).read_size):
        with pytest.raises(ImageError, match=r"photo\.jpg is ") as error:
            read()
        assert what in error.value.message and error.value.hint


def test_an_avif_that_begins_as_heic_is_neither_heic_nor_a_video() -> None:
    for head in (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", b"\0\0\0\x1cftypavif\0\0\0\0", b"\0\0\0\x1cftypavis\0\0\0\0"):
        assert explain_content(head) == ("", "")


def test_bytes_without_a_meaning_get_the_list_of_known_formats(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\x07\x91\xfe" * 40)
    assert explain_content(b"\x07\x91\xfe") == ("", "")
    with pytest.raises(ImageError, match="not an image that can be read") as error:
        FileImage(tmp_path / "photo.jpg").load()
    assert "JPEG" in error.value.hint


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x" * 300 + ".jpg", "cannot be opened: file name too long"),
        ("a\0b.jpg", r"a\\x00b.jpg cannot be opened: embedded null byte"),
        ("data:image/png;base64," + base64.b64encode(make_jpeg()).decode(), "is a data URL"),
        (base64.b64encode(make_jpeg()).decode() * 3, "is an image written as base64 text"),
        ("https://example.org/a.jpg", r"is a web address \(https\)"),
        ("s3://bucket/a.jpg", r"is a web address \(s3\)"),
        ("file:///data/a.jpg", "is a file: URL"),
        ("gone.jpg", "there is no file gone.jpg"),
    ],
)
def test_a_text_that_is_no_path_is_an_error_of_one_short_sentence(text: str, what: str) -> None:
    for read in (FileImage(text).load, FileImage(text).read_size):
        with pytest.raises(ImageError, match=what) as error:
            read()
        assert len(error.value.message) < 300 and error.value.hint


def test_a_web_address_that_became_a_path_is_still_recognized() -> None:
    with pytest.raises(ImageError, match="web address"):
        FileImage(Path("http://example.org/a.jpg")).load()


def test_a_path_through_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(make_jpeg())
    with pytest.raises(ImageError, match=r"a\.jpg/b\.jpg"):
        FileImage(tmp_path / "a.jpg" / "b.jpg").load()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_base64_of_each_format_is_recognized(image_format: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(buffer, image_format)
    text = base64.b64encode(buffer.getvalue()).decode()
    assert is_base64_image(text)
    assert is_base64_image(text.replace("+", "-").replace("/", "_").rstrip("="))
    assert is_base64_image(base64.encodebytes(buffer.getvalue()).decode())


@pytest.mark.parametrize(
    "text", ["a.jpg", "images/train/000000000139.jpg", "IMG_20240101_120000_00001", "", "red kite"]
)
def test_a_path_or_word_is_no_base64(text: str) -> None:
    assert not is_base64_image(text)


def test_a_long_path_is_cut_and_a_usual_one_is_not() -> None:
    assert show_path(Path("a") / "b.jpg") == "a/b.jpg"
    assert show_path("ü b.jpg") == "ü b.jpg"
    assert show_path("/d" * 120) == "/d" * 120
    assert show_path("/d" * 121) == f"{'/d' * 30}... (242 characters)"
