"""Answers to open questions: which words of a reply are the answer."""

from __future__ import annotations

import time

import pytest

from p2r.answers import extract_answer
from p2r.answers.wrapping import trim


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("The answer is red. Wait, the answer is blue.", "blue"),
        ("The answer is red. So the final answer is blue.", "blue"),
        ("The answer is red. A tempting answer is blue.", "red"),
        ("The answer is red. The answer is definitely not blue.", "red"),
        ("Is the answer red? The answer is blue.", "blue"),
        ("Is the answer red? It stands by the door. The answer is blue. It shines.", "blue"),
        ("The answer is red. Wait, the answer is blue. It stands by the door.", "blue"),
        ("Step 1. The answer is red.\n\nAnswer: blue", "blue"),
    ],
)
def test_a_later_statement_counts_after_a_word_of_correction_or_at_the_end(reply: str, text: str) -> None:
    assert extract_answer(reply, "free_form").text == text
    assert extract_answer(f"<answer>{reply}</answer>", "free_form").text == text


def test_two_statements_that_differ_are_no_answer() -> None:
    for form in ("number", "free_form"):
        reply = "The answer is 8. The answer is 9. There were many boats and it was hard to see them all in the dark."
        assert extract_answer(reply, form).text is None


def test_statements_that_say_the_same_are_one_answer() -> None:
    reply = "The answer is 8. The answer is eight boats. There were many of them and all lay in the harbor."
    assert extract_answer(reply, "number").text == "8"


@pytest.mark.parametrize(
    ("reply", "rule", "text"),
    [
        ('{"answer": "7 boats", "why": "I counted"}', "reply/json", "7 boats"),
        ('<answer>```json\n{"answer": 7}\n```</answer>', "tag/json", "7"),
        ("## Answer\n\n7", "reply/phrase", "7"),
        ("\\boxed{\\text{7 boats}}", "reply/boxed", "7 boats"),
        ("The answer is 7 because 3 + 4 = 7.", "reply/phrase", "7"),
        ("I see a harbor. There are 7 boats in it.", "reply/short", "7"),
    ],
)
def test_rule_says_how_the_number_was_found(reply: str, rule: str, text: str) -> None:
    answer = extract_answer(reply, "number")
    assert (answer.rule, answer.text) == (rule, text)
    assert answer.span is not None
    assert reply[slice(*answer.span)] == text


def test_a_number_among_many_words_is_not_looked_for() -> None:
    assert extract_answer("word " * 41 + "7", "number").text is None
    assert extract_answer("word " * 39 + "7", "number").text == "7"


def test_only_the_end_of_a_free_reply_that_says_something_is_its_answer() -> None:
    start = "I looked at the harbor and saw many boats of all kinds. "
    assert extract_answer(f"{start}It is red.", "free_form").text == "It is red."
    assert extract_answer(f"{start}Some of them moved.", "free_form").text is None
    assert extract_answer(f"{start}It is not red.", "free_form").text is None


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        (' "STOP" ', "STOP"),
        ('The word is "STOP"', 'The word is "STOP"'),
        ('"A" and "B"', '"A" and "B"'),
        ("5'10\"", "5'10\""),
        ("**`red`**", "red"),
        ("$\\text{red}$", "red"),
        ("\\(\\boxed{\\text{red}}\\)", "red"),
        ("「红」", "红"),
        ("“red”", "red"),
        ("", ""),
        ("***", ""),
    ],
)
def test_wrapping_goes_in_pairs(text: str, inner: str) -> None:
    start, end = trim(text, 0, len(text))
    assert text[start:end] == inner


@pytest.mark.parametrize(
    "unit", ["answer is ", "answer is a. ", "answer: no. ", "a'", "Dr. ", "# answer\n", "\\boxed{", "\\text{",
             '{"answer": "', "```\n"],
)  # fmt: skip
def test_a_long_hostile_reply_is_read_at_once(unit: str) -> None:
    for form in ("number", "free_form"):
        started = time.process_time()
        extract_answer(unit * (20_000 // len(unit)), form)
        assert time.process_time() - started < 0.5


@pytest.mark.parametrize("reply", ["Two pairs, i.e. 4 shoes.", "Two rows, that is, 8 chairs"])
def test_a_count_that_is_stated_in_two_units_is_no_answer(reply: str) -> None:
    assert extract_answer(reply, "number").text is None
