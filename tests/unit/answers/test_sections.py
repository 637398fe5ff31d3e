"""The sections of a reply: which headings it has, and the text under one."""

from __future__ import annotations

import pytest

from p2r.answers import extract_answer
from p2r.answers.sections import (
    DESCRIPTION,
    FINAL_ANSWER,
    FIRST_STEP,
    HEADINGS,
    RATIONALES,
    find_section,
    has_all_sections,
)
from p2r.benchmarks.solutions import unwrap_solution
from p2r.types import AnswerForm, FinishReason

REPLY = """### Image Description:
A harbor with a blue sail.
### Rationales:
The sail matters.
### Let's think step by step.
### Step 1:
It is blue.
### Step 2:
So it is A.
### The final answer is: A"""


def test_the_text_under_a_heading_ends_at_the_next_one() -> None:
    assert find_section(REPLY, DESCRIPTION) == "A harbor with a blue sail."
    assert find_section(REPLY, FIRST_STEP) == "It is blue."
    assert find_section(REPLY, FINAL_ANSWER) == "A"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("A harbor.", None),
        ("Image Description: a harbor", None),
        ("### Image Description:", ""),
        ("### Image Description: \n\n### Rationales: none", ""),
        ("###Image description:a harbor", "a harbor"),
        ("Well. ### IMAGE   DESCRIPTION: a harbor ### Rationales:", "a harbor"),
        ("#### Image Description:\na harbor", "a harbor"),
        ("### Image Description:\n one\n\ntwo # three\n#### Rationales:", "one\n\ntwo # three"),
        ("### Image Description: one ### Image Description: two", "one"),
    ],
)
def test_a_section_that_is_missing_is_not_an_empty_one(reply: str, text: str | None) -> None:
    assert find_section(reply, DESCRIPTION) == text


def test_all_four_headings_are_needed_wherever_they_stand() -> None:
    assert has_all_sections(REPLY)
    assert has_all_sections(" ".join(reversed(HEADINGS)).lower())
    for heading in HEADINGS:
        assert not has_all_sections(REPLY.replace(heading, ""))
    assert not has_all_sections(REPLY.replace(FIRST_STEP, "### Step 10:"))
    assert not has_all_sections(REPLY.replace(RATIONALES, "Rationales:"))
    assert not has_all_sections("")


MISLEADING = """### Image Description:
A harbor (option A is on the left). The answer is C at first sight, or 3.
### Let's think step by step.
### Step 1:
Answer: A. So it is not 4.
"""
OPTIONS = ("red", "blue", "green")


def read_final(text: str, form: AnswerForm, finish_reason: FinishReason = "stop") -> str | None:
    options = OPTIONS if form == "choice" else ()
    reply = f"{MISLEADING}{FINAL_ANSWER}{text}"
    answer = extract_answer(reply, form, options, finish_reason=finish_reason)
    assert answer.span is None or reply[slice(*answer.span)] == answer.text
    return answer.letter if form == "choice" else answer.text


@pytest.mark.parametrize(
    ("text", "form", "answer"),
    [
        (" B", "choice", "B"),
        ("\n(B)", "choice", "B"),
        (" **B**. blue", "choice", "B"),
        ("\n\nThe sail is blue.", "choice", "B"),
        (" b\n\nA is wrong.", "choice", "B"),
        (" none of them", "choice", None),
        (" $\\boxed{B}$", "choice", "B"),
        (" 7", "number", "7"),
        ("\n7 cm", "number", "7 cm"),
        (" 7\n\nNote that 3 boats are red.", "number", "7"),
        ("\n$$\n\\boxed{7}\n$$", "number", "7"),
        ("\n```\n7\n```", "number", "7"),
        (" 7\n### Note: 12 boats", "number", "7"),
        (f" 7\n{FINAL_ANSWER} 9", "number", "9"),
        (" a kite\nI hope this helps!", "free_form", "a kite"),
        (" no", "free_form", "no"),
        (" x = 3: y", "free_form", "x = 3: y"),
        ("", "free_form", None),
        ("", "number", None),
        (" 9 <answer>7</answer>", "number", "7"),
    ],
)
def test_the_answer_is_what_the_last_section_says(text: str, form: AnswerForm, answer: str | None) -> None:
    assert read_final(text, form) == answer


def test_a_number_that_was_cut_off_is_no_answer() -> None:
    assert read_final(" 4", "number", "length") is None
    assert read_final(" B", "choice", "length") == "B"


def test_a_heading_in_thinking_does_not_count() -> None:
    reply = f"<think>{FINAL_ANSWER} 3</think>It is 7."
    assert extract_answer(reply, "number").text == "7"


def test_a_solution_in_sections_is_its_answer() -> None:
    assert unwrap_solution(f"{MISLEADING}{FINAL_ANSWER} \\boxed{{7}}") == "7"
    assert unwrap_solution(f"{MISLEADING}{FINAL_ANSWER}\n7") == "7"
