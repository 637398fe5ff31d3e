"""One list of questions in every kind of file, form of options and form of image: every command reads the same.

The commands are `p2r ask`, `p2r eval` and `p2r check` (by the file's name), training, `folder:` with a file and with a
folder, and `p2r convert`, whose file is read again.
"""

from __future__ import annotations

import base64
import csv
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.benchmarks.convert import convert
from p2r.benchmarks.load import load_questions
from p2r.benchmarks.training_rows import load_source
from p2r.config import DataSettings
from p2r.types import Sample
from tests.fakes.benchmark_files import make_bytes, write_parquet
from tests.fakes.web_server import Page, serve_pages

DATA = make_bytes(3)
TEXT = base64.b64encode(DATA).decode()
QUESTIONS: tuple[tuple[str, tuple[str, ...], str | None], ...] = (
    ("What is on the sail?", ("a star", "a fish", "a moon"), "a fish"),
    ("Which number?", ("1,000", "2,000", "30"), "C"),
    ("Is there a mast?", ("yes", "no"), None),
    ("What color is it?", (), "dark red"),
    ("How many oars?", (), "4"),
    ("Where is the 船, in one word?", ("left, above", "right"), "B"),
)

KINDS = (
    "jsonl",
    "ndjson",
    "json",
    "csv",
    "semicolon.csv",
    "tsv",
    "utf16.tsv",
    "parquet",
    "jsonl.gz",
    "csv.gz",
    "parquet.gz",
)
OPTIONS: dict[str, Callable[[Sequence[str]], object]] = {
    "list": list,
    "list with letters": lambda options: [
        f"{letter}. {option}" for letter, option in zip("ABC", options, strict=False)
    ],
    "lines with letters": lambda options: "\n".join(f"{a}. {o}" for a, o in zip("ABC", options, strict=False)),
    "lines": "\n".join,
    "bars": " | ".join,
    "letters on one line": lambda options: " ".join(f"({a}) {o}" for a, o in zip("ABC", options, strict=False)),
    "by letter": lambda options: dict(zip("ABC", options, strict=False)),
    "JSON text": lambda options: json.dumps(list(options)),
    "columns": lambda options: options,
}
IMAGES: dict[str, object] = {
    "path": "img/a b.jpg",
    "list of one": ["img/a b.jpg"],
    "Windows path": "img\\a b.jpg",
    "data URL": f"data:image/jpeg;base64,{TEXT}",
    "base64": TEXT,
    "base64 in lines": base64.encodebytes(DATA).decode(),
    "URL": "http",
    "file URL": "file",
}


def make_rows(options: str, image: object) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for question, texts, target in QUESTIONS:
        row: dict[str, object] = {"image": image, "question": question, "target": target}
        if options == "columns":
            row |= dict(zip("ABC", [*texts, None, None, None][:3], strict=True))
        else:
            row["options"] = OPTIONS[options](texts) if texts else None
        rows.append(row)
    return rows


def write(folder: Path, kind: str, rows: Sequence[dict[str, object]]) -> Path:
    path = folder / f"questions.{kind}"
    plain = kind.removesuffix(".gz")
    filled = [{name: value for name, value in row.items() if value is not None} for row in rows]
    if plain == "parquet":
        as_text = {json.dumps(type(row["options"]).__name__) for row in rows if row.get("options") is not None}
        assert len(as_text) < 2
        data = write_parquet(folder / "part", list(rows)).read_bytes()
        (folder / "part").unlink()
    elif plain == "json":
        data = json.dumps(filled, indent=1).encode()
    elif plain in ("jsonl", "ndjson"):
        data = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in filled).encode()
    else:
        part = folder / "part"
        with part.open("w", encoding="utf-16" if "utf16" in kind else "utf-8", newline="") as file:
            names = list(rows[0])
            writer = csv.writer(file, delimiter="\t" if "tsv" in kind else ";" if "semi" in kind else ",")
            writer.writerow(name.capitalize() if len(name) > 1 else name for name in names)
            writer.writerows(
                [json.dumps(row[name]) if isinstance(row[name], list | dict) else row[name] for name in names]
                for row in rows
            )
        data = part.read_bytes()
        part.unlink()
    path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    return path


def tell(samples: Sequence[Sample], *, ids: bool = True) -> list[object]:
    shown = []
    for number, sample in enumerate(samples):
        image = sample.image.load()
        plain = replace(sample, image=None, id=sample.id if ids else str(number), benchmark="")  # type: ignore[arg-type]
        shown.append((plain, image.size, image.tobytes()))
    return shown


def check_doors(folder: Path, path: Path, numbers: Sequence[str]) -> None:
    asked = load_questions(path)
    assert [sample.id for sample in asked] == list(numbers)
    assert [sample.options for sample in asked] == [options for _, options, _ in QUESTIONS]
    assert [sample.target for sample in asked] == ["B", "C", None, "dark red", "4", "B"]
    forms = ["choice", "choice", "choice", "free_form", "number", "choice"]
    assert [sample.answer_form for sample in asked] == forms
    assert [sample.question for sample in asked] == [question for question, _, _ in QUESTIONS]
    expected = tell(asked)
    assert {size for _, size, _ in expected} == {(80, 60)}  # type: ignore[misc]
    for spec in (path, f"folder:{path}", f"folder:{path.parent}"):
        loaded = load_benchmark(spec)
        assert tell(loaded) == expected, spec
        assert loaded.name == "folder"
    assert check_benchmark(load_benchmark(path)).problems == ()
    assert tell(load_source(DataSettings(source=f"folder:{path}"))) == expected
    convert(load_benchmark(path), folder / "out" / "q.jsonl", "questions")
    assert tell(load_benchmark(folder / "out" / "q.jsonl")) == expected


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "img").mkdir(parents=True)
    (folder / "img" / "a b.jpg").write_bytes(DATA)
    return folder


def numbers_of(kind: str) -> list[str]:
    """The ids: line numbers in JSON lines, which have an empty line between the rows here, else the rows' numbers."""
    step = 2 if kind.startswith(("jsonl", "ndjson")) else 1
    return [str(1 + step * k) for k in range(len(QUESTIONS))]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_options_is_read_the_same_from_every_kind_of_file(place: Path, kind: str, options: str) -> None:
    path = write(place, kind, make_rows(options, "img/a b.jpg"))
    check_doors(place.parent, path, numbers_of(kind))


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_image_is_read_the_same_from_every_kind_of_file(place: Path, kind: str, image: str) -> None:
    with serve_pages({"/a.jpg": Page(DATA)}) as server:
        value = {"URL": f"{server.url}/a.jpg", "file URL": (place / "img" / "a b.jpg").as_uri()}.get(
            image, IMAGES[image]
        )
        path = write(place, kind, make_rows("columns", value))
        check_doors(place.parent, path, numbers_of(kind))
