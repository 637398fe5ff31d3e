"""Data files after the kinds that public bug reports describe: each loads rightly, or says in a sentence what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks import load_benchmark
from p2r.errors import DataError

CASES = Path(__file__).parent / "cases" / "files"
FOUR = ("red", "blue", "green", "white")

TABLES = {
    "tsv/hr_bench_4k_floatidx.tsv": FOUR,
    "tsv/hr_bench_4k_bom_crlf.tsv": FOUR,
    "tsv/hr_bench_4k_cr.tsv": FOUR,
    "tsv/hr_bench_4k_dataurl.tsv": FOUR,
    "tsv/hr_bench_4k_urlsafe.tsv": FOUR,
    "tsv/hr_bench_4k_nopad.tsv": FOUR,
    "tsv/hr_bench_4k_nanopt.tsv": FOUR[:3],
    "tsv/hr_bench_4k_NA.tsv": FOUR[:3],
    "tsv/hr_bench_4k_unnamed.tsv": FOUR,
    "tsv/hr_bench_4k_spacehdr.tsv": FOUR,
    "tsv/hr_bench_4k_quotes.tsv": FOUR,
    "tsv/hr_bench_4k_inch.tsv": FOUR,
    "tsv/hr_bench_4k_list.tsv": FOUR,
    "tsv/hr_bench_4k_letterdot.tsv": FOUR,
    "tsv/hr_bench_4k_comma.csv": FOUR,
    "tsv/hr_bench_4k.tsv.gz": FOUR,
    "pq/hr_bench_4k_ok.parquet": FOUR,
    "pq/hr_bench_4k_float.parquet": FOUR,
    "pq/hr_bench_4k_dictcat.parquet": FOUR,
    "pq/hr_bench_4k_path.parquet": FOUR,
    "pq/hr_bench_4k_pathstruct.parquet": FOUR,
}
QUESTIONS = {
    "parquet": "What colour?",
    "quotes": 'The sign says ""STOP"" ; which colour?',
    "inch": '" marks inches: which colour?',
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_hrbench_has_its_four_rows(name: str) -> None:
    benchmark = load_benchmark(f"hrbench_4k:{CASES / name}")
    assert [sample.id for sample in benchmark] == ["0", "1", "2", "3"]
    assert [sample.cycle for sample in benchmark] == [0, 1, 2, 3]
    question = next((text for key, text in QUESTIONS.items() if key in name), "What colour is the block?")
    for sample in benchmark:
        assert sample.options[: "ABCD".index(str(sample.target)) + 1][-1] == "red"
        assert sorted(sample.options) == sorted(TABLES[name])
        assert sample.question == question
        assert sample.image.load().size == (320, 240)


def test_a_table_with_paths_takes_its_images_from_a_folder(tmp_path: Path) -> None:
    path = CASES / "tsv" / "hr_bench_4k_path.tsv"
    with pytest.raises(DataError, match=r"row 1: there is no file .*block\.png"):
        load_benchmark(f"hrbench_4k:{path}")
    Image.new("RGB", (320, 240)).save(tmp_path / "block.png")
    benchmark = load_benchmark(f"hrbench_4k:{path}", images=tmp_path)
    assert [sample.image.uri for sample in benchmark] == [str(tmp_path / "block.png")] * 4


def test_a_header_in_capitals_says_which_column_to_rename() -> None:
    with pytest.raises(DataError, match="no column 'index'") as error:
        load_benchmark(f"hrbench_4k:{CASES / 'tsv' / 'hr_bench_4k_upper.tsv'}")
    assert error.value.hint == "rename the column 'INDEX' to 'index'"
    with pytest.raises(DataError, match="none of the known layouts") as error:
        load_benchmark(CASES / "tsv" / "hr_bench_4k_upper.tsv")
    assert error.value.hint == "write the names of the columns in small letters, but for A, B, C, ..."


@pytest.mark.parametrize("name", ["ok", "nospace", "leadspace", "lower", "paren", "crlf", "trailing", "dict", "back"])
def test_a_file_of_mme_realworld_has_its_row(name: str) -> None:
    (sample,) = load_benchmark(f"mme_realworld:{CASES / 'rows' / f'mme_{name}.json'}")
    last = "none" if name in ("nospace", "leadspace") else "The image does not feature it"
    assert (sample.id, sample.target, sample.options) == ("p/1", "A", (*FOUR, last))
    assert sample.image.load().size == (320, 240)


@pytest.mark.parametrize("name", ["fullwidth", "dun"])
def test_the_options_of_the_chinese_part_are_read_whole(name: str) -> None:
    (sample,) = load_benchmark(f"mme_realworld:{CASES / 'rows' / f'mme_{name}.json'}")
    assert sample.options[:4] == ("红", "蓝", "绿", "白") and sample.target == "A"


@pytest.mark.parametrize(
    ("name", "message"),
    [("dup", "row 2: the id 'p/1' was used before, by .*row 1"), ("noq", "no column 'Subtask'")],
)
def test_a_file_of_mme_realworld_says_what_is_wrong(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_benchmark(f"mme_realworld:{CASES / 'rows' / f'mme_{name}.json'}")


def test_an_image_in_the_json_of_mme_realworld_is_read() -> None:
    (sample,) = load_benchmark(f"mme_realworld:{CASES / 'rows' / 'mme_b64img.json'}")
    assert sample.image.load().size == (300, 200)


def test_the_question_file_of_vstar_is_recognized() -> None:
    assert load_benchmark(CASES / "vstar" / "test_questions.jsonl").name == "vstar"


def test_the_question_file_of_vstar_has_the_published_order() -> None:
    benchmark = load_benchmark(f"vstar:{CASES / 'vstar' / 'test_questions.jsonl'}")
    assert [sample.options for sample in benchmark] == [("blue", "red"), ("blue", "red", "green"), ("right", "left")]
    assert [sample.target for sample in benchmark] == ["B", "B", "B"]
    assert [len(sample.gold_boxes) for sample in benchmark] == [1, 1, 2]
    assert benchmark[0].question == "What colour is the boat?\n(A) blue\n(B) red"
    assert benchmark[0].image.load().size == (400, 300)


def test_the_folder_of_vstar_names_the_published_order_and_keeps_its_own() -> None:
    folder = CASES / "vstar"
    benchmark = load_benchmark(f"vstar:{folder}")
    assert [sample.target for sample in benchmark] == ["A", "A", "B"]
    assert benchmark[0].options == ("The boat is red.", "The boat is blue.")
    assert f"vstar:{folder / 'test_questions.jsonl'}" in benchmark.notes[0]


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("ask_b64", 2, r"\.\.\. \(\d+ characters\) cannot be opened: file name too long"),
        ("ask_nul", 1, r"a\\x00b\.jpg cannot be opened: embedded null byte"),
        ("folder_nul", 2, r"a\\x00b\.jpg cannot be opened: embedded null byte"),
        ("folder_long", 1, r"\.\.\. \(\d+ characters\) cannot be opened: file name too long"),
        ("ask_dataurl", 1, "image is not an image that can be read"),
    ],
)
def test_a_bad_image_field_fails_its_row_and_no_other(name: str, line: int, message: str) -> None:
    path = CASES / f"{name}.jsonl"
    rows = path.read_text().splitlines()
    with pytest.raises(DataError, match=f"line {line}: .*{message}") as error:
        load_benchmark(f"folder:{path}")
    assert len(error.value.message) < 500
    if len(rows) > 1:
        benchmark = load_benchmark(f"folder:{path}", skip_bad=1)
        assert len(benchmark) == len(rows) - 1 and len(benchmark.left_out) == 1


def test_base64_as_the_image_of_your_own_question_is_read() -> None:
    (sample,) = load_benchmark(f"folder:{CASES / 'ask_b64real.jsonl'}")
    assert sample.image.load().size == (300, 200)
