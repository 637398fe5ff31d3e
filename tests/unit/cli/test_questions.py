"""Files of questions in every layout that is read, and rows that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2r.cli.questions import is_question_file, parse_questions, read_questions, split_options
from p2r.errors import DataError, P2RWarning
from p2r.images.load import MAX_IMAGE_PIXELS, FileImage
from p2r.images.web import WebImage
from p2r.types import Sample

ROW = {"image": "a.jpg", "question": "What?", "options": ["red", "blue"], "target": "blue", "id": "x"}


def parse(text: str | bytes, name: str = "q.jsonl") -> list[Sample]:
    return parse_questions(text.encode() if isinstance(text, str) else text, name, Path("data"), MAX_IMAGE_PIXELS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.jsonl", json.dumps(ROW)),
        ("q.NDJSON", "\ufeff\n" + json.dumps(ROW) + "\r\n\n"),
        ("q.json", json.dumps([ROW])),
        ("q.json", json.dumps([ROW], indent=2)),
        ("q.json", json.dumps(ROW, indent=2)),
        ("q.json", json.dumps(ROW)),
        ("q.jsonl", json.dumps([ROW])),
        ("q.csv", 'image,question,options,target,id\na.jpg,What?,"red,blue",blue,x\n'),
        ("q.csv", "\ufeffImage; Question ;options;answer;ID\r\na.jpg;What?;red|blue;B;x\r\n"),
        ("q.csv", "image,question,A,B,C,target,id\na.jpg,What?,red,blue,,B,x"),
        ("q.TSV", 'image\tquestion\toptions\ttarget\tid\na.jpg\tWhat?\t["red", "blue"]\tB\tx\n\n'),
        ("q.tsv", 'image\tquestion\toptions\ttarget\tid\ra.jpg\tWhat?\t"A. red\rB. blue"\tB\tx\r'),
    ],
)
def test_every_layout_gives_the_same_question(name: str, text: str) -> None:
    (sample,) = parse(text, name)
    assert sample.image == FileImage(Path("data/a.jpg"))
    assert (sample.id, sample.question, sample.options, sample.target) == ("x", "What?", ("red", "blue"), "B")


def test_a_table_of_a_spreadsheet_in_utf_16_is_read() -> None:
    (sample,) = parse("image\tquestion\na.jpg\tWas ist das für ein Schiff?\n".encode("utf-16"), "q.tsv")
    assert sample.question == "Was ist das für ein Schiff?"


@pytest.mark.parametrize(
    "options",
    [
        ["A. red", "B. blue"],
        ["(A) red", "(B) blue"],
        ["a) red", "b) blue"],
        {"A": "red", "B": "blue"},
        "A. red\nB. blue",
        "red,blue",
        " red | blue ",
    ],
)
def test_letters_that_options_carry_are_not_asked_twice(options: object) -> None:
    (sample,) = parse(json.dumps({**ROW, "options": options}))
    assert sample.options == ("red", "blue")
    assert sample.target == "B"


def test_a_target_may_be_an_option_with_its_letter() -> None:
    (sample,) = parse(json.dumps({**ROW, "options": ["A. red", "B. blue"], "target": "B. blue"}))
    assert sample.target == "B"


def test_the_target_may_be_called_answer() -> None:
    (sample,) = parse('{"image": "a.jpg", "question": "How many?", "answer": 3, "answer_form": "number"}')
    assert sample.target == "3"


def test_ids_are_the_numbers_of_lines_or_rows() -> None:
    line = '{"image": "a.jpg", "question": "What?"}'
    assert [sample.id for sample in parse(f"{line}\n\n{line}")] == ["1", "3"]
    assert [sample.id for sample in parse(f"[{line}, {line}]")] == ["1", "2"]
    assert [sample.id for sample in parse("image,question\na,b\n\nc,d", "q.csv")] == ["1", "2"]


def test_an_image_may_be_on_the_web() -> None:
    (sample,) = parse('{"image": "http://example.org/a.jpg", "question": "What?"}')
    assert sample.image == WebImage("http://example.org/a.jpg")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "q.csv",
            "photo,question\na.jpg,What?",
            "the first line of q.csv names no column image: its columns are 'photo, question'",
        ),
        (
            "q.csv",
            "path,prompt\na.jpg,What?",
            "names no column image and no column question: its columns are 'path, prompt'",
        ),
        ("q.tsv", "a.jpg\tWhat?", "the first line of q.tsv names no column image and no column question"),
        ("q.csv", "image,question,notes\na.jpg,What?,old", "row 1 of q.csv: notes is not a known name"),
        ("q.csv", "image,question\na.jpg,What, and where?", "row 1 of q.csv has 3 cells under 2 names"),
        ("q.csv", 'image,question\na.jpg,"What?', "q.csv cannot be read as a table"),
        ("q.csv", "image,question\na.jpg,\n", "row 1 of q.csv: question is missing"),
        ("q.csv", "image,question\n", "q.csv holds no questions"),
        ("q.csv", "", "q.csv holds no questions"),
        ("q.csv", "image,question,A,C\na,b,c,d", "its letters should be A, B, C, ..., not A, C"),
        ("q.json", "[]", "q.json holds no questions"),
        ("q.json", "[3]", "row 1 of q.json"),
        ("q.json", '[{"image": "a", "question": "b"}, {"image": "a"}]', "row 2 of q.json: question is missing"),
        ("q.jsonl", "{broken", "line 1 of q.jsonl: it is not JSON"),
        ("q.jsonl", '{"image": "a", "question": "b"}\n3', "line 2 of q.jsonl"),
        (
            "q.jsonl",
            json.dumps({**ROW, "options": "red", "target": "red"}),
            "line 1 of q.jsonl: sample 'x' has a single option",
        ),
        ("q.jsonl", json.dumps({**ROW, "options": {"a": "x"}}), "its letters should be"),
        ("q.jsonl", json.dumps(ROW) + "\n" + json.dumps(ROW), "line 2 of q.jsonl: the id 'x' was used before"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(name: str, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(text, name)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "dir.csv").mkdir()
    (tmp_path / "latin.csv").write_bytes("image,question\na.jpg,Où?".encode("latin-1"))
    for name, message in (("gone.csv", "there is no file"), ("dir.csv", "cannot be read"), ("latin.csv", "UTF-8")):
        with pytest.raises(DataError, match=message) as caught:
            read_questions(tmp_path / name, MAX_IMAGE_PIXELS)
        assert caught.value.hint


def test_options_of_one_text_are_split_at_the_strongest_mark() -> None:
    assert split_options("left, above|right, below") == ("left, above", "right, below")
    assert split_options("a|b\nc") == ("a|b", "c")
    assert split_options('["a, b", 3]') == ("a, b", "3")
    assert split_options("[a], [b]") == ("[a]", "[b]")
    assert split_options("  ") == ()


def test_files_of_questions_are_told_by_their_names() -> None:
    assert all(is_question_file(f"a/b.{suffix}") for suffix in ("jsonl", "NDJSON", "json", "Csv", "tsv"))
    assert not any(is_question_file(name) for name in ("a.jpg", "csv", "What is in a.csv?", "-"))


@pytest.mark.parametrize("text", ["image,question\n", "a.jpg,What?\n", "", "path,prompt\na.jpg,What?"])
def test_the_hint_about_a_table_shows_a_table(text: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(text, "q.csv")
    assert "image,question" in caught.value.hint and "{" not in caught.value.hint


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("q.csv", "image,question,target,answer_form\na.jpg,How many?,3 to 5,number", "the column answer_form"),
        (
            "q.jsonl",
            '{"image": "a", "question": "b", "target": "5-6", "answer_form": "number"}',
            "the key answer_form",
        ),
    ],
)
def test_a_hint_names_the_column_or_key_and_no_flag(name: str, text: str, place: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(text, name)
    assert f"set {place} to free_form" in caught.value.hint and "`" not in caught.value.hint


def test_what_only_an_evaluation_uses_is_said_once_and_left_out() -> None:
    row = {**ROW, "boxes": [[1, 2, 3, 4]], "box_frame": "pixels", "category": "sails"}
    with pytest.warns(P2RWarning, match="q.jsonl: boxes, box_frame, category are not used here") as warned:
        samples = parse(json.dumps(row) + "\n" + json.dumps({**row, "id": "y"}))
    assert len(warned) == 1
    assert [(sample.id, sample.target, sample.gold_boxes) for sample in samples] == [("x", "B", ()), ("y", "B", ())]


@pytest.mark.parametrize("empty", ["nan", "NaN", "<NA>"])
def test_an_empty_cell_as_pandas_writes_it_is_no_option(empty: str) -> None:
    [sample] = parse(f"image,question,A,B,C,target\na.jpg,What?,red,blue,{empty},{empty}", "q.csv")
    assert sample.options == ("red", "blue") and sample.target is None
