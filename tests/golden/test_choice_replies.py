"""Replies to choice questions, with the letter that a careful human reads, and how many of them the reader reads.

`choice_given` are replies of an outside review, `choice_reviewed` those that its text quotes. `choice_heldout_1` to
`choice_heldout_8` were labeled before the reader was run on them, `choice_kinds` while it was mended. A row that the
reader is known not to read, or to guess, has in `read` what it reads, and the reason. `pytest -s` prints the scores.
"""

from __future__ import annotations

from typing import Any

import pytest

from p2r.answers import extract_answer
from tests.golden.rows import read_rows

SETS = ("choice_given", "choice_reviewed", "choice_kinds", *(f"choice_heldout_{number}" for number in range(1, 9)))
ROWS = {name: read_rows(f"cases/{name}") for name in SETS}
ALL = [row for rows in ROWS.values() for row in rows]


def read_letter(row: dict[str, Any]) -> str | None:
    finish = row.get("finish_reason", "stop")
    return extract_answer(row["reply"], "choice", row["options"], finish_reason=finish).letter


def is_known_to_differ(row: dict[str, Any]) -> bool:
    return "read" in row


@pytest.mark.parametrize("name", SETS)
def test_each_reply_is_read_as_by_a_human(name: str) -> None:
    differing = [
        f"{read_letter(row)}, not {row['letter']}: {row['reply']!r} of {row['options']}"
        for row in ROWS[name]
        if not is_known_to_differ(row) and read_letter(row) != row["letter"]
    ]
    assert differing == []


@pytest.mark.parametrize("row", list(filter(is_known_to_differ, ALL)), ids=lambda row: row["reply"][:40])
def test_reply_that_is_known_to_be_read_differently_has_a_reason(row: dict[str, Any]) -> None:
    assert None in (row["letter"], row["read"]) and row["reason"], "a wrong reading is never known and left"
    assert read_letter(row) == row["read"] != row["letter"], "it is read rightly now: remove `read` and `reason`"


def test_nearly_all_replies_are_read() -> None:
    for name, rows in ROWS.items():
        num_right = sum(read_letter(row) == row["letter"] for row in rows if row["letter"])
        print(f"{name}: {num_right} of {sum(bool(row['letter']) for row in rows)} read")
    answered = [row for row in ALL if row["letter"]]
    unanswered = [row for row in ALL if not row["letter"]]
    assert sum(read_letter(row) == row["letter"] for row in answered) >= 0.97 * len(answered)
    assert sum(read_letter(row) not in (None, row["letter"]) for row in answered) <= 0.005 * len(answered)
    assert sum(read_letter(row) is not None for row in unanswered) <= 0.04 * len(unanswered)


def test_reply_that_was_cut_off_is_not_misread_where_nothing_says_so() -> None:
    cut = [{**row, "finish_reason": "stop"} for row in ALL if row.get("finish_reason") == "length"]
    misread = [row["reply"] for row in cut if read_letter(row) not in (None, row["letter"])]
    assert misread == ["I see a flag with a blue"]  # nothing shows that a noun is missing
