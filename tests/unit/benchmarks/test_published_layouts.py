"""HR-Bench and MME-RealWorld: rotations, images shared between rows, and every layout alike."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from p2r.benchmarks import Benchmark, check_benchmark, load_benchmark
from p2r.errors import DataError
from p2r.prompts import question_text
from tests.fakes.benchmark_files import (
    MME_OPTIONS,
    hrbench_rows,
    make_base64,
    make_bytes,
    mme_lmms_rows,
    write_parquet,
    write_tsv,
)


def write_hrbench(folder: Path, kind: str, rows: list[dict[str, object]] | None = None) -> Path:
    path = folder / f"hr_bench_4k.{kind}"
    return (write_tsv if kind == "tsv" else write_parquet)(path, rows or hrbench_rows())


@pytest.mark.parametrize("kind", ["tsv", "parquet"])
def test_rotations_of_a_question_are_together(tmp_path: Path, kind: str) -> None:
    benchmark = load_benchmark(write_hrbench(tmp_path, kind))
    assert benchmark.name == "hrbench_4k"
    assert [(sample.cluster, sample.cycle) for sample in benchmark[:5]] == [
        ("0", 0), ("0", 1), ("0", 2), ("0", 3), ("1", 0)
    ]  # fmt: skip
    assert [sample.target for sample in benchmark[:4]] == list("ABCD")
    assert question_text(benchmark[1]) == (
        "How many birds\tare in image 0?\nOptions:\nA. four 0\nB. one 0\nC. two 0\nD. three 0"
    )
    assert benchmark.differences[0] == "12 samples instead of 800"
    assert not any("question" in difference for difference in benchmark.differences)


def test_a_short_image_cell_points_at_another_row(tmp_path: Path) -> None:
    rows = hrbench_rows()
    for row in rows:
        if row["cycle_category"] != 0:
            row["image"] = str(int(str(row["index"])) // 4 * 4)
    benchmark = load_benchmark(write_hrbench(tmp_path, "tsv", rows))
    assert len({sample.image.uri for sample in benchmark}) == 3
    assert benchmark[6].image.load().tobytes() == benchmark[4].image.load().tobytes()
    for pointer in ("5", "4711"):
        rows[6]["image"] = pointer
        with pytest.raises(DataError, match=f"row 7: field 'image': '{pointer}' is neither an image nor the index"):
            load_benchmark(write_hrbench(tmp_path, "tsv", rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(5), r"question 1 has the cycles \[0, 2, 3\]"),
        (lambda rows: rows[5].update(A="nine"), "question 1 has other options in some cycles"),
        (lambda rows: rows[5].update(answer="A"), "question 1 has other right answers"),
        (lambda rows: rows.append(rows[4] | {"index": 13}), "cycle_category is not index % 4"),
    ],
)
def test_a_rotation_that_is_not_whole_is_reported_and_fails_the_check(
    tmp_path: Path, change: object, message: str
) -> None:
    rows = hrbench_rows()
    change(rows)  # type: ignore[operator]
    benchmark = load_benchmark(write_hrbench(tmp_path, "parquet", rows))
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(benchmark.differences)
    assert not check_benchmark(benchmark).passed


@pytest.mark.parametrize("kind", ["tsv", "parquet"])
def test_whole_rotations_pass_the_check(tmp_path: Path, kind: str) -> None:
    report = check_benchmark(load_benchmark(write_hrbench(tmp_path, kind)))
    assert report.passed and (report.num_answers, report.num_images) == (12, 12)


def test_a_folder_with_both_sizes_is_read_by_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "hr_bench_4k.parquet", hrbench_rows(1))
    write_parquet(tmp_path / "hr_bench_8k.parquet", hrbench_rows(2))
    assert len(load_benchmark(f"hrbench_8k:{tmp_path}")) == 8
    assert load_benchmark(tmp_path, split="hr_bench_4k").name == "hrbench_4k"
    benchmark = load_benchmark(f"hrbench_4k:{tmp_path / 'hr_bench_8k.parquet'}")
    assert "says 8k, loaded as hrbench_4k" in benchmark.differences[-1]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "answer"} for row in hrbench_rows()]
    with pytest.raises(DataError, match=r"has no column 'answer'"):
        load_benchmark(write_hrbench(tmp_path, "parquet", rows))


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    path = tmp_path / "hr_bench_4k.tsv"
    path.write_text("\t".join(hrbench_rows()[0]) + "\n")
    with pytest.raises(DataError, match="holds no rows"):
        load_benchmark(path)


@pytest.mark.parametrize("kind", ["tsv", "parquet"])
def test_wrong_base64_in_row_713_is_named(tmp_path: Path, kind: str) -> None:
    rows = [row | {"image": make_base64(0)} for row in hrbench_rows(200)]
    rows[712]["image"] = make_base64(0)[:-2] + "*="
    path = write_hrbench(tmp_path, kind, rows)
    with pytest.raises(DataError, match=r"row 713: .*/image:? is not base64|row 713: .*broken") as error:
        check_first(load_benchmark(path))
    assert f"{path}" in str(error.value)


def check_first(benchmark: Benchmark) -> None:
    """An image that is damaged behind its header opens; the check decodes it."""
    problems = check_benchmark(benchmark).problems
    if problems:
        raise DataError(f"{benchmark.source}, row {int(problems[0].split(':')[0]) + 1}: {problems[0]}")


def write_mme(folder: Path, layout: str) -> Path:
    rows = mme_lmms_rows()
    if layout == "lmms":
        return write_parquet(folder / "train-00000-of-00001.parquet", rows)
    if layout == "tsv":
        renamed = [{key.replace("bytes", "image"): value for key, value in row.items()} for row in rows]
        return write_tsv(folder / "MME-RealWorld-Lite.tsv", renamed)  # the list is written as a Python literal
    if layout == "base64 JSON":
        renamed = [{key.replace("bytes", "image"): value for key, value in row.items()} for row in rows]
        path = folder / "MME_RealWorld.json"
        path.write_text(json.dumps(renamed))
        return path
    original: list[dict[str, object]] = []
    for number, row in enumerate(rows):
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images" / f"{number}.jpg").write_bytes(make_bytes(number))
        task, subtask = str(row["category"]).split("/")
        original.append(
            {
                "Question_id": row["index"],
                "Image": f"images/{number}.jpg",
                "Text": row["question"],
                "Question Type": "Multiple Choice",
                "Answer choices": MME_OPTIONS,
                "Ground truth": row["answer"],
                "Category": "color",
                "Subtask": subtask,
                "Task": task,
            }
        )
    path = folder / "MME_RealWorld.json"
    path.write_text(json.dumps(original))
    return path


@pytest.mark.parametrize("layout", ["lmms", "tsv", "base64 JSON", "original"])
def test_every_layout_of_mme_gives_the_same_samples(tmp_path: Path, layout: str) -> None:
    benchmark = load_benchmark(f"mme_realworld_lite:{write_mme(tmp_path, layout)}")
    assert [(s.id, s.target, s.category) for s in benchmark] == [
        ("mme-0", "E", "Perception/Remote Sensing"),
        ("mme-1", "B", "Reasoning/Monitoring"),
        ("mme-2", "B", "Perception/OCR with Complex Context"),
    ]
    assert question_text(benchmark[0]) == "What is the color of truck 0?\nOptions:\n" + "\n".join(MME_OPTIONS)
    assert benchmark[1].options[1] == "it's green."
    assert [sample.image.load().size for sample in benchmark] == [(80, 60)] * 3
    assert benchmark.chance == pytest.approx(0.2)
    assert check_benchmark(benchmark).passed


@pytest.mark.parametrize("layout", ["lmms", "tsv", "base64 JSON", "original"])
def test_mme_is_recognized_by_its_columns(tmp_path: Path, layout: str) -> None:
    assert load_benchmark(write_mme(tmp_path, layout)).name.startswith("mme_realworld")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("multi-choice options", "__import__('os').getcwd()", "is not a list"),
        ("multi-choice options", "['(A) a', '(B) b'", "is not a list"),
        ("multi-choice options", ["(A) a"], "1 option;"),
        ("answer", "F", "'F' is not the letter of an option"),
        ("answer", "", "empty"),
        ("question", None, "empty"),
        ("index", "mme-0", "was used before"),
    ],
)
def test_a_bad_field_of_mme_is_named(tmp_path: Path, field: str, value: object, message: str) -> None:
    rows = mme_lmms_rows()
    rows[1][field] = value
    path = tmp_path / "lite.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=rf"lite\.json, row 2: .*{message}"):
        load_benchmark(f"mme_realworld_lite:{path}")


def test_unknown_categories_are_reported(tmp_path: Path) -> None:
    rows = mme_lmms_rows()
    rows[1]["category"] = "Reasoning/Remote Sensing"
    path = tmp_path / "lite.json"
    path.write_text(json.dumps(rows))
    differences = load_benchmark(f"mme_realworld_lite:{path}").differences
    assert "1 sample of the unknown category 'Reasoning/Remote Sensing'" in differences


@pytest.mark.parametrize(
    ("choices", "answer"),
    [
        (["(A)red", "(B)blue"], "B"),
        (["（A） red", "（B） blue"], "Ｂ"),
        (["A、red", "B、blue"], "B、"),
        ([" (A) red", " (B) blue"], "b"),
        (["A. red", "B. blue"], "(B)"),
        (["(a) red", "(b) blue"], "blue"),
        (["[A] red", "[B] blue"], "B. blue"),
        (["(A) red", "(B) blue"], "<answer>B</answer>"),
    ],
)
def test_options_and_answers_of_mme_may_be_written_in_other_ways(
    tmp_path: Path, choices: list[str], answer: str
) -> None:
    path = write_mme(tmp_path, "original")
    rows = json.loads(path.read_text())[:1]
    path.write_text(json.dumps([rows[0] | {"Answer choices": choices, "Ground truth": answer}]))
    (sample,) = load_benchmark(path)
    assert (sample.options, sample.target) == (("red", "blue"), "B")
    assert sample.question.endswith("Options:\n(A) red\n(B) blue")


def test_rows_under_a_key_are_read(tmp_path: Path) -> None:
    path = write_mme(tmp_path, "original")
    path.write_text(json.dumps({"data": json.loads(path.read_text())}))
    assert len(load_benchmark(path)) == 3


def test_hr_bench_separated_by_commas_and_packed_is_read(tmp_path: Path) -> None:
    tabbed = write_hrbench(tmp_path, "tsv")
    with tabbed.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    with gzip.open(tmp_path / "hr_bench_4k.csv.gz", "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    packed = load_benchmark(tmp_path / "hr_bench_4k.csv.gz")
    assert packed.fingerprint == load_benchmark(tabbed).fingerprint
    assert packed[0].image.load().size == (80, 60) and "hr_bench_4k.csv.gz" in packed[0].image.uri
