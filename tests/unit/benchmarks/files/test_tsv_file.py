"""Separated values by several writers: each cell is what that writer meant, and lines are never joined silently."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import pytest

from p2r.benchmarks.files.table_file import read_table
from p2r.benchmarks.files.tsv_file import read_tsv, read_tsv_header
from p2r.errors import DataError
from p2r.images.unpack import unpack
from tests.fakes.benchmark_files import make_bytes

LARGE = frozenset({"image"})
NOISE = base64.b64decode(base64.b64encode(bytes(range(256)) * 900))
TEXTS = ["plain", 'say "hi"', "two\nlines", "a\ttab", 'ends with quote"', '"quoted"', '"', "", "a,b;c", '5" x 4"']


def write(path: Path, rows: list[list[str]], **settings: object) -> Path:
    buffer = io.StringIO()
    csv.writer(buffer, **settings).writerows(rows)  # type: ignore[call-overload]
    path.write_bytes(buffer.getvalue().encode())
    return path


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_what_the_csv_module_writes_is_read_back(tmp_path: Path, separator: str, line_end: str, quoting: int) -> None:
    rows = [[str(k), text, "x" * 3000] for k, text in enumerate(TEXTS)]
    path = write(
        tmp_path / "a.tsv",
        [["id", "text", "image"], *rows],
        delimiter=separator,
        lineterminator=line_end,
        quoting=quoting,
    )
    table = read_tsv(path, LARGE)
    assert table.columns == {"id", "text", "image"}
    assert [row.values for row in table.rows] == [{"id": str(k), "text": text} for k, text in enumerate(TEXTS)]
    assert all(row.cells["image"].read().strip(b'"') == b"x" * 3000 for row in table.rows)


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_base64_in_thousands_of_lines_is_one_cell(tmp_path: Path, column: int, line_end: bytes) -> None:
    wrapped = b'"' + base64.encodebytes(NOISE).replace(b"\n", line_end) + b'"'
    assert wrapped.count(b"\n") > 3000
    names, cells = [b"id", b"text"], [b"7", b"What?"]
    names.insert(column, b"image")
    cells.insert(column, wrapped)
    path = tmp_path / "a.tsv"
    path.write_bytes(line_end.join([b"\t".join(names), b"\t".join(cells), b"\t".join(cells), b""]))
    rows = read_tsv(path, LARGE).rows
    assert [row.values for row in rows] == [{"id": "7", "text": "What?"}] * 2
    assert [unpack(row.cells["image"].read()) for row in rows] == [NOISE] * 2


def test_a_writer_that_does_not_quote_may_begin_a_field_with_a_quotation_mark(tmp_path: Path) -> None:
    texts = ['" is the sign of inches', '"STOP" or "GO"?', 'is it 5"', '"', 'the last "', '"Stop', 'go"', "no quotes"]
    path = tmp_path / "a.tsv"
    for order in (texts, texts[::-1], texts[3:] + texts[:3]):
        lines = [f"{k}\t{text}\tA\t{text}" for k, text in enumerate(order)]
        path.write_text("\n".join(["id\ttext\tanswer\tlast", *lines]))
        assert [row.values for row in read_tsv(path, LARGE).rows] == [
            {"id": str(k), "text": text, "answer": "A", "last": text} for k, text in enumerate(order)
        ]


def test_a_cell_of_several_lines_may_be_the_last_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('id\ttext\n1\t"two\nlines"\n2\t"and ""three""\n\nlines"\n3\tone\n')
    values = [row.values["text"] for row in read_tsv(path, LARGE).rows]
    assert values == ["two\nlines", 'and "three"\n\nlines', "one"]


def test_a_cell_of_csv_may_hold_what_looks_like_a_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", [["image", "text"], ["a.jpg", "Hello\nb.jpg, what?"], ["c.jpg", "x"]])
    assert [row.values["text"] for row in read_tsv(path, LARGE).rows] == ["Hello\nb.jpg, what?", "x"]


def test_the_only_column_may_hold_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\n"two\nlines"\none\n')
    assert [row.values["text"] for row in read_tsv(path, LARGE).rows] == ["two\nlines", "one"]


def test_blanks_around_the_names_of_columns_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("\ufeffid \t text\t\n1\t a \t\n", encoding="utf-8")
    assert read_tsv_header(path) == ["id", "text", ""]
    assert read_tsv(path, LARGE).rows[0].values == {"id": "1", "text": " a ", "": ""}


def test_blank_lines_are_not_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\n\n1\ta\n \n\t\n2\tb\n\n")
    assert [row.values["id"] for row in read_tsv(path, LARGE).rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty or has no header"),
        (b"\n\n", "is empty or has no header"),
        ("id\ttext\n1\ta\n".encode("utf-16"), "is written in UTF-16"),
        ("id\ttext\n1\ta\n".encode("utf-32"), "is written in UTF-32"),
        (b"PK\x03\x04\x14\0", "is a ZIP archive"),
        (b"\x1f\x8b\x08\0", "is a gzip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>", "is a web page"),
        (b"id\tA\tA\n1\tx\ty\n", "has two columns 'A'"),
        ("id\t颜色\n".encode("gbk"), "is not UTF-8"),
    ],
)
def test_a_file_that_is_not_a_table_says_what_it_is(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(data)
    for read in (read_tsv_header, lambda path: read_tsv(path, LARGE)):
        with pytest.raises(DataError, match=message) as error:
            read(path)
        assert error.value.hint


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_other_kinds_of_file_say_what_they_are_too(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    for data, message in ((b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer"), (b"<html>", "web page")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            read_table(path)


def test_a_row_in_another_encoding_is_bad_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"id\ttext\n1\ta\n2\t" + "颜色".encode("gbk") + b"\n3\tb\n")
    rows = read_tsv(path, LARGE).rows
    assert [row.values.get("id") for row in rows] == ["1", None, "3"]
    assert rows[1].error.startswith("not UTF-8 (invalid ") and rows[1].hint == "save the file as UTF-8"
    (tmp_path / "a.json").write_bytes(b'[{"a": "' + "颜色".encode("gbk") + b'"}]')
    assert "not UTF-8" in read_table(tmp_path / "a.json").rows[0].error


def test_numbers_and_empty_cells_of_pandas_are_read_as_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("index\tA\tB\tC\tD\n0.0\tnan\tNaN\t<NA>\tNone\n-3.00\t1.5\t1.0\tna\tNaN.\n")
    first, second = read_tsv(path, LARGE).rows
    assert first.integer("index") == 0 and first.key("index") == "0"
    assert [first.has(name) for name in "ABCD"] == [False, False, False, True]
    assert second.integer("index") == -3 and second.key("A") == "1.5" and second.text("B") == "1.0"
    assert [second.has(name) for name in "ABCD"] == [True] * 4
    with pytest.raises(DataError, match=r"'1\.5' is not a whole number"):
        second.integer("A")


@pytest.mark.parametrize("key", ["data", "rows", "questions", "samples", "examples"])
def test_rows_under_a_name_are_the_rows_of_a_json_file(tmp_path: Path, key: str) -> None:
    path = tmp_path / "a.json"
    text = base64.b64encode(make_bytes(1) * 3).decode()
    path.write_text(json.dumps({"version": 1, key: [{"id": 1, "image": text}, {"id": 2, "image": "a.jpg"}]}))
    table = read_table(path)
    assert [row.values["id"] for row in table.rows] == [1, 2] and table.columns == {"id", "image"}
    assert table.rows[0].cells["image"].read().decode() == text
    path.write_text('{"id": 1, "messages": [{"role": "user"}]}')
    assert read_table(path).columns == {"id", "messages"}
