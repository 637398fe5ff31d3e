"""Replies to choice questions, with the letter that a careful human reads, and how many of them the reader reads.

`choice_given` are replies of an outside review, `choice_reviewed` those that its text quotes. `choice_heldout_1` to
`choice_heldout_6` were labeled before the reader was run on them. `pytest -s` prints the scores.
"""

from __future__ import annotations

from typing import Any

import pytest

from p2r.answers import extract_answer
from tests.golden.rows import read_rows

SETS = (
    "choice_given",
    "choice_reviewed",
    "choice_heldout_1",
    "choice_heldout_2",
    "choice_heldout_3",
    "choice_heldout_4",
    "choice_heldout_5",
    "choice_heldout_6",
)
ROWS = {name: read_rows(f"cases/{name}") for name in SETS}


def read_letter(row: dict[str, Any]) -> str | None:
    finish = row.get("finish_reason", "stop")
    return extract_answer(row["reply"], "choice", row["options"], finish_reason=finish).letter


@pytest.mark.parametrize("row", ROWS["choice_given"], ids=lambda row: row["reply"][:40])
def test_given_reply_is_read(row: dict[str, Any]) -> None:
    assert read_letter(row) == row["letter"]


@pytest.mark.parametrize("name", SETS)
def test_no_reply_is_misread(name: str) -> None:
    assert [row["reply"] for row in ROWS[name] if read_letter(row) not in (None, row["letter"])] == []


def test_nearly_all_replies_are_read() -> None:
    for name, rows in ROWS.items():
        num_right = sum(read_letter(row) == row["letter"] for row in rows if row["letter"])
        print(f"{name}: {num_right} of {sum(bool(row['letter']) for row in rows)} read")
    answered = [row for rows in ROWS.values() for row in rows if row["letter"]]
    assert sum(read_letter(row) == row["letter"] for row in answered) >= 0.97 * len(answered)
