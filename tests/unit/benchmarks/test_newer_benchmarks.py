"""VisualProbe, TreeBench, ZoomBench and MME-RealWorld-CN, in the layouts in which they are published."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.benchmarks.convert import convert
from p2r.benchmarks.files.tsv_file import LONG_FIELD_BYTES
from p2r.benchmarks.load import count_published, load_questions
from p2r.errors import DataError
from p2r.modes import prepare_samples
from p2r.prompts import question_text
from p2r.types import Box
from tests.fakes.benchmark_files import (
    make_base64,
    make_bytes,
    mme_cn_rows,
    mme_lmms_rows,
    treebench_rows,
    write_parquet,
    write_tsv,
    write_visualprobe,
    zoombench_rows,
)


def edit(path: Path, **changes: object) -> Path:
    """Change the first row of a JSON file."""
    rows = json.loads(path.read_text())
    rows[0] |= changes
    path.write_text(json.dumps(rows))
    return path


# VisualProbe


@pytest.mark.parametrize(("level", "count"), [("Easy", 141), ("Medium", 268), ("Hard", 106)])
def test_a_level_is_told_by_its_folder_or_its_paths(tmp_path: Path, level: str, count: int) -> None:
    name = f"visualprobe_{level.lower()}"
    folders = [write_visualprobe(tmp_path / f"VisualProbe_{level}", level), write_visualprobe(tmp_path / "vp", level)]
    for place in (folders[0], folders[1], folders[0] / "val.json", f"{name}:{folders[1]}"):
        benchmark = load_benchmark(place)
        assert benchmark.name == name and {sample.benchmark for sample in benchmark} == {name}
        assert benchmark.differences == (f"3 samples instead of {count}",)
        assert benchmark.notes == ("license of VisualProbe: CC BY-NC 4.0 (no commercial use)",)
        assert check_benchmark(benchmark).passed
    assert count_published(f"{name}:x") == count


def test_questions_of_visualprobe_are_open_and_named_by_their_number(tmp_path: Path) -> None:
    path = write_visualprobe(tmp_path / "VisualProbe_Hard") / "val.json"
    edit(path, solution="<answer>7</answer>")
    first, second, _ = load_benchmark(path)
    assert (first.id, first.question, first.target) == ("100", "What is written on sign 0?", "7")
    assert {first.answer_form, second.answer_form} == {"free_form"} and not first.options
    rows = [{key: value for key, value in row.items() if key != "doc_id"} for row in json.loads(path.read_text())]
    path.write_text(json.dumps(rows))
    assert [sample.id for sample in load_benchmark(path)] == ["0", "1", "2"]


def test_a_path_that_begins_with_the_hubs_folder_is_found_in_any_folder(tmp_path: Path) -> None:
    snapshot = write_visualprobe(tmp_path / "datasets--Mini-o3--VisualProbe_Hard" / "snapshots" / "0a1b2c")
    assert load_benchmark(snapshot)[2].image.uri == str(snapshot / "data" / "2.jpg")
    beside = write_visualprobe(tmp_path / "VisualProbe_Hard")
    assert load_benchmark(beside, images=tmp_path)[0].image.uri == str(beside / "data" / "0.jpg")
    again = write_visualprobe(tmp_path / "visualprobe_easy_and_hard" / "VisualProbe_Hard")
    assert load_benchmark(again).name == "visualprobe_hard"
    edit(beside / "val.json", images=["VisualProbe_Hard/data/9.jpg"])
    with pytest.raises(DataError, match=r"row 1: .*there is no file .*VisualProbe_Hard/data/9\.jpg"):
        load_benchmark(beside)


def test_another_level_than_the_paths_say_is_reported(tmp_path: Path) -> None:
    folder = write_visualprobe(tmp_path / "vp", "Easy")
    benchmark = load_benchmark(f"visualprobe_hard:{folder}")
    assert "the paths of images say easy, loaded as visualprobe_hard" in benchmark.differences
    assert not any("say" in difference for difference in load_benchmark(folder).differences)
    edit(folder / "val.json", images=["data/0.jpg"])  # says no level
    assert not any("say" in difference for difference in load_benchmark(f"visualprobe_hard:{folder}").differences)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem": "<image>"}, "field 'problem': empty"),
        ({"solution": "<answer></answer>"}, "field 'solution': empty"),
        ({"images": []}, "field 'images': no image"),
        ({"images": ["a.jpg", "b.jpg"]}, "field 'images': 2 images"),
    ],
)
def test_a_bad_row_of_visualprobe_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = edit(write_visualprobe(tmp_path / "VisualProbe_Hard") / "val.json", **changes)
    with pytest.raises(DataError, match=f"row 1: {message}"):
        load_benchmark(path)
    assert load_benchmark(path, skip_bad=1).left_out[0].reason.startswith(message)


def test_rows_for_training_stay_rows_and_find_images_beside_their_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_visualprobe(tmp_path / "VisualProbe_Hard")
    shutil.move(folder / "val.json", folder / "train.json")
    benchmark = load_benchmark(folder / "train.json")
    assert benchmark.name == "p2r10k" and check_benchmark(benchmark).passed
    monkeypatch.chdir(folder)
    assert [sample.image.load().size for sample in load_benchmark("train.json")] == [(80, 60)] * 3
    shutil.move(folder, tmp_path / "other")
    with pytest.raises(DataError, match="there is no file"):
        load_benchmark(tmp_path / "other" / "train.json")


def test_a_file_at_the_path_that_is_written_wins(tmp_path: Path) -> None:
    folder = write_visualprobe(tmp_path / "VisualProbe_Hard")
    (folder / "VisualProbe_Hard" / "data").mkdir(parents=True)
    shutil.copy(folder / "data" / "1.jpg", folder / "VisualProbe_Hard" / "data" / "0.jpg")
    assert load_benchmark(folder)[0].image.uri.endswith("VisualProbe_Hard/VisualProbe_Hard/data/0.jpg")
    shutil.move(folder / "val.json", folder / "train.json")
    assert load_benchmark(folder)[0].image.uri.endswith("VisualProbe_Hard/VisualProbe_Hard/data/0.jpg")


# TreeBench


def test_treebench_has_options_boxes_and_categories(tmp_path: Path) -> None:
    benchmark = load_benchmark(write_tsv(tmp_path / "TreeBench.tsv", treebench_rows()))
    assert benchmark.name == "treebench" and check_benchmark(benchmark).passed
    assert benchmark[0].gold_boxes == (Box(x1=100, y1=100, x2=500, y2=500), Box(x1=500, y1=500, x2=1000, y2=1000))
    assert [(sample.target, sample.category) for sample in benchmark] == [
        ("A", "Perception/OCR"), ("B", "Reasoning/Ordering"), ("C", "Perception/Attributes")
    ]  # fmt: skip
    for number in (0, 1):  # the first states its options itself
        assert question_text(benchmark[number]) == (
            f"Which color has door {number}?\nOptions:\n(A) red\n(B) blue\n(C) it's green"
        )
    assert benchmark.differences[0] == "3 samples instead of 405"
    assert "0 samples of the category 'Reasoning/Comparison' instead of 44" in benchmark.differences
    assert benchmark[0].chance == pytest.approx(1 / 3)
    assert [note[:20] for note in benchmark.notes] == ["license of TreeBench"]
    assert count_published("treebench:x") == 405


def test_treebench_is_told_by_its_targets_or_its_name_and_can_be_shuffled(tmp_path: Path) -> None:
    assert load_benchmark(write_tsv(tmp_path / "a.tsv", treebench_rows())).name == "treebench"
    rows = [{key: value for key, value in row.items() if key != "target_instances"} for row in treebench_rows()]
    benchmark = load_benchmark(write_tsv(tmp_path / "TreeBench.tsv", rows))
    assert benchmark.name == "treebench" and benchmark[0].gold_boxes == ()
    assert benchmark.notes[1] == "3 questions without target boxes; the authors' IoU counts 0 for such"
    shuffled = prepare_samples("shuffled", benchmark, seed=3)
    assert [sample.options["ABC".index(sample.target or "")] for sample in shuffled] == ["red", "blue", "it's green"]


def test_options_of_treebench_may_stand_in_letter_columns(tmp_path: Path) -> None:
    rows = [row | {"multi-choice options": ""} for row in treebench_rows()]
    assert load_benchmark(write_tsv(tmp_path / "a.tsv", rows))[1].options == ("red", "blue", "it's green")
    rows = [{key: value for key, value in row.items() if key != "multi-choice options"} for row in treebench_rows()]
    assert load_benchmark(write_tsv(tmp_path / "a.tsv", rows))[1].options == ("red", "blue", "it's green")


def test_other_options_in_a_question_are_kept(tmp_path: Path) -> None:
    rows = treebench_rows()
    rows[0]["question"] = "Which of (A) cats (B) dogs is it?"
    question = load_benchmark(write_tsv(tmp_path / "a.tsv", rows))[0].question
    assert question.startswith("Which of (A) cats (B) dogs is it?\nOptions:\n(A) red\n")


def test_treebench_without_options_is_refused(tmp_path: Path) -> None:
    kept = ("index", "image", "question", "answer", "category", "target_instances")
    rows = [{key: row[key] for key in kept} for row in treebench_rows()]
    with pytest.raises(DataError, match="has no column 'A'"):
        load_benchmark(write_tsv(tmp_path / "a.tsv", rows))


@pytest.mark.parametrize("empty", ["", "[]"])
def test_a_question_of_treebench_may_have_no_targets(tmp_path: Path, empty: str) -> None:
    rows = treebench_rows()
    rows[1]["target_instances"] = empty
    benchmark = load_benchmark(write_tsv(tmp_path / "a.tsv", rows))
    assert [len(sample.gold_boxes) for sample in benchmark] == [2, 0, 2]
    assert benchmark.notes[1].startswith("1 question without target boxes")


def test_a_box_a_little_beyond_the_edge_is_cut_and_a_single_one_needs_no_list(tmp_path: Path) -> None:
    rows = treebench_rows()
    rows[0]["target_instances"] = "[-4, 6, 40, 64]"
    assert load_benchmark(write_tsv(tmp_path / "a.tsv", rows))[0].gold_boxes == (Box(x1=0, y1=100, x2=500, y2=1000),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_instances": "[[1, 2, 3]]"}, "'target_instances': '[[1, 2, 3]]' is not a list of [x1, y1, x2, y2]"),
        ({"target_instances": "a box"}, "'target_instances': 'a box' is not a list of [x1, y1, x2, y2] in pixels"),
        ({"target_instances": "[[9, 9, 200, 50]]"}, "'target_instances': the box [9.0, 9.0, 200.0, 50.0]"),
        ({"multi-choice options": "A. red\nC. blue"}, "'multi-choice options': 'C. blue' is where option (B) should"),
        ({"answer": "D"}, "'answer': 'D' is not the letter of an option (A, B, C)"),
    ],
)
def test_a_bad_row_of_treebench_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    rows = treebench_rows()
    rows[1] |= changes
    with pytest.raises(DataError) as caught:
        load_benchmark(write_tsv(tmp_path / "TreeBench.tsv", rows))
    assert f"row 2: field {message}" in str(caught.value)


# ZoomBench


def test_zoombench_has_both_views_and_both_kinds_of_question(tmp_path: Path) -> None:
    benchmark = load_benchmark(write_parquet(tmp_path / "test-00000-of-00001.parquet", zoombench_rows()))
    assert benchmark.name == "zoombench" and check_benchmark(benchmark).num_images == 8
    first, second, _, fourth = benchmark
    assert (first.answer_form, first.options, first.target) == ("choice", ("0", "2", "1", "3"), "C")
    assert (second.answer_form, second.target, fourth.answer_form) == ("free_form", "a kite", "number")
    assert question_text(first) == zoombench_rows()[0]["query"]
    assert (first.category, second.category, first.chance, second.chance) == ("mcq", "oq", 0.25, None)
    assert first.gold_boxes == (Box(x1=250, y1=250, x2=750, y2=750),)
    assert first.crop is not None and (first.image.load().size, first.crop.load().size) == ((80, 60), (40, 30))
    assert benchmark.differences[0] == "4 samples instead of 845" and count_published("zoombench:x") == 845
    assert benchmark.notes == (
        "license of ZoomBench: Apache-2.0",
        "the zooming gap is the accuracy of the mode paired-crop less that of direct",
    )


def test_types_of_questions_may_be_in_capitals(tmp_path: Path) -> None:
    rows = [row | {"question_type": str(row["question_type"]).upper()} for row in zoombench_rows()]
    assert load_benchmark(write_parquet(tmp_path / "test.parquet", rows)).categories == {"mcq": 2, "oq": 2}


def test_the_crop_is_shown_in_the_mode_paired_crop(tmp_path: Path) -> None:
    benchmark = load_benchmark(write_parquet(tmp_path / "test.parquet", zoombench_rows()))
    shown = prepare_samples("paired-crop", benchmark)
    assert [sample.image for sample in shown] == [sample.crop for sample in benchmark]
    assert [replace(after, image=before.image) for before, after in zip(benchmark, shown, strict=True)] == list(
        benchmark
    )


def test_older_names_and_the_authors_converted_json_are_read(tmp_path: Path) -> None:
    renamed = {"query": "prompt", "response": "answer"}
    rows = [{renamed.get(key, key): value for key, value in row.items()} for row in zoombench_rows()]
    kept = ("prompt", "answer", "image", "crop_image")
    older = [{key: row[key] for key in kept} for row in rows]
    converted: list[dict[str, object]] = []
    (tmp_path / "images").mkdir()
    for number, row in enumerate(zoombench_rows()):
        (tmp_path / "images" / f"image_{number}.png").write_bytes(make_bytes(number))
        (tmp_path / "images" / f"crop_image_{number}.png").write_bytes(make_bytes(100 + number, 40, 30))
        paths = {"images": [f"images/image_{number}.png"], "crop_images": [f"images/crop_image_{number}.png"]}
        converted.append(paths | {"query": f"<image>{row['query']}", "response": row["response"]})
    (tmp_path / "zoombench.json").write_text(json.dumps(converted))
    for path in (write_parquet(tmp_path / "old.parquet", older), tmp_path / "zoombench.json"):
        benchmark = load_benchmark(path)
        assert benchmark.name == "zoombench" and check_benchmark(benchmark).passed
        assert [sample.target for sample in benchmark] == ["C", "a kite", "C", "7"]
        assert (benchmark[1].id, benchmark[0].question) == ("1", zoombench_rows()[0]["query"])
        assert benchmark.differences == ("4 samples instead of 845",)
        assert benchmark.notes[-1] == "4 questions without a box"
        assert all(sample.crop is not None and sample.crop.load().size == (40, 30) for sample in benchmark)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"response": "red"}, "field 'response': 'red' names no option of the question, though its type is mcq"),
        ({"query": "<image>"}, "field 'query': empty"),
        ({"response": "<answer> </answer>"}, "field 'response': empty"),
        ({"bbox": [1.0, 2.0]}, r"field 'bbox': \[1.0, 2.0\] is not a list of \[x1, y1, x2, y2\] in pixels"),
        ({"crop_image": {"bytes": b"no image", "path": None}}, r"crop_image"),
    ],
)
def test_a_bad_row_of_zoombench_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    rows = zoombench_rows()
    rows[0] |= changes
    with pytest.raises(DataError, match=f"row 1: .*{message}"):
        load_benchmark(write_parquet(tmp_path / "test.parquet", rows))


def test_converting_says_that_crops_are_lost(tmp_path: Path) -> None:
    benchmark = load_benchmark(write_parquet(tmp_path / "test.parquet", zoombench_rows()))
    converted = convert(benchmark, tmp_path / "questions.jsonl", "questions")
    assert converted.losses == ("the paired crops of 4 samples",)
    again = load_benchmark(tmp_path / "questions.jsonl")
    assert [sample.gold_boxes for sample in again] == [sample.gold_boxes for sample in benchmark]
    assert convert(again, tmp_path / "again.jsonl", "questions").losses == ()


def test_a_broken_crop_fails_the_check(tmp_path: Path) -> None:
    rows = zoombench_rows()
    rows[2]["crop_image"] = {"bytes": make_bytes(1)[:-600], "path": None}
    report = check_benchmark(load_benchmark(write_parquet(tmp_path / "test.parquet", rows)))
    assert report.num_images == 7 and [problem[:3] for problem in report.problems] == ["2: "]


def test_crops_of_a_tsv_stay_in_the_file(tmp_path: Path) -> None:
    rows = [row | {"image": make_base64(1), "crop_image": make_base64(2)} for row in zoombench_rows()]
    assert len(str(rows[0]["crop_image"])) > LONG_FIELD_BYTES
    benchmark = load_benchmark(write_tsv(tmp_path / "zoombench.tsv", rows))
    assert benchmark.name == "zoombench" and "FileRange" in repr(benchmark[0].crop)


# MME-RealWorld-CN


def test_full_width_brackets_and_the_chinese_instruction(tmp_path: Path) -> None:
    benchmark = load_benchmark(write_parquet(tmp_path / "MME-RealWorld-CN.parquet", mme_cn_rows()))
    assert benchmark.name == "mme_realworld_cn" and check_benchmark(benchmark).passed
    assert benchmark[0].options == ("红色", "蓝色", "绿色", "白色", "图中没有该物体")
    assert [sample.target for sample in benchmark] == ["E", "B", "B"]
    assert question_text(benchmark[1]) == (
        "卡车1是什么颜色？\n选项如下所示:\n(A) 红色\n(B) 蓝色\n(C) 绿色\n(D) 白色\n(E) 图中没有该物体\n"
        "根据图像选择上述多项选择题的最佳答案。"
    )
    assert benchmark.notes[0].startswith("3 questions read; the paper and VLMEvalKit count 5,917")
    assert benchmark.notes[1] == "license of MME-RealWorld: Apache-2.0"
    assert not any("instead of" in difference for difference in benchmark.differences)
    assert prepare_samples("shuffled", benchmark, seed=1)[0].question.endswith("最佳答案。")


def test_an_instruction_in_the_question_is_not_repeated(tmp_path: Path) -> None:
    rows = mme_cn_rows()
    plain = load_benchmark(write_parquet(tmp_path / "MME-RealWorld-CN.parquet", rows))[0].question
    rows[0]["question"] = f"{rows[0]['question']} 根据图像选择上述多项选择题的最佳答案。只需回答正确选项的字母。"
    assert load_benchmark(write_parquet(tmp_path / "MME-RealWorld-CN.parquet", rows))[0].question == plain


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("MME_RealWorld_CN.json", "mme_realworld_cn"),
        ("datasets--yifanzhang114--MME-RealWorld-CN-Lmms-eval/data.json", "mme_realworld_cn"),
        ("MME_RealWorld.json", "mme_realworld"),
        ("cn/MME-RealWorld-Lite.json", "mme_realworld_lite"),
        ("cn/MME_RealWorld_cnn.json", "mme_realworld"),
    ],
)
def test_the_chinese_part_is_told_by_its_name(tmp_path: Path, path: str, name: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(mme_lmms_rows()))
    benchmark = load_benchmark(file)
    assert benchmark.name == name
    assert bool(benchmark.notes) == (name == "mme_realworld_cn")


def test_questions_of_these_files_can_be_asked_without_their_boxes(tmp_path: Path) -> None:
    tree = [row | {"target_instances": "no boxes"} for row in treebench_rows()]
    zoom = [row | {"bbox": [1.0]} for row in zoombench_rows()]
    assert len(load_questions(write_tsv(tmp_path / "TreeBench.tsv", tree))) == 3
    assert len(load_questions(write_parquet(tmp_path / "zoom.parquet", zoom))) == 4
