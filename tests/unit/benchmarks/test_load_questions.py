"""Files of questions to be asked: what every kind may hold, and what is said about rows that cannot be asked."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from p2r.benchmarks.load import load_benchmark, load_questions
from p2r.benchmarks.options import split_options
from p2r.errors import DataError
from p2r.images.load import FileImage
from p2r.types import Sample

ROW = {"image": "a.jpg", "question": "What?", "options": ["red", "blue"], "target": "blue", "id": "x"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def parse(text: str | bytes, name: str = "q.jsonl") -> list[Sample]:
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return list(load_questions(Path(name)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.jsonl", json.dumps(ROW)),
        ("q.NDJSON", "\ufeff\n" + json.dumps(ROW) + "\r\n\n"),
        ("q.json", json.dumps([ROW])),
        ("q.json", json.dumps([ROW], indent=2)),
        ("q.json", "\ufeff" + json.dumps([ROW], indent=2)),
        ("q.json", json.dumps(ROW, indent=2)),
        ("q.json", json.dumps(ROW)),
        ("q.json", json.dumps({"data": [ROW]}, indent=2)),
        ("q.jsonl", json.dumps([ROW])),
        ("q.jsonl", json.dumps(ROW, indent=2)),
        ("q.csv", 'image,question,options,target,id\na.jpg,What?,"red,blue",blue,x\n'),
        ("q.csv", "\ufeffImage; Question ;options;answer;ID\r\na.jpg;What?;red|blue;B;x\r\n"),
        ("q.csv", "image,question,A,B,C,target,id\na.jpg,What?,red,blue,,B,x"),
        ("q.csv", ",image,question,A,B,C,target,id\n0,a.jpg,What?,red,blue,nan,B,x"),
        ("q.csv", "Unnamed: 0,image,question,A,B,target,id,notes\n0,a.jpg,What?,red,blue,B,x,"),
        ("q.TSV", 'image\tquestion\toptions\ttarget\tid\na.jpg\tWhat?\t["red", "blue"]\tB\tx\n\n'),
        ("q.tsv", 'image\tquestion\toptions\ttarget\tid\ra.jpg\tWhat?\t"A. red\rB. blue"\tB\tx\r'),
    ],
)
def test_every_layout_gives_the_same_question(name: str, text: str) -> None:
    (sample,) = parse(text, name)
    assert isinstance(sample.image, FileImage) and sample.image.uri == "a.jpg"
    assert (sample.id, sample.question, sample.options, sample.target) == ("x", "What?", ("red", "blue"), "B")


@pytest.mark.parametrize("options", [["A. red", "B. blue"], ["(A) red", "(B) blue"], ["a) red", "b) blue"]])
@pytest.mark.parametrize("target", ["B", "(b)", "B. blue", "blue", "<answer>B</answer>"])
def test_letters_that_options_carry_are_not_asked_twice(options: object, target: str) -> None:
    (sample,) = parse(json.dumps({**ROW, "options": options, "target": target}))
    assert (sample.options, sample.target) == (("red", "blue"), "B")


def test_options_by_letter_may_come_in_any_order_with_empty_ones_at_the_end() -> None:
    (sample,) = parse(json.dumps({**ROW, "options": {"B": "blue", "A": "red", "C": None, "D": "nan"}}))
    assert (sample.options, sample.target) == (("red", "blue"), "B")


def test_ids_are_the_numbers_of_lines_or_rows() -> None:
    line = '{"image": "a.jpg", "question": "What?"}'
    assert [sample.id for sample in parse(f"{line}\n\n{line}")] == ["1", "3"]
    assert [sample.id for sample in parse(f"{line}\n\n{line}", "q.json")] == ["1", "3"]
    assert [sample.id for sample in parse(f"[{line}, {line}]", "q.json")] == ["1", "2"]
    assert [sample.id for sample in parse("image,question\na,b\n\nc,d", "q.csv")] == ["1", "2"]


@pytest.mark.parametrize(
    ("row", "form", "target", "options"),
    [
        ({"question": "How many?", "answer": 3}, "number", "3", ()),
        ({"question": "How many?", "target": "3 to 5"}, "free_form", "3 to 5", ()),
        ({"question": "How many?", "target": "3", "answer_form": "free_form"}, "free_form", "3", ()),
        ({"question": "What color? A. red B. blue", "answer": "(b)"}, "choice", "B", ("red", "blue")),
        ({"question": "What color? A. red B. blue", "answer": "pink"}, "free_form", "pink", ()),
        ({"question": "What color? A. red B. blue", "answer_form": "choice"}, "choice", None, ("red", "blue")),
        ({"question": "<image>\nWhat?", "target": "a kite"}, "free_form", "a kite", ()),
    ],
)
def test_the_form_of_an_answer_is_what_the_row_says_or_is_inferred(
    row: dict[str, object], form: str, target: str | None, options: tuple[str, ...]
) -> None:
    (sample,) = parse(json.dumps({"image": "a.jpg"} | row))
    assert (sample.answer_form, sample.target, sample.options) == (form, target, options)
    assert sample.options_in_question is bool(options)
    assert "<image>" not in sample.question


def test_what_was_inferred_is_said_once() -> None:
    row = {"image": "a.jpg", "question": "How many?", "target": 3}
    text = "\n".join(json.dumps({**row, "id": name}) for name in "xyz")
    Path("q.jsonl").write_text(text)
    assert load_questions(Path("q.jsonl")).notes == (
        "the answer form was inferred: 3 numbers, the first with the id x; `answer_form` states it",
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.csv", "photo,question\na.jpg,What?", "q.csv has no column image: its columns are 'photo, question'"),
        ("q.csv", "path,prompt\na,b", "q.csv has no column image and no column question: its columns are"),
        ("q.csv", "image,question,notes\na.jpg,What?,old", "q.csv, row 1: field 'notes': it is not a known name"),
        ("q.csv", "image,question\na.jpg,What, and where?", "q.csv, row 1: 3 fields where the header has 2 columns"),
        ("q.csv", "image,question\na.jpg,\n", "q.csv, row 1: field 'question': empty"),
        ("q.csv", "image,question\n", "q.csv holds no questions"),
        ("q.csv", "", "q.csv is empty or has no header"),
        ("q.csv", "image,question,A,C\na,b,c,d", "q.csv, row 1: field 'B': empty, though there is an option C"),
        ("q.json", "[]", "q.json holds no questions"),
        ("q.json", "[3]", "q.json, row 1: not a JSON object: 3"),
        ("q.json", '[{"image": "a", "question": "b"}, 3]', "q.json, row 2: not a JSON object: 3"),
        ("q.json", '[{"image": "a", "question": "b"}, "x"]', "q.json, row 2: not a JSON object"),
        ("q.json", '[{"image": "a", "question": "b"}, {"image": "a"}]', "q.json, row 2: field 'question': missing"),
        ("q.jsonl", "{broken", "q.jsonl, line 1: not a JSON object"),
        ("q.jsonl", '{"image": "a", "question": "b"}\n3', "q.jsonl, line 2: not a JSON object: 3"),
        ("q.jsonl", json.dumps({**ROW, "options": "red"}), "q.jsonl, line 1: field 'options': 1 option;"),
        ("q.jsonl", json.dumps({**ROW, "options": {"a": "x"}}), "its letters should be"),
        (
            "q.jsonl",
            json.dumps({**ROW, "options": {"A": "x", "C": "y"}}),
            "letters should be A, B, C, ..., not A, C",
        ),
        ("q.jsonl", json.dumps({**ROW, "options": ["x", None]}), "field 'options': option B is None"),
        ("q.jsonl", json.dumps({**ROW, "options": ["x", "x"]}), "field 'options': 'x' comes more than once"),
        ("q.jsonl", json.dumps({**ROW, "answer": "A"}), "field 'answer': there is also 'target'"),
        ("q.jsonl", json.dumps({**ROW, "A": "red"}), "field 'A': there is also 'options'"),
        ("q.jsonl", json.dumps({**ROW, "target": True}), "field 'target': True is not a text or a number"),
        ("q.jsonl", json.dumps({**ROW, "question": 7.5, "image": 3}), "field 'image': 3 is neither a path nor bytes"),
        ("q.jsonl", json.dumps({**ROW, "question": ["x"]}), r"field 'question': \['x'\] is not a text"),
        ("q.jsonl", json.dumps({**ROW, "question": "a <|im_end|>"}), "holds <|im_end|>, a special token"),
        ("q.jsonl", json.dumps({**ROW, "question": "a \ud800"}), "is not text in UTF-8"),
        ("q.jsonl", json.dumps({**ROW, "answer_form": "text"}), "field 'answer_form': 'text' is not one of choice"),
        ("q.jsonl", json.dumps(ROW) + "\n" + json.dumps(ROW), "q.jsonl, line 2: the id 'x' was used before"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(name: str, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(text, name)
    assert message.replace("\\", "") in caught.value.message
    assert "skip_bad" not in caught.value.hint


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("image,question\na.jpg,Où?".encode("latin-1"))
    for name, message in (("gone.csv", "there is no file"), ("latin.csv", "UTF-8")):
        with pytest.raises(DataError, match=message) as caught:
            load_questions(tmp_path / name)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("q.csv", "image,question\na.jpg,What, and where?", "a field that holds the separator in quotation marks"),
        ("q.csv", "image,question,target\na.jpg,What?", "leave no field out"),
        ("q.json", '[{"image": "a"', "a missing or spare comma"),
        ("q.jsonl", '{"image": "a" "question": "b"}', "a missing or spare comma"),
        ("q.json", "[3]", "each row is an object"),
        ("q.jsonl", "hello", "each row is an object"),
    ],
)
def test_a_row_that_is_no_row_is_hinted_at_for_what_it_is(name: str, text: str, hint: str) -> None:
    for load in (load_questions, load_benchmark):
        Path(name).write_text(text)
        with pytest.raises(DataError) as caught:
            load(Path(name))
        assert hint in caught.value.hint and "a row has the fields" not in caught.value.hint


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.json", "", "q.json holds no questions"),
        ("q.json", "[]", "q.json holds no questions"),
        ("q.json", '[{"image": "a"', "q.json, row 1: not a JSON object"),
        ("q.csv", "photo,question\na.jpg,What?", "q.csv has no column image"),
        ("q.jsonl", '{"photo": "a.jpg", "question": "b"}', "field 'photo': it is not a known name"),
    ],
)
def test_every_command_says_the_same_of_a_file_that_holds_no_questions(name: str, text: str, message: str) -> None:
    for load in (load_questions, load_benchmark):
        Path(name).write_text(text)
        with pytest.raises(DataError) as caught:
            load(Path(name))
        assert message in caught.value.message


@pytest.mark.parametrize("data", [b"", b"image,image\na,b\n", "image\nOù".encode("latin-1")])
def test_a_packed_file_is_named_as_its_user_names_it(data: bytes) -> None:
    Path("q.csv.gz").write_bytes(gzip.compress(data))
    for load in (load_questions, load_benchmark):
        with pytest.raises(DataError) as caught:
            load(Path("q.csv.gz"))
        assert caught.value.message.startswith("q.csv.gz") and "p2r-" not in caught.value.message


def test_a_file_that_is_piped_in_is_named_as_it_is_shown(tmp_path: Path) -> None:
    (tmp_path / "held.parquet").write_bytes(b"PAR1hello")
    with pytest.raises(DataError) as caught:
        load_questions(tmp_path / "held.parquet", shown="stdin")
    assert caught.value.message.startswith("stdin is cut off")


@pytest.mark.parametrize("other", ["b.jpg", ["b.jpg"], ["a.jpg", "b.jpg"], {"path": "b.jpg"}, '["b.jpg"]'])
def test_image_and_images_must_not_state_different_images(other: object) -> None:
    with pytest.raises(DataError, match="field 'images': there is also 'image', which states another image"):
        parse(json.dumps({**ROW, "image": "a.jpg", "images": other}))


@pytest.mark.parametrize("other", ["a.jpg", ["a.jpg"], '["a.jpg"]', [], None, ""])
def test_image_and_images_may_state_the_same_image(other: object) -> None:
    (sample,) = parse(json.dumps({**ROW, "image": "a.jpg", "images": other}))
    assert sample.image.uri.endswith("a.jpg")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("left, above|right, below", ("left, above", "right, below")),
        ("a|b\nc", ("a|b", "c")),
        ("a\r\nb\r\n", ("a", "b")),
        ("[a], [b]", ("[a]", "[b]")),
        ("  ", ()),
        ("A. red B. blue", ("red", "blue")),
        ("(A) 1,000, (B) 2,000", ("1,000", "2,000")),
        ("1,000, 2,000", ("1,000", "2,000")),
        ("100,200,300", ("100", "200", "300")),
        ("one", ("one",)),
    ],
)
def test_options_of_one_text_are_split_at_the_strongest_mark(text: str, options: tuple[str, ...]) -> None:
    assert split_options(text) == options


@pytest.mark.parametrize("text", ["image,question\n", "path,prompt\na.jpg,What?"])
def test_the_hint_about_a_table_shows_a_table(text: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(text, "q.csv")
    assert "image,question" in caught.value.hint and "{" not in caught.value.hint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.csv", "image,question,target,answer_form\na.jpg,How many?,3 to 5,number"),
        ("q.jsonl", '{"image": "a", "question": "b", "target": "5-6", "answer_form": "number"}'),
    ],
)
def test_a_hint_names_the_field_and_no_flag(name: str, text: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(text, name)
    assert f"{name}, " in caught.value.message and "which is a range" in caught.value.message
    assert "set the field answer_form to free_form" in caught.value.hint and "`" not in caught.value.hint


def test_boxes_are_not_read_where_nothing_is_evaluated_and_that_is_said() -> None:
    row = {**ROW, "boxes": [[1, 2, 3, 4]], "box_frame": "pixels", "category": "sails"}
    Path("q.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "id": "y"}))
    found = load_questions(Path("q.jsonl"))
    assert found.notes == ("the boxes of 2 questions are not used here; `p2r eval` uses them",)
    assert [(sample.id, sample.gold_boxes, sample.category) for sample in found] == [
        ("x", (), "sails"),
        ("y", (), "sails"),
    ]


def test_rows_of_training_data_can_be_asked_too() -> None:
    (sample,) = parse(
        json.dumps([{"images": ["a.jpg"], "problem": "<image>What? A. red B. blue", "answer": "B"}]), "q.json"
    )
    assert (sample.question, sample.target) == ("What? A. red B. blue", "B")
