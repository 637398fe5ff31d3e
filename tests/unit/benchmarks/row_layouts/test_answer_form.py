"""The form of an answer, inferred from the question and the right answer."""

from __future__ import annotations

import pytest

from p2r.benchmarks.row_layouts.answer_form import infer_form, is_plain_number

QUESTION = "What colour is the block?\n(A) red\n(B) blue\n(C) green"


@pytest.mark.parametrize(
    ("target", "letter"),
    [
        ("A. red", "A"),
        ("(A) red", "A"),
        ("red", "A"),
        ("Option A", "A"),
        ("b", "B"),
        ("（Ｃ）", "C"),
        ("Blue.", "B"),
        ("C: green", "C"),
        ("The correct answer is (B).", "B"),
        ("The block is red.", "A"),
        ("**B**", "B"),
        ("答案是B", "B"),
    ],
)
def test_an_answer_that_names_an_option_makes_a_choice(target: str, letter: str) -> None:
    reading = infer_form(QUESTION, target)
    assert (reading.form, reading.options, reading.target) == ("choice", ("red", "blue", "green"), letter)
    assert reading.question == QUESTION and not reading.names_none


@pytest.mark.parametrize("target", ["AC", "B or C", "E", "white", "A. blue"])
def test_an_answer_that_names_no_option_is_counted(target: str) -> None:
    reading = infer_form(QUESTION, target)
    assert (reading.form, reading.options, reading.target, reading.names_none) == ("free_form", (), target, True)


def test_an_answer_without_stated_options_is_a_number_or_free() -> None:
    assert infer_form("Is the block red or blue?", "red") == (
        "Is the block red or blue?",
        (),
        "free_form",
        "red",
        False,
        False,
    )
    assert infer_form("How many?", "1").form == "number"


@pytest.mark.parametrize(("target", "letter"), [("2", "B"), ("(1)", "A"), ("②", "B"), ("2. blue", "B"), ("red", "A")])
def test_numbered_options_are_a_choice_where_the_answer_is_one_of_them(target: str, letter: str) -> None:
    reading = infer_form("What colour?\n1. red\n2. blue", target)
    assert (reading.form, reading.target, reading.numbered) == ("choice", letter, True)
    assert reading.question == "What colour?\nA. red\nB. blue"


def test_a_number_beyond_numbered_options_is_a_number() -> None:
    reading = infer_form("How many?\n1. red\n2. blue", "12")
    assert (reading.form, reading.question, reading.numbered) == ("number", "How many?\n1. red\n2. blue", False)


def test_options_of_a_column_are_not_looked_for_in_the_question() -> None:
    reading = infer_form("What colour?", "blue", ("red", "blue"))
    assert (reading.form, reading.options, reading.target) == ("choice", ("red", "blue"), "B")
    assert infer_form("What colour?", "white", ("red", "blue")).names_none


@pytest.mark.parametrize(
    "target", ["1", "1,000", "-3.5", "50%", "$5", "three", "5 cm", "145°", "1/2", "0.5", r"\frac{1}{2}", r"30^\circ"]
)
def test_a_plain_number_or_a_formula_is_a_number(target: str) -> None:
    assert is_plain_number(target)


@pytest.mark.parametrize(
    "target", ["007", "12A", "2023-05-01", "12:30", "5-6", "x", "a kite", "4K", "#5", "3 cars", r"C:\new", ""]
)
def test_what_may_be_a_name_is_no_number(target: str) -> None:
    assert not is_plain_number(target)


def test_a_number_with_what_is_counted_is_one_where_the_question_asks_how_many() -> None:
    assert is_plain_number("3 cars", "How many are red?") and not is_plain_number("3 cars", "What does the sign say?")
    assert infer_form("How many cars are there?", "3 cars").form == "number"


def test_letters_count_before_numbers() -> None:
    reading = infer_form("Which?\n1. red\n2. blue\nOptions:\nA. the first\nB. the second", "2")
    assert not reading.numbered and reading.names_none
