"""Rows of every layout, in every kind of file, become the same samples."""

from __future__ import annotations

import base64
import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.errors import DataError
from p2r.types import Sample
from tests.fakes.benchmark_files import make_bytes, write_parquet

QUESTION = "What colour is the block?\n(A) red\n(B) blue\n(C) green"
OPTIONS = ("red", "blue", "green")
IMAGE = "img/a.jpg"
Row = dict[str, object]


def user(content: object) -> Row:
    return {"role": "user", "content": content}


def reply(text: str) -> Row:
    return {"role": "assistant", "content": text}


LAYOUTS: dict[str, Row] = {
    "DeepEyes": {
        "prompt": [{"role": "system", "content": "# Tools"}, user(f"<image>\n{QUESTION}")],
        "images": [IMAGE],
        "env_name": "visual_toolbox_v2",
        "reward_model": {"ground_truth": "B. blue", "style": "model"},
        "extra_info": {"index": 1, "answer": "B"},
    },
    "P2R-10k": {
        "prompt": [user(f"<image>\n{QUESTION}")],
        "images": [IMAGE],
        "reward_model": {"ground_truth": "B"},
        "extra_info": {"answer_form": "mca"},
    },
    "Mini-o3": {"images": [IMAGE], "problem": f"<image>{QUESTION}", "solution": "\\boxed{B}", "doc_id": 1},
    "EasyR1": {"images": [IMAGE], "problem": f"<image>{QUESTION}", "answer": "(B) blue"},
    "multimodal-open-r1": {"image": IMAGE, "problem": QUESTION, "solution": "<think>..</think> <answer> B </answer>"},
    "ZwZ": {"images": [IMAGE], "question": QUESTION, "answer": "B"},
    "ms-swift": {"messages": [user(f"<image>{QUESTION}")], "images": [IMAGE], "solution": "<answer> B </answer>"},
    "ms-swift query": {"query": f"<image>{QUESTION}", "response": "B", "images": [IMAGE]},
    "LLaMA-Factory (ShareGPT)": {
        "conversations": [{"from": "human", "value": f"<image>{QUESTION}"}, {"from": "gpt", "value": "B"}],
        "images": [IMAGE],
    },
    "LLaMA-Factory (Alpaca)": {"instruction": QUESTION, "input": "", "output": "blue", "images": [IMAGE]},
    "LLaVA": {
        "id": 1,
        "image": IMAGE,
        "conversations": [{"from": "human", "value": f"<image>\n{QUESTION}"}, {"from": "gpt", "value": "B"}],
    },
    "OpenAI chat": {
        "messages": [
            user([{"type": "image_url", "image_url": {"url": IMAGE}}, {"type": "text", "text": QUESTION}]),
            {"role": "assistant", "content": [{"type": "text", "text": "B"}]},
        ]
    },
    "OpenAI chat, ": {"messages": [user(f"<image>{QUESTION}"), reply("B")], "images": [IMAGE]},
}


def write(folder: Path, *rows: Row, name: str = "train.json") -> Path:
    (folder / "img").mkdir(exist_ok=True)
    (folder / "img" / "a.jpg").write_bytes(make_bytes(1))
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)) if ".jsonl" in name else json.dumps(rows))
    return path


def as_text(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | dict) else value


def write_json(folder: Path, row: Row) -> Path:
    return write(folder, row)


def write_lines(folder: Path, row: Row) -> Path:
    return write(folder, row, name="train.jsonl")


def write_under_a_key(folder: Path, row: Row) -> Path:
    path = write(folder, row)
    path.write_text(json.dumps({"version": 1, "data": [row]}))
    return path


def write_one_parquet(folder: Path, row: Row) -> Path:
    write(folder)
    return write_parquet(folder / "train.parquet", [row])


def write_cells(folder: Path, row: Row, separator: str, name: str) -> Path:
    write(folder)
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), delimiter=separator, lineterminator="\n")
        writer.writeheader()
        writer.writerow({key: as_text(value) for key, value in row.items()})
    return folder / name


def pack(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


KINDS: dict[str, Callable[[Path, Row], Path]] = {
    "json": write_json,
    "jsonl": write_lines,
    "key": write_under_a_key,
    "parquet": write_one_parquet,
    "tsv": lambda folder, row: write_cells(folder, row, "\t", "train.tsv"),
    "csv": lambda folder, row: write_cells(folder, row, ",", "train.csv"),
}


def load_one(path: Path) -> Sample:
    (sample,) = load_benchmark(path)
    return sample


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_from_every_kind_of_file(layout: str, kind: str, packed: bool, tmp_path: Path) -> None:
    path = KINDS[kind](tmp_path, LAYOUTS[layout])
    path = pack(path) if packed else path
    benchmark = load_benchmark(path)
    (sample,) = benchmark
    assert (sample.answer_form, sample.options, sample.target) == ("choice", OPTIONS, "B")
    assert sample.question == QUESTION and sample.options_in_question and sample.chance == 1 / 3
    assert sample.image.load().size == (80, 60)
    assert benchmark.notes[0].startswith(f"read as {layout.partition(',')[0]}") and "rows (" in benchmark.notes[0]
    assert benchmark.source == str(path) and check_benchmark(benchmark).passed


@pytest.mark.parametrize("layout", ["DeepEyes", "Mini-o3", "P2R-10k"])
def test_the_first_layouts_keep_their_name(layout: str, tmp_path: Path) -> None:
    path = write_json(tmp_path, LAYOUTS[layout])
    assert load_benchmark(path).name == load_benchmark(f"p2r10k:{path}").name == "p2r10k"
    assert load_benchmark(f"rows:{path}").fingerprint == load_benchmark(path).fingerprint


def test_rows_of_the_first_layouts_are_not_named_by_other_columns(tmp_path: Path) -> None:
    row = LAYOUTS["Mini-o3"] | {"doc_id": None, "id": 7, "index": 8}
    assert load_one(write_json(tmp_path, row)).id == "train/1"
    assert load_one(write_json(tmp_path, LAYOUTS["EasyR1"] | {"index": 8})).id == "8"
    assert load_one(write_json(tmp_path, LAYOUTS["P2R-10k"] | {"index": 8})).id == "train/1"


def test_a_packed_file_names_its_rows_as_the_plain_one(tmp_path: Path) -> None:
    path = write_json(tmp_path, LAYOUTS["EasyR1"])
    plain = load_benchmark(path).fingerprint
    assert load_benchmark(pack(path)).fingerprint == plain


def test_more_options_than_five_are_fit_to_be_run(tmp_path: Path) -> None:
    many = "What?\n" + "\n".join(f"({letter}) {letter * 3}" for letter in "ABCDEFG")
    benchmark = load_benchmark(write_json(tmp_path, LAYOUTS["Mini-o3"] | {"problem": many, "solution": "G"}))
    assert (benchmark[0].target, benchmark.facts.letters) == ("G", "ABCDEFG") and check_benchmark(benchmark).passed
    assert load_benchmark(write_json(tmp_path, LAYOUTS["Mini-o3"])).facts.letters == "ABCDE"


def test_the_column_of_the_image_is_named_as_it_is(tmp_path: Path) -> None:
    row: Row = {"image": IMAGE, "question": "How many?", "answer": "3", "source": "x"}
    assert load_benchmark(write_json(tmp_path, row)).notes[0] == "read as ZwZ rows (question, image, answer)"


def test_a_number_is_written_as_it_was_in_the_layouts_that_came_first(tmp_path: Path) -> None:
    assert load_one(write_json(tmp_path, deepeyes(reward_model={"ground_truth": 2.0}))).target == "2.0"
    assert load_one(write_json(tmp_path, LAYOUTS["EasyR1"] | {"answer": 2.0})).target == "2"


def test_several_images_in_the_messages_are_refused(tmp_path: Path) -> None:
    part = {"type": "image_url", "image_url": {"url": IMAGE}}
    row: Row = {"messages": [user([part, part, {"type": "text", "text": "How many?"}]), reply("3")]}
    with pytest.raises(DataError, match="field 'messages': 2 images"):
        load_benchmark(write_json(tmp_path, row))


def test_other_layouts_are_the_benchmark_rows(tmp_path: Path) -> None:
    assert load_one(write_json(tmp_path, LAYOUTS["LLaVA"])).benchmark == "rows"


def test_a_capital_suffix_is_as_good(tmp_path: Path) -> None:
    path = write_json(tmp_path, LAYOUTS["LLaVA"])
    assert load_one(path.rename(tmp_path / "TRAIN.JSON")).target == "B"
    path = write_cells(tmp_path, LAYOUTS["ZwZ"], "\t", "a.TSV")
    assert load_one(path).target == "B"


def deepeyes(**changes: object) -> Row:
    return LAYOUTS["DeepEyes"] | changes


@pytest.mark.parametrize(
    "row",
    [
        deepeyes(prompt=f"<image>\n{QUESTION}"),
        deepeyes(prompt=[user([{"type": "image"}, {"type": "text", "text": QUESTION}])]),
        deepeyes(prompt=json.dumps([user(QUESTION)])),
        deepeyes(reward_model=json.dumps({"ground_truth": "B"})),
        deepeyes(reward_model="{'ground_truth': 'B'}"),
        deepeyes(reward_model={"ground_truth": ["B"]}),
        deepeyes(images=IMAGE),
        deepeyes(images=f"./{IMAGE}"),
        deepeyes(images=["img\\a.jpg"]),
        deepeyes(images=[{"path": IMAGE, "bytes": None}]),
        deepeyes(images=json.dumps([IMAGE])),
        deepeyes(images=[base64.b64encode(make_bytes(1)).decode()]),
        deepeyes(images=["data:image/jpeg;base64," + base64.b64encode(make_bytes(1)).decode()]),
        deepeyes(images=[{"bytes": base64.b64encode(make_bytes(1)).decode()}]),
    ],
)
def test_a_field_may_be_written_otherwise(row: Row, tmp_path: Path) -> None:
    sample = load_one(write_json(tmp_path, row))
    assert (sample.answer_form, sample.target, sample.question) == ("choice", "B", QUESTION)
    assert sample.image.load().size == (80, 60)


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    row = deepeyes(images=[(tmp_path / IMAGE).as_uri()])
    assert load_one(write_json(tmp_path, row)).image.load().size == (80, 60)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": IMAGE}},
        {"type": "image_url", "image_url": IMAGE},
        {"type": "image", "image": IMAGE},
        {"type": "image", "path": IMAGE},
        {
            "type": "image_url",
            "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(make_bytes(1)).decode()},
        },
    ],
)
def test_an_image_is_found_among_the_parts_of_a_message(part: Row, tmp_path: Path) -> None:
    row: Row = {"messages": [user([part, {"type": "text", "text": "How many?"}]), reply("3")]}
    sample = load_one(write_lines(tmp_path, row))
    assert (sample.question, sample.answer_form, sample.target) == ("How many?", "number", "3")
    assert sample.image.load().size == (80, 60)


def test_an_empty_list_of_images_leaves_the_one_in_the_messages(tmp_path: Path) -> None:
    part = {"type": "image_url", "image_url": {"url": IMAGE}}
    row: Row = {"messages": [user([part, {"type": "text", "text": "How many?"}]), reply("3")], "images": []}
    assert load_one(write_json(tmp_path, row)).image.load().size == (80, 60)


def test_an_image_is_found_in_the_text_of_a_query(tmp_path: Path) -> None:
    row: Row = {"query": f"<img>{IMAGE}</img>How many?", "response": "3"}
    assert load_one(write_lines(tmp_path, row | {"images": None})).image.load().size == (80, 60)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        (["A. red", "B. blue"], "B"),
        (["red", "blue"], "blue"),
        ({"A": "red", "B": "blue"}, "B. blue"),
        ("['red', 'blue']", "B"),
        ("A. red\nB. blue", "B"),
    ],
)
def test_options_may_stand_in_a_column(options: object, target: str, tmp_path: Path) -> None:
    row: Row = {"image": IMAGE, "question": "What colour?", "options": options, "answer": target}
    sample = load_one(write_json(tmp_path, row))
    assert (sample.answer_form, sample.options, sample.target) == ("choice", ("red", "blue"), "B")
    assert not sample.options_in_question


def test_options_may_stand_in_columns_of_letters(tmp_path: Path) -> None:
    row: Row = {"image": IMAGE, "question": "What colour?", "A": "red", "B": "blue", "answer": "B"}
    assert load_one(write_json(tmp_path, row)).options == ("red", "blue")


def test_rows_whose_answer_names_no_stated_option_are_counted(tmp_path: Path) -> None:
    rows = [LAYOUTS["EasyR1"] | {"answer": answer} for answer in ("A", "AC", "white", "blue")]
    benchmark = load_benchmark(write(tmp_path, *rows))
    assert [sample.answer_form for sample in benchmark] == ["choice", "free_form", "free_form", "choice"]
    assert benchmark.differences == (
        "2 rows state options, but the answer names none of them; not taken as a choice: train/2, train/3",
    )


def test_instructions_are_left_out_and_counted_but_not_where_the_form_is_stated(tmp_path: Path) -> None:
    asked = (
        "How many?\nThink first, call **image_zoom_in_tool** if needed. Format: <think>..</think> <answer>..</answer>"
    )
    row = deepeyes(prompt=[user(asked)], reward_model={"ground_truth": "3"})
    benchmark = load_benchmark(write_json(tmp_path, row))
    assert benchmark[0].question == "How many?"
    assert "1 question lost closing instructions" in benchmark.notes[1]
    left_out = load_benchmark(write(tmp_path, row, deepeyes(), row | {"images": ["gone.jpg"]}), skip_bad=1)
    assert "1 question lost closing instructions" in left_out.notes[1]
    stated = load_benchmark(write_json(tmp_path, row | {"extra_info": {"answer_form": "na"}}))
    assert stated[0].question == asked and not any("lost" in note for note in stated.notes)


def test_numbered_options_are_named(tmp_path: Path) -> None:
    row = LAYOUTS["EasyR1"] | {"problem": "What colour?\n1. red\n2. blue", "answer": "2"}
    benchmark = load_benchmark(write_json(tmp_path, row))
    assert (benchmark[0].target, benchmark[0].question) == ("B", "What colour?\nA. red\nB. blue")
    assert benchmark.notes[1] == "1 question numbers its options; they are asked with letters: train/1"


def test_a_numbered_choice_of_p2r10k_has_letters(tmp_path: Path) -> None:
    row = LAYOUTS["P2R-10k"] | {"prompt": "What colour?\n1. red\n2. blue", "reward_model": {"ground_truth": "2"}}
    assert load_one(write_json(tmp_path, row)).target == "B"


def test_of_several_rounds_the_first_is_asked_and_that_is_said(tmp_path: Path) -> None:
    turns = [user("<image>How many?"), reply("3"), user("What colour are they?"), reply("red")]
    benchmark = load_benchmark(write_json(tmp_path, {"messages": turns, "images": [IMAGE]}))
    assert (benchmark[0].question, benchmark[0].target) == ("How many?", "3")
    assert benchmark.differences == ("1 row holds several questions; only the first of a row is asked: train/1",)


def test_the_last_user_text_is_asked_where_the_answer_stands_apart(tmp_path: Path) -> None:
    turns = [user("<image>How many?"), reply("3"), user("What colour are they?")]
    sample = load_one(write_json(tmp_path, {"messages": turns, "images": [IMAGE], "solution": "red"}))
    assert (sample.question, sample.target) == ("What colour are they?", "red")


@pytest.mark.parametrize(
    "turns", [[{"human": "How many?", "assistant": "3"}], [{"user": "How many?"}, {"assistant": "3"}]]
)
def test_a_turn_may_be_named_by_its_speaker(turns: object, tmp_path: Path) -> None:
    sample = load_one(write_json(tmp_path, {"conversations": turns, "images": [IMAGE]}))
    assert (sample.question, sample.target) == ("How many?", "3")


def test_boxes_of_rows_are_said_not_to_be_read(tmp_path: Path) -> None:
    benchmark = load_benchmark(write_json(tmp_path, LAYOUTS["ZwZ"] | {"bbox": [40, 40, 90, 80]}))
    assert benchmark[0].gold_boxes == () and "boxes in the rows are not read" in benchmark.notes[-1]


def test_rows_are_named_by_their_id_where_all_differ(tmp_path: Path) -> None:
    llava = LAYOUTS["LLaVA"]
    assert [s.id for s in load_benchmark(write(tmp_path, llava, llava | {"id": "x"}))] == ["1", "x"]
    assert [s.id for s in load_benchmark(write(tmp_path, llava, llava))] == ["train/1", "train/2"]
    mini = {key: value for key, value in LAYOUTS["Mini-o3"].items() if key != "doc_id"} | {"id": 7}
    assert load_one(write_json(tmp_path, mini)).id == "train/1"  # as it was before there were other layouts


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (LAYOUTS["EasyR1"] | {"answer": ""}, "field 'answer': no answer in ''"),
        (LAYOUTS["EasyR1"] | {"answer": "<think>so"}, "field 'answer': no answer in '<think>so'"),
        (LAYOUTS["EasyR1"] | {"answer": None}, "field 'answer': missing"),
        (LAYOUTS["EasyR1"] | {"problem": " "}, "field 'problem': empty"),
        (LAYOUTS["EasyR1"] | {"problem": "<image>"}, "the question is empty"),
        (LAYOUTS["EasyR1"] | {"images": []}, "field 'images': no image"),
        (LAYOUTS["EasyR1"] | {"images": [IMAGE, IMAGE]}, "field 'images': 2 images"),
        (
            LAYOUTS["EasyR1"] | {"images": ["https://a.invalid/a.jpg"]},
            r"https://a\.invalid/a\.jpg cannot be fetched: there is no such host",
        ),
        (deepeyes(reward_model={"ground_truth": ["A", "B"]}), r"field 'reward_model\.ground_truth': no answer in"),
        ({"messages": [user("What?"), reply("3")]}, "field 'messages': no image"),
        ({"messages": [user("What?")], "images": [IMAGE]}, "field 'messages': no answer from the assistant"),
        ({"messages": [reply("3")], "images": [IMAGE]}, "field 'messages': .* no text from the user"),
        ({"messages": 7, "images": [IMAGE]}, "field 'messages': 7 is not a list of messages"),
        (LAYOUTS["ZwZ"] | {"options": 7}, "field 'options': 7 is not a list of options"),
    ],
)
def test_a_bad_row_is_named(row: Row, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, row)
    with pytest.raises(DataError, match=rf"row 1: {message}"):
        load_benchmark(path)


@pytest.mark.parametrize("name", ["train.json", "train.jsonl"])
def test_columns_of_no_layout_name_the_nearest(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, {"images": [IMAGE], "problem": "What?", "ground_truth": "3"}, name=name)
    with pytest.raises(DataError, match=r"its columns are .*; nearest: .*without (solution|answer)"):
        load_benchmark(path)


def test_columns_in_capitals_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its columns are IMAGE, PROBLEM") as error:
        load_benchmark(write(tmp_path, {"IMAGE": IMAGE, "PROBLEM": "What?"}))
    assert error.value.hint == "write the names of the columns in small letters, but for A, B, C, ..."


def test_a_broken_packed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.json.gz"
    path.write_bytes(b"not packed")
    with pytest.raises(DataError, match=r"train\.json\.gz cannot be unpacked"):
        load_benchmark(path)
