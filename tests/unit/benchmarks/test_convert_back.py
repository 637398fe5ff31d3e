"""Boxes that were written for other tools come back to their questions; what fails leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks import load_benchmark
from p2r.benchmarks.convert import convert
from p2r.errors import DataError
from p2r.files import replace_folder

Json = dict[str, object]
LEFT, RIGHT = [0, 0, 250, 500], [500, 500, 1000, 1000]


def write_rows(folder: Path, *rows: Json, name: str = "q.jsonl") -> Path:
    Image.new("RGB", (400, 300), "gray").save(folder / "photo.png")
    lines = [json.dumps({"image": "photo.png", "question": f"What {k}?", **row}) for k, row in enumerate(rows)]
    (folder / name).write_text("\n".join(lines))
    return folder / name


def boxed(*boxes: list[int]) -> Json:
    return {"boxes": list(boxes), "box_frame": "per_mille"}


def write_boxes(folder: Path, to: str, *rows: Json) -> Path:
    convert(list(load_benchmark(write_rows(folder, *rows))), folder / "boxes.json", to)
    return folder / "boxes.json"


@pytest.mark.parametrize("to", ["coco", "label_studio"])
def test_edited_boxes_count_before_the_rows_own(tmp_path: Path, to: str) -> None:
    boxes = write_boxes(tmp_path, to, boxed(LEFT))
    rows = write_rows(tmp_path, boxed(RIGHT))
    found = load_benchmark(rows, boxes=boxes)
    assert [list(box.xyxy) for box in found[0].gold_boxes] == [LEFT]
    assert found.differences == ()
    assert f"the boxes of 1 question are replaced by those of {boxes}" in found.notes


def test_an_image_that_the_file_does_not_list_keeps_the_rows_boxes(tmp_path: Path) -> None:
    boxes = write_boxes(tmp_path, "coco", boxed(LEFT))
    boxes.write_text(boxes.read_text().replace("photo.png", "other.png"))
    found = load_benchmark(write_rows(tmp_path, boxed(RIGHT)), boxes=boxes)
    assert [list(box.xyxy) for box in found[0].gold_boxes] == [RIGHT]
    assert not any("replaced" in note for note in found.notes)


@pytest.mark.parametrize("to", ["coco", "label_studio"])
def test_questions_of_one_image_get_their_own_boxes(tmp_path: Path, to: str) -> None:
    boxes = write_boxes(tmp_path, to, boxed(LEFT), boxed(RIGHT), {})
    found = load_benchmark(write_rows(tmp_path, {}, {}, {}), boxes=boxes)
    assert [[list(box.xyxy) for box in sample.gold_boxes] for sample in found] == [[LEFT], [RIGHT], []]
    assert found.differences == ()


@pytest.mark.parametrize("other", [{"id": "x"}, {"question": "Another?"}])
def test_a_task_is_found_by_its_id_or_its_question_alone(tmp_path: Path, other: Json) -> None:
    boxes = write_boxes(tmp_path, "label_studio", boxed(LEFT), boxed(RIGHT))
    found = load_benchmark(write_rows(tmp_path, other, {}), boxes=boxes)
    assert [[list(box.xyxy) for box in sample.gold_boxes] for sample in found] == [[LEFT], [RIGHT]]


def test_coco_of_others_gives_each_question_all_boxes_and_says_so(tmp_path: Path) -> None:
    boxes = write_boxes(tmp_path, "coco", boxed(LEFT), boxed(RIGHT))
    content = json.loads(boxes.read_text())
    for part in (*content["images"], *content["annotations"]):
        part.pop("sample_ids", None)
        part.pop("sample_id", None)
    boxes.write_text(json.dumps(content))
    found = load_benchmark(write_rows(tmp_path, {}, {}), boxes=boxes)
    assert [len(sample.gold_boxes) for sample in found] == [2, 2]
    [remark] = found.differences
    assert "1 image has several questions in " in remark and remark.endswith("photo.png")


@pytest.mark.parametrize(("name", "to"), [("o.d", "vstar"), ("o.tsv", "vstar_tsv"), ("o.jsonl", "ms_swift")])
def test_a_failed_convert_leaves_nothing(tmp_path: Path, name: str, to: str) -> None:
    choice: Json = {"options": ["red", "blue"], "target": "A"}
    samples = list(load_benchmark(write_rows(tmp_path, choice, {})))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError) as caught:
        convert(samples, tmp_path / name, to)
    assert sorted(tmp_path.iterdir()) == before
    assert "needles" not in (caught.value.hint or "")


def test_a_broken_off_folder_leaves_no_draft(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replace_folder(tmp_path / "new") as draft:
        (draft / "a").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("empty", ["nan", "NaN", "<NA>", " "])
@pytest.mark.parametrize("separator", ["\t", ","])
def test_an_empty_answer_of_a_table_is_refused(tmp_path: Path, empty: str, separator: str) -> None:
    write_rows(tmp_path)
    path = tmp_path / ("x.tsv" if separator == "\t" else "x.csv")
    rows = [["image", "problem", "answer"], ["photo.png", "How many?", empty], ["photo.png", "How many?", "3"]]
    path.write_text("\n".join(separator.join(row) for row in rows))
    with pytest.raises(DataError, match="'answer': no answer"):
        load_benchmark(path)
