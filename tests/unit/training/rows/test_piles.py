"""Rows by kind in files: what was asked is what is read back, and images stay where they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch")

from p2r.benchmarks import load_benchmark
from p2r.benchmarks.convert import convert
from p2r.errors import ImageError
from p2r.images.load import FileImage, MemoryImage
from p2r.images.web import WebImage
from p2r.runs.difficulty import Kind, RowDifficulty
from p2r.training.rows.piles import write_piles
from p2r.types import Box, Sample
from tests.fakes.training import CountingImage, make_sample

COUNTS: dict[Kind, tuple[int, int]] = {"easy": (2, 0), "medium": (1, 1), "hard": (0, 2), "unjudged": (0, 1)}


def measure(rows: list[Sample], *kinds: Kind) -> list[RowDifficulty]:
    def describe(row: Sample, kind: Kind) -> RowDifficulty:
        right, wrong = COUNTS[kind]
        return RowDifficulty(
            id=row.id, num_judged=2, mean=None, variance=None, num_rollouts=2, num_right=right, num_wrong=wrong
        )

    return [describe(row, kind) for row, kind in zip(rows, kinds, strict=True)]


def read_ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def image(tmp_path: Path) -> FileImage:
    path = tmp_path / "images" / "a 1.png"
    path.parent.mkdir()
    Image.new("RGB", (64, 48), "navy").save(path)
    return FileImage(path)


def test_each_row_is_in_the_file_of_its_kind_in_order(tmp_path: Path, image: FileImage) -> None:
    rows = [make_sample(name, image=image) for name in "abcde"]
    assert write_piles(tmp_path / "out", rows, measure(rows, "hard", "easy", "medium", "unjudged", "easy"), 2) == ""
    found = {path.stem: read_ids(path) for path in (tmp_path / "out").glob("*.jsonl")}
    assert found == {"easy": ["b", "e"], "medium": ["c"], "hard": ["a"], "unjudged": ["d"]}
    lines = (tmp_path / "out/histogram.txt").read_text().splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["0", "1"], ["1", "1"], ["2", "2"], ["unjudged", "1"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"gold_boxes": (Box(x1=1, y1=2, x2=30.5, y2=40, label="sail"), Box(x1=5, y1=5, x2=9, y2=9))},
        {"nothing_there": True},
        {"category": "attribute", "cluster": "q7"},
        {"key_words": ("Sail", "red star")},
        {"options": (), "answer_form": "free_form", "target": "a red kite"},
        {"options": (), "answer_form": "number", "target": "12"},
        {"options": (), "answer_form": "number", "question": "How many?\nA. red\nB. blue", "target": "3"},
        {"question": "Which?\nA. a star\nB. an anchor", "options_in_question": True},
        {"question": "Which one, then?\n(A) a star\n(B) an anchor\nThink first.", "options_in_question": True},
        {"options": ("A", "B"), "target": "B"},
        {"question": 'Was heißt "Möwe"? \u2028 <b>'},
    ],
)
def test_a_row_is_read_back_as_it_was(tmp_path: Path, image: FileImage, changes: dict[str, object]) -> None:
    row = make_sample("r/1", image=image, **changes)
    write_piles(tmp_path / "out", [row], measure([row], "medium"), 2)
    [again] = load_benchmark(tmp_path / "out/medium.jsonl")
    assert again.image.uri == str(image.path)
    assert replace(again, image=row.image, benchmark="", chance=None) == replace(row, benchmark="", chance=None)


def test_images_stay_where_they_are_or_are_saved_once(tmp_path: Path, image: FileImage) -> None:
    memory = MemoryImage(Image.new("RGB", (20, 10), "red"), name="made:1")
    rows = [
        make_sample("file", image=image),
        make_sample("web", image=WebImage("https://example.org/a.jpg")),
        make_sample("memory", image=memory),
        make_sample("again", image=memory),
    ]
    write_piles(tmp_path / "out", rows, measure(rows, "easy", "easy", "easy", "hard"), 2)
    stated = [json.loads(line)["image"] for line in (tmp_path / "out/easy.jsonl").read_text().splitlines()]
    assert stated == [str(image.path), "https://example.org/a.jpg", "rows_images/000000.png"]
    assert [path.name for path in (tmp_path / "out/rows_images").iterdir()] == ["000000.png"]
    [hard] = load_benchmark(tmp_path / "out/hard.jsonl")
    assert hard.image.load().getpixel((0, 0)) == (255, 0, 0)


def test_images_in_a_parquet_file_are_saved_and_paths_in_one_are_not(tmp_path: Path, image: FileImage) -> None:
    pytest.importorskip("pyarrow")
    convert([make_sample("a", image=image)], tmp_path / "inside.parquet", "easyr1")
    rows = list(load_benchmark(tmp_path / "inside.parquet"))
    write_piles(tmp_path / "out", rows, measure(rows, "easy"), 2)
    [again] = load_benchmark(tmp_path / "out/easy.jsonl")
    assert again.image.load().size == (64, 48)
    assert again.image.uri.endswith("out/rows_images/000000.png")


def test_a_row_that_has_no_place_is_said_and_the_others_are_written(tmp_path: Path, image: FileImage) -> None:
    broken = CountingImage(fault=ImageError("boat.png cannot be read"), num_faults=9)
    rows = [
        make_sample("unknown", image=image, options=()),
        make_sample("broken", image=broken),
        make_sample("swapped", image=image, options=("B", "A"), target="A"),
        make_sample("good", image=image),
    ]
    said = write_piles(tmp_path / "out", rows, measure(rows, "easy", "unjudged", "easy", "easy"), 2)
    assert said == (
        "3 rows have no place in the files, the first because sample 'unknown' is a choice without readable options"
    )
    assert read_ids(tmp_path / "out/easy.jsonl") == ["good"]
    assert "2     3" in (tmp_path / "out/histogram.txt").read_text()  # the histogram counts all


def test_files_are_written_once_and_a_kill_in_between_is_mended(tmp_path: Path, image: FileImage) -> None:
    rows = [make_sample(name, image=image) for name in "ab"]
    found = measure(rows, "easy", "hard")
    write_piles(tmp_path, rows, found, 2)
    (tmp_path / "hard.jsonl").unlink()
    write_piles(tmp_path, rows, found, 2)
    assert not (tmp_path / "hard.jsonl").exists()  # the histogram, which is the last, was there
    (tmp_path / "histogram.txt").unlink()
    write_piles(tmp_path, rows, found, 2)
    assert read_ids(tmp_path / "hard.jsonl") == ["b"]
