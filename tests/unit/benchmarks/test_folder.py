"""One's own data: questions as JSON lines, boxes with their frame named, and boxes from and to other tools."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.benchmarks.annotations.box_files import read_box_file, write_coco, write_label_studio
from p2r.benchmarks.folder_write import write_questions as write_copy
from p2r.errors import DataError
from tests.fakes.benchmark_files import make_bytes

GOOD: dict[str, object] = {"image": "images/a.jpg", "question": "What is it?"}
CHOICE: dict[str, object] = GOOD | {"options": ["a star", "a fish"], "target": "a fish"}
BOXED: dict[str, object] = GOOD | {"boxes": [[20, 15, 40, 45]], "box_frame": "pixels"}


def write_questions(folder: Path, *rows: dict[str, object]) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a", "b"):
        (folder / "images" / f"{name}.jpg").write_bytes(make_bytes(1))
    path = folder / "questions.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_rows_become_samples(tmp_path: Path) -> None:
    path = write_questions(tmp_path, CHOICE, GOOD | {"id": 7, "target": 3, "answer_form": "number", "cluster": "c"})
    choice, number = load_benchmark(path)
    assert (choice.id, choice.answer_form, choice.target, choice.chance) == ("1", "choice", "B", 0.5)
    assert (number.id, number.answer_form, number.target, number.cluster) == ("7", "number", "3", "c")
    assert check_benchmark(load_benchmark(tmp_path)).num_answers == 2


def test_options_lose_their_letters_and_targets_may_name_them_in_any_way(tmp_path: Path) -> None:
    targets = ["B", "(b)", "B. a fish", "Option B", "A fish.", "<answer>B</answer>", "$\\boxed{B}$"]
    rows = [GOOD | {"options": ["A. a star", "B. a fish"], "target": target, "id": target} for target in targets]
    assert {(sample.options, sample.target) for sample in load_benchmark(write_questions(tmp_path, *rows))} == {
        (("a star", "a fish"), "B")
    }


def test_a_free_target_loses_its_wrapping(tmp_path: Path) -> None:
    rows = [GOOD | {"target": target} for target in ("<think>so</think><answer> a kite </answer>", "\\boxed{a kite}")]
    assert [sample.target for sample in load_benchmark(write_questions(tmp_path, *rows))] == ["a kite", "a kite"]
    with pytest.raises(DataError, match="field 'target': empty"):
        load_benchmark(write_questions(tmp_path, GOOD | {"target": "<answer></answer>"}))


def test_questions_may_be_packed(tmp_path: Path) -> None:
    path = write_questions(tmp_path, CHOICE)
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert load_benchmark(tmp_path / "packed.jsonl.gz").fingerprint == load_benchmark(path).fingerprint


def test_boxes_are_in_the_frame_that_is_named(tmp_path: Path) -> None:
    per_mille = GOOD | {"boxes": [{"box": [250, 250, 500, 750], "label": "sail"}], "box_frame": "per_mille"}
    pixels, thousandths = load_benchmark(write_questions(tmp_path, BOXED, per_mille))
    assert pixels.gold_boxes[0].xyxy == thousandths.gold_boxes[0].xyxy == (250, 250, 500, 750)
    assert thousandths.gold_boxes[0].label == "sail"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD | {"image": "c.jpg"}, r"there is no file .*c\.jpg"),
        (GOOD | {"imgae": "a"}, "field 'imgae'"),
        ({"image": "images/a.jpg"}, "field 'question'"),
        (GOOD | {"options": ["one"]}, "field 'options': 1 option;"),
        (GOOD | {"options": ["one", "one"]}, "field 'options'"),
        (GOOD | {"answer_form": "choice"}, "field 'options': 0 options"),
        (CHOICE | {"target": "C"}, "the target 'C' is neither the letter nor the text of an option"),
        (CHOICE | {"answer_form": "number"}, "field 'answer_form'"),
        (GOOD | {"target": " "}, "field 'target': empty"),
        (BOXED | {"box_frame": None}, "field 'box_frame': missing"),
        (BOXED | {"boxes": [[20, 15, 400, 45]]}, "field 'boxes': .* not a rectangle inside the 80 x 60 image"),
        (BOXED | {"box_frame": "per_mille", "boxes": [[20, 15, 1400, 45]]}, "field 'boxes': .* beyond the image"),
        (BOXED | {"boxes": [[40, 15, 20, 45]]}, "field 'boxes'"),
        (BOXED | {"boxes": [[1, 2, 3]]}, "field 'boxes'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = write_questions(tmp_path, GOOD, row)
    with pytest.raises(DataError, match=rf"questions\.jsonl, line 2: {message}"):
        load_benchmark(path)
    assert len(load_benchmark(path, skip_bad=3)) == 1


def test_a_line_that_is_not_json_is_left_out_alone(tmp_path: Path) -> None:
    path = write_questions(tmp_path, GOOD)
    path.write_text(path.read_text() + "{broken\n" + json.dumps(GOOD) + "\n")
    benchmark = load_benchmark(path, skip_bad=1)
    assert [sample.id for sample in benchmark] == ["1", "3"]
    assert "not a JSON object" in benchmark.left_out[0].reason


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no questions"):
        load_benchmark(path)


def test_a_folder_with_two_files_has_to_be_told_which(tmp_path: Path) -> None:
    write_questions(tmp_path, GOOD)
    (tmp_path / "more.jsonl").write_text(json.dumps(GOOD))
    with pytest.raises(DataError, match=r"more\.jsonl, questions\.jsonl"):
        load_benchmark(f"folder:{tmp_path}")
    assert len(load_benchmark(f"folder:{tmp_path}", split="more")) == 1


@pytest.mark.parametrize("write", [write_coco, write_label_studio])
def test_boxes_go_to_other_tools_and_come_back(tmp_path: Path, write: object) -> None:
    labeled = BOXED | {"boxes": [{"box": [20, 15, 40, 45], "label": "sail"}, [0, 0, 80, 60]]}
    samples = load_benchmark(write_questions(tmp_path, labeled, GOOD | {"image": "images/b.jpg"}))
    assert write(samples, tmp_path / "boxes.json") == 2  # type: ignore[operator]
    bare = write_questions(tmp_path, GOOD, GOOD | {"image": "images/b.jpg"})
    joined = load_benchmark(bare, boxes=tmp_path / "boxes.json")
    assert [box.label for box in joined[0].gold_boxes] == ["sail", "evidence"]
    for box, expected in zip(joined[0].gold_boxes, samples[0].gold_boxes, strict=True):
        assert box.xyxy == pytest.approx(expected.xyxy)
    assert joined[1].gold_boxes == () and joined.differences == ()


def test_an_empty_list_of_boxes_says_that_there_is_nothing_to_find(tmp_path: Path) -> None:
    path = write_questions(tmp_path, GOOD, GOOD | {"boxes": []}, GOOD | {"boxes": None}, BOXED)
    samples = load_benchmark(path)
    assert [sample.nothing_there for sample in samples] == [False, True, False, False]
    write_copy(samples, tmp_path / "copy.jsonl")
    assert [sample.nothing_there for sample in load_benchmark(tmp_path / "copy.jsonl")] == [False, True, False, False]


def test_boxes_of_images_nobody_asks_about_are_reported(tmp_path: Path) -> None:
    samples = load_benchmark(write_questions(tmp_path, BOXED, BOXED | {"image": "images/b.jpg"}))
    write_coco(samples, tmp_path / "boxes.json")
    joined = load_benchmark(write_questions(tmp_path, GOOD), boxes=tmp_path / "boxes.json")
    assert "1 image in" in joined.differences[0] and "b.jpg" in joined.differences[0]


IMAGE = {"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "neither COCO nor Label Studio"),
        ({"images": [{"id": 1}], "annotations": []}, "not an image"),
        ({"images": [], "annotations": [{"image_id": 4, "bbox": [0, 0, 1, 1]}]}, "not a box of one of the images"),
        ({"images": [IMAGE], "annotations": [], "categories": [{"id": 1}]}, "not a category with id and name"),
        ([{"data": {}}], "task 1"),
    ],
)  # fmt: skip
def test_a_bad_box_file_is_named(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"boxes\.json.*{message}"):
        read_box_file(path)


@pytest.mark.parametrize(("target", "kind"), [("2023-05-01", "a date"), ("12:30", "a time"), ("5-6", "a range")])
def test_a_target_that_is_not_a_number_is_a_problem_with_a_hint(tmp_path: Path, target: str, kind: str) -> None:
    write_questions(tmp_path, GOOD | {"answer_form": "number", "target": target})
    (problem,) = check_benchmark(load_benchmark(tmp_path)).problems
    assert f"{target!r}, which is {kind} and not a number" in problem
    assert "set the field answer_form to free_form" in problem


async def test_a_benchmark_is_checked_inside_a_running_event_loop(tmp_path: Path) -> None:
    write_questions(tmp_path, GOOD | {"answer_form": "number", "target": 2})
    report = check_benchmark(load_benchmark(tmp_path))
    assert (report.passed, report.num_answers) == (True, 1)


@pytest.mark.parametrize("field", ["id", "question", "target", "category", "options"])
def test_half_a_character_is_refused(tmp_path: Path, field: str) -> None:
    """JSON can hold half a surrogate pair, which no trace can."""
    broken = "x\ud800" if field != "options" else ["x\ud800", "a fish"]
    path = write_questions(tmp_path, (GOOD if field == "target" else CHOICE) | {field: broken}, GOOD | {"id": "other"})
    with pytest.raises(DataError, match=r"line 1: 'x\?' is not text in UTF-8"):
        load_benchmark(path)
    assert len(load_benchmark(path, skip_bad=1)) == 1


def test_a_long_id_is_told_in_short(tmp_path: Path) -> None:
    row = GOOD | {"id": "x" * 500}
    with pytest.raises(DataError, match="was used before") as raised:
        load_benchmark(write_questions(tmp_path, row, row))
    assert "x" * 100 not in str(raised.value)
