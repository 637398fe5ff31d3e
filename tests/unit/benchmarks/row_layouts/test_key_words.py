"""Key words of rows: read the same way from every layout, written back, and refused where they are not clear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.benchmarks.convert import WRITERS, convert
from p2r.benchmarks.row_layouts.layouts import LAYOUTS
from p2r.errors import DataError
from tests.fakes.benchmark_files import make_bytes

Kind = Literal["own", "rows"]
WORDS = ("blue sail", "Star", "7")


def write(folder: Path, *rows: dict[str, object], kind: Kind = "rows", name: str = "rows.jsonl") -> Path:
    (folder / "a.png").write_bytes(make_bytes(1))
    base = {
        "own": {"image": "a.png", "question": "What is it?", "target": "a boat"},
        "rows": {"images": ["a.png"], "problem": "<image>What is it?", "answer": "a boat"},
    }
    (folder / name).write_text("".join(json.dumps(base[kind] | row) + "\n" for row in rows))
    return folder / name


def read(folder: Path, value: object, kind: Kind = "rows", column: str = "key_word") -> tuple[str, ...]:
    return load_benchmark(write(folder, {column: value}, kind=kind))[0].key_words


def test_the_rows_of_pebr_r1_are_read_as_they_are(tmp_path: Path) -> None:
    rows = [{"qid": f"q{number}", "key_word": ["sail", "star"]} for number in (7, 8)]
    found = load_benchmark(write(tmp_path, *rows))
    assert [(sample.id, sample.question, sample.target, sample.key_words) for sample in found] == [
        ("q7", "What is it?", "a boat", ("sail", "star")),
        ("q8", "What is it?", "a boat", ("sail", "star")),
    ]
    assert found.name == "rows"
    assert "read as PeBR-R1 rows (problem, images, answer, key_word)" in found.notes
    report = check_benchmark(found)
    assert report.passed and report.num_with_key_words == 2


@pytest.mark.parametrize("kind", ["own", "rows"])
@pytest.mark.parametrize("column", ["key_word", "key_words", "keywords"])
def test_the_column_has_three_names(tmp_path: Path, kind: Kind, column: str) -> None:
    assert read(tmp_path, ["sail"], kind, column) == ("sail",)


@pytest.mark.parametrize("kind", ["own", "rows"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["blue sail", " Star ", 7], WORDS),
        ('["blue sail", "Star", 7.0]', WORDS),
        ("['blue sail', 'Star', '7']", WORDS),
        ("blue sail, Star,7", WORDS),
        ("blue sail", ("blue sail",)),
        (7, ("7",)),
        (2.5, ("2.5",)),
        ([], ()),
        ("[]", ()),
        ("", ()),
        (None, ()),
        (["sail", "sail"], ("sail", "sail")),
        (["1,000 people"], ("1,000 people",)),
    ],
)
def test_key_words_are_a_list_or_one_text(tmp_path: Path, kind: Kind, value: object, words: tuple[str, ...]) -> None:
    assert read(tmp_path, value, kind) == words


@pytest.mark.parametrize("kind", ["own", "rows"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1,000 people", "does not say clearly where a key word ends"),
        ("sail; star", "does not say clearly where a key word ends"),
        ("sail|star", "does not say clearly"),
        ("sail\nstar", "does not say clearly"),
        ("帆、星", "does not say clearly"),
        ("sail,,star", "does not say clearly"),
        ("sail, star,", "does not say clearly"),
        (["sail", ""], "key word 2 is '', which names nothing"),
        (["sail", None], "key word 2 is None, which names nothing"),
        ([["sail"]], r"key word 1 is \['sail'\], which names nothing"),
        ([True], "key word 1 is True"),
        (True, "True is not a list of key words"),
        ({"a": "sail"}, "is not a list of key words"),
    ],
)
def test_what_is_no_list_of_key_words_is_refused(tmp_path: Path, kind: Kind, value: object, message: str) -> None:
    with pytest.raises(DataError, match=f"field 'key_word': .*{message}") as caught:
        read(tmp_path, value, kind)
    assert '["sail", "star"]' in caught.value.hint


@pytest.mark.parametrize("kind", ["own", "rows"])
def test_two_columns_of_key_words_are_refused(tmp_path: Path, kind: Kind) -> None:
    with pytest.raises(DataError, match="field 'keywords': there is also 'key_word'"):
        load_benchmark(write(tmp_path, {"key_word": ["a"], "keywords": ["b"]}, kind=kind))
    assert read(tmp_path, ["a"], kind) == ("a",)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("to", [layout.name for layout in LAYOUTS])
def test_every_layout_writes_them_and_reads_them_back(tmp_path: Path, to: str, suffix: str) -> None:
    """The first row has none: a table has its column all the same."""
    found = load_benchmark(write(tmp_path, {}, {"key_words": list(WORDS)}))
    done = convert(list(found), tmp_path / f"out{suffix}", to)
    assert not any("key words" in loss for loss in done.losses)
    again = load_benchmark(f"{'p2r10k' if to in ('p2r10k', 'deepeyes', 'mini_o3') else 'rows'}:{tmp_path}/out{suffix}")
    assert [sample.key_words for sample in again] == [(), WORDS]


def test_own_questions_keep_them_and_v_star_says_that_it_loses_them(tmp_path: Path) -> None:
    rows = {"options": ["a boat", "a kite"], "target": "A", "key_word": ["sail"]}
    found = list(load_benchmark(write(tmp_path, rows, {**rows, "key_word": []}, kind="own")))
    convert(found, tmp_path / "copy.jsonl", "questions")
    lines = [json.loads(line) for line in (tmp_path / "copy.jsonl").read_text().splitlines()]
    assert [line.get("key_word") for line in lines] == [["sail"], None]
    assert [sample.key_words for sample in load_benchmark(tmp_path / "copy.jsonl")] == [("sail",), ()]
    losses = convert(found, tmp_path / "vstar.tsv", "vstar_tsv").losses
    assert "the key words of 1 sample" in losses


def test_nothing_changes_for_rows_without_them(tmp_path: Path) -> None:
    bare = load_benchmark(write(tmp_path, {}))
    for to in sorted(WRITERS.keys() & {layout.name for layout in LAYOUTS} - {"pebr_r1"}):
        convert(list(bare), tmp_path / f"{to}.jsonl", to)
        assert "key_word" not in (tmp_path / f"{to}.jsonl").read_text()
    assert bare.fingerprint == "c1e290799533"
    assert load_benchmark(write(tmp_path, {"key_word": ["sail"]})).fingerprint != bare.fingerprint
    assert check_benchmark(bare).num_with_key_words == 0
