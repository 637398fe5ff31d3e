"""V* from its three layouts: the same prompts, boxes joined, no letter that gives the answer away."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.choices import reorder_options
from p2r.errors import DataError
from p2r.prompts import question_text
from p2r.types import LETTERS
from tests.fakes.benchmark_files import CLOSING, make_base64, vstar_lmms_rows, write_parquet, write_tsv, write_vstar


def test_the_original_folder_is_read_without_its_extra_folders(tmp_path: Path) -> None:
    benchmark = load_benchmark(f"vstar:{write_vstar(tmp_path / 'vstar_bench')}")
    assert benchmark.categories == {"direct_attributes": 3, "relative_position": 2}
    assert [sample.id for sample in benchmark][:2] == ["direct_attributes/sa_0", "direct_attributes/sa_1"]
    assert benchmark[0].image.load().size == (200, 100)
    assert benchmark[0].gold_boxes[0].xyxy == pytest.approx((100, 100, 300, 400))
    assert benchmark[0].gold_boxes[0].label == "kite"
    assert benchmark.chance == pytest.approx((3 / 4 + 2 / 2) / 5)


def test_the_right_option_leaves_its_first_place_and_stays_right(tmp_path: Path) -> None:
    folder = write_vstar(tmp_path / "v", num_attributes=60, num_relations=0)
    samples = load_benchmark(folder, seed=3)
    assert {sample.options[LETTERS.index(sample.target or "")] for sample in samples} == {"red"}
    assert min(Counter(sample.target for sample in samples).values()) >= 8
    assert [s.target for s in load_benchmark(folder, seed=3)] == [s.target for s in samples]
    assert [s.target for s in load_benchmark(folder, seed=4)] != [s.target for s in samples]


def test_the_prompt_states_the_options_as_the_release_does(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", vstar_lmms_rows())
    sample = load_benchmark(tmp_path / "test.parquet")[0]
    assert question_text(sample) == (
        "What about the kite of direct_attributes 0?\n(A) green\n(B) red\n(C) white\n(D) blue"
    )
    assert sample.options == ("green", "red", "white", "blue") and sample.target == "B"


@pytest.mark.parametrize("closing", ["Answer with the option's letter.", "\nPlease choose one.\nThank you."])
def test_a_closing_line_that_is_no_option_stays_in_the_question(tmp_path: Path, closing: str) -> None:
    rows = vstar_lmms_rows()[:1]
    text = f"What is it?\n(A) green\n(B) red\n{closing}"
    write_parquet(tmp_path / "test.parquet", [rows[0] | {"text": text}])
    sample = load_benchmark(tmp_path / "test.parquet")[0]
    assert (sample.question, sample.options, sample.target) == (text, ("green", "red"), "B")


def test_a_line_between_options_that_is_none_is_named(tmp_path: Path) -> None:
    rows = vstar_lmms_rows()[:1]
    write_parquet(tmp_path / "test.parquet", [rows[0] | {"text": "What?\n(A) green\n(B) red\n(D) blue"}])
    with pytest.raises(DataError, match=r"'\(D\) blue' is where option \(C\) should be"):
        load_benchmark(tmp_path / "test.parquet")


@pytest.mark.parametrize("place", ["test-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"])
def test_boxes_are_joined_from_the_original_folder(tmp_path: Path, place: str) -> None:
    folder = write_vstar(tmp_path / "original")
    path = tmp_path / "lmms" / place
    path.parent.mkdir(parents=True)
    write_parquet(path, vstar_lmms_rows())
    benchmark = load_benchmark(f"vstar:{tmp_path / 'lmms'}", boxes=folder)
    assert all(sample.gold_boxes for sample in benchmark)
    assert benchmark[4].gold_boxes[0].xyxy == pytest.approx((20 / 201 * 1000, 100, 60 / 201 * 1000, 400))
    assert not any("found no boxes" in difference for difference in benchmark.differences)


def test_two_questions_that_read_alike_get_the_boxes_of_their_own_image(tmp_path: Path) -> None:
    folder, rows = write_vstar(tmp_path / "original"), vstar_lmms_rows()
    for number in (0, 1):
        path = folder / "direct_attributes" / f"sa_{number}.json"
        annotation = json.loads(path.read_text()) | {"question": "What about the kite?", "bbox": [[number, 0, 9, 9]]}
        path.write_text(json.dumps(annotation))
        rows[number]["text"] = str(rows[number]["text"]).replace(f" of direct_attributes {number}", "")
        rows[number]["question_id"] = f"no help {number}"
    write_parquet(tmp_path / "v.parquet", rows)
    benchmark = load_benchmark(f"vstar:{tmp_path / 'v.parquet'}", boxes=folder)
    assert [sample.gold_boxes[0].x1 for sample in benchmark[:2]] == [0, pytest.approx(1 / 201 * 1000)]


def test_annotations_that_state_their_options_as_sentences_are_found(tmp_path: Path) -> None:
    folder = write_vstar(tmp_path / "original")
    for path in folder.glob("*_*/*.json"):
        annotation = json.loads(path.read_text())
        annotation["options"] = [f"The kite is {option}." for option in annotation["options"]]
        path.write_text(json.dumps(annotation))
    write_parquet(tmp_path / "v.parquet", vstar_lmms_rows())
    assert all(sample.gold_boxes for sample in load_benchmark(f"vstar:{tmp_path / 'v.parquet'}", boxes=folder))


def test_boxes_of_another_image_are_never_joined(tmp_path: Path) -> None:
    folder, rows = write_vstar(tmp_path / "original"), vstar_lmms_rows()
    rows[1]["image"] = rows[2]["image"]
    write_parquet(tmp_path / "v.parquet", rows)
    benchmark = load_benchmark(f"vstar:{tmp_path / 'v.parquet'}", boxes=folder)
    assert [bool(sample.gold_boxes) for sample in benchmark] == [True, False, True, True, True]


def test_a_sample_that_finds_no_boxes_is_reported(tmp_path: Path) -> None:
    folder = write_vstar(tmp_path / "original")
    (folder / "direct_attributes" / "sa_1.json").unlink()
    write_parquet(tmp_path / "v.parquet", vstar_lmms_rows())
    benchmark = load_benchmark(f"vstar:{tmp_path / 'v.parquet'}", boxes=folder)
    assert any("1 sample found no boxes" in difference for difference in benchmark.differences)


def test_the_tsv_with_letter_columns_gives_the_same_prompt(tmp_path: Path) -> None:
    row = {
        "index": 0,
        "image": make_base64(0),
        "question": f"What color?\n{CLOSING}",
        "A": "red",
        "B": "blue",
        "C": "",
        "D": "",
        "answer": "B",
        "category": "relative_position",
    }
    path = write_tsv(tmp_path / "VStarBench.tsv", [row])
    sample = load_benchmark(path)[0]
    assert question_text(sample) == "What color?\n(A) red\n(B) blue"
    assert (sample.target, sample.chance, sample.benchmark) == ("B", 0.5, "vstar")


def test_counts_that_differ_are_reported_and_stop_nothing(tmp_path: Path) -> None:
    differences = load_benchmark(write_vstar(tmp_path / "v")).differences
    assert "5 samples instead of 191" in differences
    assert "3 samples of the category 'direct_attributes' instead of 115" in differences


def test_every_right_answer_scores_one(tmp_path: Path) -> None:
    report = check_benchmark(load_benchmark(write_vstar(tmp_path / "v")))
    assert report.passed and (report.num_answers, report.num_boxes, report.num_images) == (5, 5, 5)


def test_shuffled_options_are_stated_in_the_new_order(tmp_path: Path) -> None:
    write_parquet(tmp_path / "v.parquet", vstar_lmms_rows())
    sample = reorder_options(load_benchmark(tmp_path / "v.parquet")[0], [1, 3, 0, 2])
    assert question_text(sample).endswith("?\n(A) red\n(B) blue\n(C) green\n(D) white")
    assert (sample.options, sample.target) == (("red", "blue", "green", "white"), "A")
    with pytest.raises(DataError, match="not an order"):
        reorder_options(sample, [0, 0, 1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "Why?"}, "field 'text': no line begins with \\(A\\)"),
        ({"text": "Why?\n(A) a\n(C) b"}, r"'\(C\) b' is where option \(B\) should be"),
        ({"label": "E"}, "field 'label': 'E' is not the letter of an option"),
        ({"question_id": "0"}, "the id '0' was used before, by .*row 1"),
        ({"image": {"bytes": b"no image", "path": None}}, "image"),
        ({"image": {"bytes": None, "path": "a.jpg"}}, r"there is no file .*a\.jpg"),
    ],
)
def test_a_bad_row_stops_with_its_place_or_is_left_out(tmp_path: Path, change: dict[str, object], message: str) -> None:
    rows = vstar_lmms_rows()
    rows[3] |= change
    path = write_parquet(tmp_path / "v.parquet", rows)
    with pytest.raises(DataError, match=rf"v\.parquet, row 4: .*{message}") as error:
        load_benchmark(path)
    assert "skip_bad=1" in error.value.hint
    benchmark = load_benchmark(path, skip_bad=1)
    assert len(benchmark) == 4
    assert [bad.place for bad in benchmark.left_out] == [f"{path}, row 4"]


def test_more_bad_rows_than_allowed_stop(tmp_path: Path) -> None:
    rows = vstar_lmms_rows()
    for number in (1, 2, 4):
        rows[number]["label"] = "Z"
    with pytest.raises(DataError, match=r"row 5: .*after 2 other bad rows"):
        load_benchmark(write_parquet(tmp_path / "v.parquet", rows), skip_bad=2)


@pytest.mark.parametrize("change", [{"bbox": [[1, 2, 3]]}, {"options": ["one"]}, {"question": ""}, {"bbox": []}])
def test_a_bad_annotation_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    path = write_vstar(tmp_path / "v") / "relative_position" / "sa_1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=rf"relative_position/sa_1\.json: field '{next(iter(change))}'"):
        load_benchmark(tmp_path / "v")


@pytest.mark.parametrize("box", [[150, 10, 400, 30], [20, 10, 40, 300], [-19, 10, 40, 30]])
def test_a_box_far_beyond_the_image_fails_its_row(tmp_path: Path, box: list[int]) -> None:
    path = write_vstar(tmp_path / "v") / "direct_attributes" / "sa_0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bbox": [box]}))
    with pytest.raises(DataError, match=r"direct_attributes/sa_0\.json: .*not a rectangle inside the 200 x 100 image"):
        load_benchmark(tmp_path / "v")
    assert len(load_benchmark(tmp_path / "v", skip_bad=1)) == 4


def test_a_box_drawn_slightly_beyond_the_edge_is_cut_there(tmp_path: Path) -> None:
    path = write_vstar(tmp_path / "v") / "direct_attributes" / "sa_0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bbox": [[150, -4, 54, 108]]}))
    assert load_benchmark(tmp_path / "v")[0].gold_boxes[0].xyxy == (750, 0, 1000, 1000)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    (write_vstar(tmp_path / "v") / "relative_position" / "sa_1.jpg").unlink()
    with pytest.raises(DataError, match=r"there is no file .*sa_1\.jpg"):
        load_benchmark(tmp_path / "v")
