"""P2R-10k's layout and the raw one of Mini-o3: forms, options, images and what is wrong with a row."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.benchmarks.row_layouts.answer_form import read_options
from p2r.benchmarks.row_layouts.load import LICENSE_NOTE
from p2r.errors import DataError, ImageError
from tests.fakes.benchmark_files import make_bytes, write_parquet

LINES = "What color is it?\nA. red\nB. blue"


def make_row(
    question: str = LINES,
    target: object = "B",
    form: str | None = "mca",
    images: object = ("images/a.jpg",),
    **extra: object,
) -> dict[str, object]:
    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": f"<image>\n{question}"}]
    return {
        "prompt": messages,
        "images": images,
        "data_source": "deepeyes",
        "reward_model": {"style": "rule", "ground_truth": target},
        "extra_info": {**({"answer_form": form} if form else {}), **extra},
    }


def write_rows(folder: Path, *rows: dict[str, object], name: str = "train.json") -> Path:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.jpg").write_bytes(make_bytes(1))
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows))
    return path


def test_forms_are_mapped_and_the_placeholder_is_taken_out(tmp_path: Path) -> None:
    rows = [make_row(), make_row("How many?", 3, "na"), make_row("What is it? <image>", "a kite", None)]
    benchmark = load_benchmark(write_rows(tmp_path, *rows))
    choice, number, free = benchmark
    assert (choice.answer_form, choice.options, choice.target, choice.chance) == ("choice", ("red", "blue"), "B", 0.5)
    assert choice.question == LINES and choice.options_in_question
    assert (number.answer_form, number.target) == ("number", "3")
    assert (free.answer_form, free.target, free.question) == ("free_form", "a kite", "What is it?")
    assert {sample.category for sample in benchmark} == {"deepeyes"} and benchmark.name == "p2r10k"
    assert check_benchmark(benchmark).passed


def test_the_license_is_said(tmp_path: Path) -> None:
    layout = "read as P2R-10k rows (prompt, images, reward_model)"
    assert load_benchmark(write_rows(tmp_path, make_row())).notes == (layout, LICENSE_NOTE)
    assert load_benchmark(write_rows(tmp_path, make_row(form=None))).notes == (layout,)
    assert "CC BY-NC" in LICENSE_NOTE


@pytest.mark.parametrize("name", ["train.json", "train.jsonl"])
def test_images_lie_beside_the_file_or_inside_it(tmp_path: Path, name: str) -> None:
    inside = base64.b64encode(make_bytes(2, 600, 500)).decode()  # long enough to stay in the file
    given = [["images/a.jpg"], "images/a.jpg", [{"path": "images/a.jpg", "bytes": None}], [{"bytes": inside}]]
    benchmark = load_benchmark(write_rows(tmp_path, *(make_row(images=images) for images in given), name=name))
    assert [sample.image.load().size for sample in benchmark] == [(80, 60)] * 3 + [(600, 500)]


def test_parquet_holds_paths_or_bytes(tmp_path: Path) -> None:
    write_rows(tmp_path)
    write_parquet(tmp_path / "paths.parquet", [make_row(images=["images/a.jpg"])])
    embedded = [make_row(images=[{"bytes": make_bytes(k, 90 + k, 60), "path": None}], index=k) for k in range(3)]
    embedded.append(make_row(images=[{"bytes": None, "path": "images/a.jpg"}], index=9))
    write_parquet(tmp_path / "bytes.parquet", embedded)
    paths = load_benchmark(tmp_path / "paths.parquet")
    assert paths[0].image.uri == str(tmp_path / "images" / "a.jpg") and paths[0].image.load().size == (80, 60)
    loaded = load_benchmark(tmp_path / "bytes.parquet")
    assert [sample.image.load().width for sample in loaded] == [90, 91, 92, 80]


def test_images_may_start_elsewhere(tmp_path: Path) -> None:
    path = write_rows(tmp_path, make_row(images=["a.jpg"]))
    assert load_benchmark(path, images=tmp_path / "images")[0].image.load().size == (80, 60)


def test_rows_are_named_by_their_index_where_all_differ(tmp_path: Path) -> None:
    path = write_rows(tmp_path, make_row(index=7), make_row(index=9))
    assert [sample.id for sample in load_benchmark(path)] == ["7", "9"]
    repeated = load_benchmark(write_rows(tmp_path, make_row(index=7), make_row(index=7)))
    assert [sample.id for sample in repeated] == ["train/1", "train/2"]
    assert "1 row repeats an index" in repeated.differences[0]
    assert [sample.id for sample in load_benchmark(write_rows(tmp_path, make_row()))] == ["train/1"]


def test_the_raw_layout_of_mini_o3(tmp_path: Path) -> None:
    free: dict[str, object] = {
        "images": ["images/a.jpg"],
        "problem": "<image>\nWhat is it?",
        "solution": "a kite",
        "doc_id": 3,
    }
    choice = free | {"problem": f"<image>{LINES}", "solution": "A", "doc_id": 4}
    benchmark = load_benchmark(write_rows(tmp_path, free, choice))
    assert [(s.id, s.answer_form, s.target) for s in benchmark] == [("3", "free_form", "a kite"), ("4", "choice", "A")]
    assert benchmark[0].question == "What is it?" and benchmark.name == "p2r10k"


@pytest.mark.parametrize(
    ("question", "options"),
    [
        (LINES, ("red", "blue")),
        ("What?\n(A) red\n(B) blue\nAnswer with the letter.", ("red", "blue")),
        ("What?\nOptions:\n\nA) red\n\nB) blue\n\nC) it's green: really\n", ("red", "blue", "it's green: really")),
        ("What? (A) red (B) blue, (C) green", ("red", "blue", "green")),
        ("What?\n(A) red (B) blue", ("red", "blue")),
        ("A. Smith asks:\nwhat?\nA. red\nB. blue", ("red", "blue")),
        ("What?", ()),
        ("What?\nA. red", ()),
        ("What?\nB. red\nC. blue", ()),
    ],
)
def test_options_are_read_out_of_the_question(question: str, options: tuple[str, ...]) -> None:
    assert read_options(question) == options


def test_a_choice_without_readable_options_stays_one_and_is_reported(tmp_path: Path) -> None:
    benchmark = load_benchmark(write_rows(tmp_path, make_row("Red, or blue?", "B")))
    assert (benchmark[0].answer_form, benchmark[0].options, benchmark[0].target) == ("choice", (), "B")
    assert benchmark.differences == ("1 choice states no options that can be read: train/1",)
    assert check_benchmark(benchmark).passed


def test_the_text_of_an_option_is_as_good_as_its_letter(tmp_path: Path) -> None:
    first, second = load_benchmark(write_rows(tmp_path, make_row(target="blue"), make_row(target="(a)")))
    assert (first.target, second.target) == ("B", "A")


def test_a_long_question_is_read_whole(tmp_path: Path) -> None:
    text = 'He said "so" — ' * 500 + "and then?"
    assert load_benchmark(write_rows(tmp_path, make_row(text, "x", "free_form")))[0].question == text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (make_row(target="C"), r"field 'reward_model\.ground_truth': 'C' is not the letter of an option \(A, B\)"),
        (make_row(target=" "), r"field 'reward_model\.ground_truth': no answer"),
        (make_row(target=None), r"field 'reward_model\.ground_truth': no answer"),
        (make_row(form="essay"), r"field 'extra_info\.answer_form': 'essay' is not one of mca, na, free_form"),
        (make_row(images=[]), "field 'images': no image"),
        (make_row(images=["images/a.jpg"] * 2), "field 'images': 2 images"),
        (make_row(images=[{"bytes": None}]), "field 'images': .* neither a path nor bytes"),
        (make_row(images=["b.jpg"]), r"there is no file .*b\.jpg"),
        (make_row() | {"prompt": 7}, "field 'prompt': 7 is not a list of messages"),
        (make_row() | {"prompt": [{"role": "system", "content": "x"}]}, "field 'prompt': .* no text from the user"),
        (make_row("", "x", "free_form"), "the question is empty"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = write_rows(tmp_path, make_row(), row)
    with pytest.raises(DataError, match=rf"train\.json, row 2: {message}"):
        load_benchmark(path)
    benchmark = load_benchmark(path, skip_bad=1)
    assert len(benchmark) == 1 and len(benchmark.left_out) == 1


def test_a_list_inside_parquet_without_a_image_is_named(tmp_path: Path) -> None:
    rows = [make_row(images=[{"bytes": make_bytes(1), "path": "x"}]), make_row(images=[{"bytes": None, "path": ""}])]
    path = write_parquet(tmp_path / "train.parquet", rows)
    with pytest.raises(DataError, match=r"train\.parquet, row 2: .*neither a path nor bytes"):
        load_benchmark(path)
    with pytest.raises(ImageError, match="neither a path nor bytes"):
        load_benchmark(path, check_images=False)[1].image.load()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    row = make_row()
    del row["reward_model"]
    with pytest.raises(DataError, match=r"nearest: P2R-10k rows \(.*\), without reward_model"):
        load_benchmark(f"p2r10k:{write_rows(tmp_path, row)}")
