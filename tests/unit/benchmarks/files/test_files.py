"""Data files: rows by place, long fields left in the file, and what is said about broken ones."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p2r.benchmarks.files.field_image import find_image
from p2r.benchmarks.files.json_file import read_json
from p2r.benchmarks.files.table_file import find_parts, read_columns, read_table
from p2r.errors import DataError, ImageError
from p2r.images.load import decode_image
from p2r.images.unpack import unpack
from tests.fakes.benchmark_files import make_base64, make_bytes, write_parquet, write_tsv

TRICKY = ['say "hi"', "two\nlines", "a\ttab", "", "ünï", '"', '""', 'ends with quote"']


@pytest.fixture(params=["tsv", "parquet", "json"])
def table_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rows = [{"index": k, "text": text, "image": make_base64(k), "after": k} for k, text in enumerate(TRICKY)]
    path = tmp_path / f"data.{request.param}"
    if request.param == "tsv":
        return write_tsv(path, rows)
    if request.param == "json":
        path.write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")
        return path
    return write_parquet(path, rows, rows_per_group=3)


def test_every_kind_of_file_gives_the_same_rows(table_path: Path) -> None:
    table = read_table(table_path)
    assert [str(row.values["text"]) for row in table.rows] == TRICKY
    assert [row.integer("after") for row in table.rows] == list(range(len(TRICKY)))
    assert table.columns == {"index", "text", "image", "after"} == read_columns(table_path)


def test_images_stay_in_the_file_until_they_are_loaded(table_path: Path, tmp_path: Path) -> None:
    table = read_table(table_path)
    for row in reversed(table.rows):
        assert "image" in row.cells and "image" not in row.values
        image = find_image(row, tmp_path, "image")
        assert image.load().size == image.read_size() == (80, 60)  # type: ignore[attr-defined]
    assert unpack(table.rows[5].cells["image"].read()) == make_bytes(5)


def test_rows_can_go_to_another_process(table_path: Path, tmp_path: Path) -> None:
    image = pickle.loads(pickle.dumps(find_image(read_table(table_path).rows[4], tmp_path, "image")))
    assert image.load().size == (80, 60)


def test_a_row_with_a_field_too_few_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_text("a\tb\n1\t2\n3\n5\t6\n")
    rows = read_table(path).rows
    assert [row.values for row in rows] == [{"a": "1", "b": "2"}, {}, {"a": "5", "b": "6"}]
    with pytest.raises(DataError, match="1 field where the header has 2 columns"):
        rows[1].check()


def test_a_row_cut_off_inside_quotation_marks_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_text('a\tb\tc\n1\t2\t3\n4\t"open\n5\t6\t7\n')
    rows = read_table(path).rows
    assert [row.values for row in rows] == [{"a": "1", "b": "2", "c": "3"}, {}, {"a": "5", "b": "6", "c": "7"}]
    assert rows[1].error == "a quotation mark is opened and never closed"


def test_json_of_any_shape_survives_the_reading_in_pieces(tmp_path: Path) -> None:
    long = "x" * 5000 + '\\"quoted\\" {brace}' * 10
    rows = [{"a": {"deep": [1, {"x": "}"}]}, "image": long, "b": '\\"{', "c": "é" * 3000, "d": None} for _ in range(3)]
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows, ensure_ascii=True))
    for row in read_json(path).rows:
        assert row.values == {key: value for key, value in rows[0].items() if key not in ("image", "c")}
        assert json.loads(b'"' + row.cells["image"].read() + b'"') == long


def test_json_with_images_over_the_border_of_a_piece_is_read(tmp_path: Path) -> None:
    image = base64.b64encode(bytes(range(256)) * 6000).decode()
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"k": k, "image": image} for k in range(3)]))
    rows = read_json(path).rows
    assert [row.values for row in rows] == [{"k": 0}, {"k": 1}, {"k": 2}]
    assert all(row.cells["image"].read() == image.encode() for row in rows)


@pytest.mark.parametrize("text", ["", "hello", "17", "[1, 2]"])
def test_a_json_file_without_objects_has_no_rows_or_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"data\.json"):
        read_table(path).require(["image"])


def test_a_cut_off_json_file_ends_in_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"a": 1}, {"a": 2}])[:-4])
    rows = read_table(path).rows
    assert rows[0].values == {"a": 1} and "not a JSON object" in rows[1].error


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_parquet_file_is_named(tmp_path: Path, share: float) -> None:
    path = write_parquet(tmp_path / "data.parquet", [{"image": make_base64(k), "a": k} for k in range(5)])
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=r"data\.parquet is cut off or not a parquet file"):
        read_table(path)


def test_parts_of_a_split_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for part in range(2):
        write_parquet(tmp_path / "data" / f"test-0000{part}-of-00002.parquet", [{"a": part}])
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [{"a": 9}])
    assert [row.values["a"] for row in read_table(tmp_path, split="test").rows] == [0, 1]
    with pytest.raises(DataError, match="several data files"):
        find_parts(tmp_path)
    with pytest.raises(DataError, match="no data file of the split 'val'"):
        find_parts(tmp_path, split="val")


@pytest.mark.parametrize("wrap", ["{}", '"{}"', "data:image/jpeg;base64,{}", "{}\n"])
def test_base64_is_read_however_it_is_wrapped(wrap: str) -> None:
    assert unpack(wrap.format(make_base64(1)).encode()) == make_bytes(1)


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-3], lambda text: "!" + text, lambda text: text.replace("A", "*")]
)
def test_wrong_base64_is_an_error(damage: object) -> None:
    with pytest.raises(DataError, match="is not base64"):
        unpack(damage(make_base64(1)).encode())  # type: ignore[operator]


def test_threads_may_load_images_of_a_parquet_file_in_any_order(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "data.parquet", [{"image": make_base64(k)} for k in range(12)], rows_per_group=5)
    images = [find_image(row, tmp_path, "image") for row in read_table(path).rows]
    order = [7, 0, 11, 3, 3, 10, 1, 6] * 4
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda k: images[k].load().tobytes(), order))
    assert loaded == [decode_image(make_bytes(k), "image").tobytes() for k in order]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "data.parquet", [{"a": 1}])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match="pyarrow is not installed") as error:
        read_table(path)
    assert "[data]" in error.value.hint


def test_a_broken_image_names_file_row_and_field(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "data.tsv", [{"image": base64.b64encode(b"no image" * 300).decode()}])
    with pytest.raises(ImageError, match=r"data\.tsv#1/image is not an image"):
        find_image(read_table(path).rows[0], tmp_path, "image").load()


@pytest.mark.parametrize(
    ("name", "hint"), [("a.zip", "unpack it first"), ("a.xlsx", "known: .parquet"), ("a", "known")]
)
def test_a_file_of_no_known_kind_says_what_is_known(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    for read in (read_table, read_columns):
        with pytest.raises(DataError, match="is not a known kind of data file") as error:
            read(tmp_path / name)
        assert hint in error.value.hint
