"""The image in a field: every form in which data sets state it gives the same image, or a sentence."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks.files.cell_image import CellImage, HeldCell
from p2r.benchmarks.files.field_image import find_image, make_image
from p2r.benchmarks.files.rows import Row
from p2r.benchmarks.files.table_file import read_table
from p2r.errors import DataError, ImageError
from p2r.images.find import HEADER_BYTES
from p2r.images.load import read_size
from p2r.images.unpack import unpack
from p2r.images.web import WebImage
from tests.fakes.benchmark_files import make_bytes, write_parquet

DATA = make_bytes(3)
TEXT = base64.b64encode(DATA).decode()
URL = f"data:image/jpeg;base64,{TEXT}"
FORMS = {
    "path": "img/a b.jpg",
    "path with a dot": "./img/a b.jpg",
    "Windows path": "img\\a b.jpg",
    "path of a URL": "img/a%20b.jpg",
    "path with a query": "img/a%20b.jpg?X-Amz-Date=2026&X-Amz-Signature=0",
    "path in blanks": " img/a b.jpg\n",
    "base64": TEXT,
    "base64 in lines": base64.encodebytes(DATA).decode(),
    "base64 in lines of CRLF": base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
    "URL-safe base64": base64.urlsafe_b64encode(DATA).decode(),
    "base64 without padding": TEXT.rstrip("="),
    "data URL": URL,
    "data URL with a parameter": f"data:image/jpeg;charset=utf-8;base64,{TEXT}",
    "bytes": DATA,
    "list of a path": ["img/a b.jpg"],
    "tuple": ("img/a b.jpg",),
    "list of base64": [TEXT],
    "list of a list": [[URL]],
    "JSON text of a list": json.dumps([TEXT]),
    "Python text of a list": repr(["img/a b.jpg"]),
    "bytes of a structure": {"bytes": DATA, "path": None},
    "bytes before the path": {"bytes": DATA, "path": "gone.jpg"},
    "base64 in bytes": {"bytes": TEXT, "path": None},
    "path of a structure": {"bytes": None, "path": "img/a b.jpg"},
    "empty bytes": {"bytes": b"", "path": "img/a b.jpg"},
    "image of a structure": {"image": "img/a b.jpg", "type": "image"},
    "OpenAI": {"type": "image_url", "image_url": {"url": URL}},
    "url": {"url": URL},
    "list of structures": [{"bytes": None, "path": "img/a b.jpg"}],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a b.jpg").write_bytes(DATA)
    return tmp_path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_image(root: Path, form: str) -> None:
    image = make_image(FORMS[form], "t.json#1/image", root)
    assert image.load().size == read_size(image) == (80, 60)


@pytest.mark.parametrize("form", [form for form, value in FORMS.items() if isinstance(value, str)])
def test_every_text_gives_the_image_from_a_file(root: Path, form: str) -> None:
    value = str(FORMS[form])
    for name, text in (("t.json", json.dumps([{"image": value}])), ("u.json", json.dumps([{"image": [value]}]))):
        (root / name).write_text(text)
        image = find_image(read_table(root / name).rows[0], root, "image")
        assert image.load().size == read_size(image) == (80, 60)
    path = write_parquet(root / "t.parquet", [{"image": value}])
    image = find_image(read_table(path).rows[0], root, "image")
    assert image.load().size == read_size(image) == (80, 60)
    if "\r" not in value:
        (root / "t.tsv").write_text('id\timage\n1\t"' + value.replace('"', '""') + '"\n')
        image = find_image(read_table(root / "t.tsv").rows[0], root, "image")
        assert image.load().size == read_size(image) == (80, 60)


@pytest.mark.parametrize("form", ["bytes", "path of a structure", "list of structures", "list of base64"])
def test_every_structure_gives_the_image_from_a_parquet_file(root: Path, form: str) -> None:
    image = find_image(read_table(write_parquet(root / "t.parquet", [{"image": FORMS[form]}])).rows[0], root, "image")
    assert image.load().size == read_size(image) == (80, 60)


def test_a_url_of_a_file_is_its_path(root: Path) -> None:
    url = (root / "img" / "a b.jpg").as_uri()
    assert "%20" in url and make_image(url, "x", Path("elsewhere")).load().size == (80, 60)
    assert make_image({"image": url}, "x", root).uri == str(root / "img" / "a b.jpg")


def test_a_name_with_odd_characters_is_first_taken_as_it_is(root: Path) -> None:
    for name in ("a%20b.jpg", "50%.jpg", "what?.jpg", "a\\b.jpg"):
        (root / name).write_bytes(make_bytes(1, 20, 10))
        assert make_image(name, "x", root).load().size == (20, 10)


def test_a_file_with_the_name_of_a_base64_text_is_a_file(root: Path) -> None:
    name = TEXT[:60].replace("/", "_")
    (root / name).write_bytes(make_bytes(1, 20, 10))
    assert make_image(name, "x", root).load().size == (20, 10)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "no image"),
        ("", "no image"),
        (" ", "no image"),
        ({}, "no image"),
        (True, "True is neither a path nor bytes"),
        ([], "no image"),
        ("[]", "no image"),
        (["a.jpg", "b.jpg"], "2 images"),
        ('["a.jpg", "b.jpg"]', "2 images"),
        (7, "7 is neither a path nor bytes"),
        ({"bytes": None, "path": None}, "a structure of bytes, path with neither a path nor bytes"),
        ({"mime": "image/png"}, "a structure of mime with neither a path nor bytes"),
    ],
)
def test_a_value_without_one_image_is_one_short_sentence(root: Path, value: object, message: str) -> None:
    row = Row(root / "t.json", 1, {"image": value})
    with pytest.raises(DataError, match=message) as error:
        make_image(value, "x", root)
    assert len(error.value.message) < 200
    with pytest.raises(DataError, match="field 'image': "):
        find_image(row, root, "image")


def test_an_address_is_an_image_on_the_web_however_long_and_wherever_it_is(root: Path) -> None:
    for url in ("https://example.org/a.jpg", "https://example.org/a.jpg?" + "x" * 5000):
        (root / "t.json").write_text(json.dumps([{"image": url}, {"image": [{"url": url}]}]))
        path = write_parquet(root / "t.parquet", [{"image": url}])
        for row in (*read_table(root / "t.json").rows, Row(root / "t.tsv", 1, {"image": url})):
            assert find_image(row, root, "image") == WebImage(url)
        assert find_image(read_table(path).rows[0], root, "image").find() == WebImage(url)  # type: ignore[attr-defined]
    with pytest.raises(ImageError, match=r"s3://bucket/a\.jpg' is not a web address"):
        make_image({"url": "s3://bucket/a.jpg"}, "x", root).load()


@pytest.mark.parametrize(
    "value", ["a\0b.jpg", "x" * 300, "\0", "x/" * 400, "%00.jpg", "file:///a%00b.jpg", "//?/" * 90]
)
def test_a_path_that_cannot_be_one_fails_when_it_is_read(root: Path, value: str) -> None:
    image = make_image(value, "x", root)
    with pytest.raises(ImageError) as error:
        image.load()
    assert len(error.value.message) < 400


def test_base64_that_lost_its_closing_quotation_mark_is_a_broken_image(root: Path) -> None:
    with pytest.raises(ImageError, match="broken"):
        make_image(f'"{TEXT[:400]}', "x", root).load()


def test_the_size_of_a_large_png_counts_an_orientation_after_its_pixels() -> None:
    noise = Image.effect_noise((900, 600), 90)
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content + struct.pack(">I", zlib.crc32(b"eXIf" + content))
    data = buffer.getvalue()[:-12] + chunk + buffer.getvalue()[-12:]
    assert len(data) > HEADER_BYTES
    for cell in (data, base64.b64encode(data)):
        image = CellImage("t.tsv#1/image", HeldCell(cell))
        assert image.read_size() == image.load().size == (600, 900)


def test_a_broken_long_text_is_not_printed(root: Path) -> None:
    (root / "t.json").write_text(json.dumps([{"image": ["!" + TEXT * 4]}, {"image": {"odd": TEXT * 4}}]))
    first, second = read_table(root / "t.json").rows
    with pytest.raises(ImageError, match="is not base64") as error:
        find_image(first, root, "image").load()
    assert len(error.value.message) < 300
    with pytest.raises(DataError, match="a structure of odd") as refused:
        find_image(second, root, "image")
    assert "FileRange" not in refused.value.message


def test_the_first_field_that_is_not_empty_counts(root: Path) -> None:
    row = Row(root / "t.tsv", 4, {"image": "nan", "image_path": "img/a b.jpg"})
    assert find_image(row, root, "image", "image_path").load().size == (80, 60)
    with pytest.raises(DataError, match="field 'bytes': missing"):
        find_image(row, root, "bytes")
    with pytest.raises(DataError, match="field 'image': empty"):
        find_image(row, root, "image")


@pytest.mark.parametrize("escape", ["\\/", "\\u002f", "\\u002F"])
def test_escapes_of_json_are_resolved(escape: str) -> None:
    assert "/" in TEXT
    assert unpack(TEXT.replace("/", escape).encode()) == DATA
    for limit in range(200, 230):
        head = unpack(TEXT.replace("/", escape).encode()[:limit], cut_off=True)
        assert head and DATA.startswith(head)


def test_a_list_of_two_in_a_long_cell_is_not_one_image() -> None:
    for text in (f"['{TEXT}', '{TEXT}']", f'["{TEXT}","{TEXT}"]'):
        with pytest.raises(ImageError, match="several images"):
            CellImage("t.tsv#1/image", HeldCell(text.encode())).load()
