"""The sections of a reply: which headings it has, and the text under one."""

from __future__ import annotations

import pytest

from p2r.answers.sections import (
    DESCRIPTION,
    FINAL_ANSWER,
    FIRST_STEP,
    HEADINGS,
    RATIONALES,
    find_section,
    has_all_sections,
)

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
