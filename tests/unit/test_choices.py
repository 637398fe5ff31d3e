"""Questions with options: targets as letters, and other orders."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from p2r.choices import find_letter, read_letter, reorder_options, shuffle_options, shuffle_order, strip_letters
from p2r.errors import DataError
from p2r.images.load import MemoryImage
from p2r.types import Sample

OPTIONS = ("a star", "a fish", "a sun")
SAMPLE = Sample("q", MemoryImage(Image.new("RGB", (8, 8))), "What?", OPTIONS, answer_form="choice", target="B")


@pytest.mark.parametrize("target", ["B", "b", " B ", "a fish"])
def test_a_target_is_a_letter_or_a_text(target: str) -> None:
    assert find_letter(target, OPTIONS) == "B"


@pytest.mark.parametrize("target", ["D", "a boat", ""])
def test_a_target_that_names_no_option_is_refused(target: str) -> None:
    with pytest.raises(DataError, match="neither the letter nor the text"):
        find_letter(target, OPTIONS)


def test_a_target_that_names_two_options_is_refused() -> None:
    with pytest.raises(DataError, match="more than one option: A, B"):
        find_letter("A", ("B", "A"))


def test_an_order_depends_on_seed_and_key_alone() -> None:
    orders = [shuffle_order(4, seed, key) for seed in (0, 1) for key in ("a", "b")]
    assert orders == [shuffle_order(4, seed, key) for seed in (0, 1) for key in ("a", "b")]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_the_target_moves_with_its_option() -> None:
    moved = reorder_options(SAMPLE, [2, 0, 1])
    assert (moved.options, moved.target) == (("a sun", "a star", "a fish"), "C")


def test_options_in_the_question_are_rewritten() -> None:
    stated = replace(SAMPLE, question="What?\n(A) a star\n(B) a fish\n(C) a sun", options_in_question=True)
    assert reorder_options(stated, [2, 0, 1]).question == "What?\n(A) a sun\n(B) a star\n(C) a fish"


def test_options_that_the_question_states_otherwise_are_refused() -> None:
    stated = replace(SAMPLE, question="What? a star, a fish or a sun?", options_in_question=True)
    with pytest.raises(DataError, match="does not state its options"):
        reorder_options(stated, [2, 0, 1])


@pytest.mark.parametrize(
    ("question", "moved"),
    [
        ("What?\nA. a star\nB. a fish\nC. a sun", "What?\nA. a sun\nB. a star\nC. a fish"),
        ("A. a star or what? (a) a star (b) a fish (c) a sun.", "A. a star or what? (a) a sun (b) a star (c) a fish."),
        (
            "What is a sun?\n**A:** a star\n**B:** a fish\n**C:** a sun",
            "What is a sun?\n**A:** a sun\n**B:** a star\n**C:** a fish",
        ),
    ],
)
def test_options_are_rewritten_behind_any_letters(question: str, moved: str) -> None:
    stated = replace(SAMPLE, question=question, options_in_question=True)
    assert reorder_options(stated, [2, 0, 1]).question == moved


def test_an_option_is_found_before_words_that_repeat_its_end() -> None:
    stated = replace(
        SAMPLE, question="What?\n(A) red\n(B) no no no?", options=("red", "no no"), target="A", options_in_question=True
    )
    assert reorder_options(stated, [1, 0]).question == "What?\n(A) no no\n(B) red no?"


def test_the_text_of_an_option_within_another_is_left_alone() -> None:
    stated = replace(
        SAMPLE,
        question="What?\n(A) red\n(B) dark red\n(C) not B red",
        options=("red", "dark red", "not B red"),
        options_in_question=True,
    )
    assert reorder_options(stated, [1, 2, 0]).question == "What?\n(A) dark red\n(B) not B red\n(C) red"


@pytest.mark.parametrize(
    "last",
    ["None of the above", "all the above", "The above options", "以上都不是"],
)
def test_an_option_that_speaks_of_the_others_keeps_its_place(last: str) -> None:
    sample = replace(SAMPLE, options=(*OPTIONS, last), target="D")
    moved = [shuffle_options(sample, seed) for seed in range(20)]
    assert {(one.options[3], one.target) for one in moved} == {(last, "D")}
    assert len({one.options for one in moved}) == 6


@pytest.mark.parametrize("named", ["Both A and B", "(A) or (C)", "A, B and C", "option B", "A和B"])
def test_options_that_name_letters_are_not_moved(named: str) -> None:
    sample = replace(SAMPLE, options=(*OPTIONS, named), target="D")
    assert [shuffle_options(sample, seed) for seed in range(5)] == [sample] * 5


@pytest.mark.parametrize("plain", ["a cat and a dog", "above the door", "the others", "Choose AB", "3个以上"])
def test_other_options_are_moved(plain: str) -> None:
    sample = replace(SAMPLE, options=(*OPTIONS, plain), target="D")
    assert len({shuffle_options(sample, seed).options.index(plain) for seed in range(40)}) == 4


@pytest.mark.parametrize("order", [[0, 1], [0, 0, 1], [1, 2, 3]])
def test_what_is_not_an_order_is_refused(order: list[int]) -> None:
    with pytest.raises(DataError, match="not an order of the 3 options"):
        reorder_options(SAMPLE, order)


@pytest.mark.parametrize(
    ("target", "letter"),
    [
        ("B", "B"),
        ("（Ｂ）", "B"),
        ("B.", "B"),
        ("B、", "B"),
        ("[c]", "C"),
        ("Option A", "A"),
        ("The answer is C.", "C"),
        ("答案：B", "B"),
        ("A. a star", "A"),
        ("(B) a fish", "B"),
        ("B a fish", "B"),
        ("A Fish.", "B"),
        ("Option C: a sun", "C"),
        ("A. a fish", None),
        ("AB", None),
        ("D", None),
        ("a boat", None),
        ("", None),
    ],
)
def test_a_letter_is_read_in_every_usual_writing(target: str, letter: str | None) -> None:
    assert read_letter(target, OPTIONS) == letter


def test_without_options_any_letter_counts_but_no_word() -> None:
    assert [read_letter(target, ()) for target in ("E", "(e)", "E. five", "Every one")] == ["E", "E", "E", None]


def test_equal_options_are_not_told_apart_by_their_text() -> None:
    assert read_letter("Red.", ("red", "RED")) is None


@pytest.mark.parametrize(
    "options",
    [
        ("A. red", "B. blue"),
        ("(A) red", "(B) blue"),
        ("(A)red", "(B)blue"),
        ("a) red", "b) blue"),
        ("A: red", "B: blue"),
        ("A、red", "B、blue"),
        ("（Ａ） red", "（Ｂ） blue"),
        ("**A.** red", "**B.** blue"),
        ("- A. red", "- B. blue"),
        ("A - red", "B - blue"),
        ("red", "blue"),
    ],
)
def test_options_lose_their_letters(options: tuple[str, ...]) -> None:
    assert strip_letters(options) == ("red", "blue")


@pytest.mark.parametrize("options", [("A. red", "blue"), ("B. red", "A. blue"), ("A red", "B blue"), ("A. red",)])
def test_options_without_letters_in_order_stay_as_they_are(options: tuple[str, ...]) -> None:
    assert strip_letters(options) == options
