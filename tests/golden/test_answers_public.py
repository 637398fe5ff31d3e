"""The scorers agree with the public code to the letter, and the robust one reads what a careful human reads."""

from __future__ import annotations

from typing import Any

import pytest

from p2r.answers import extract_answer, read_mme_official, read_release
from tests.golden.rows import read_rows

AUTHORS = read_rows("answers_authors")
MME_OFFICIAL = read_rows("answers_mme_official")
VLMEVALKIT = read_rows("answers_vlmevalkit")
LETTERS = {"letter_vstar": "ABCD", "letter_hrbench": "ABCD", "letter_mme_realworld": "ABCDEF"}


@pytest.mark.parametrize("mode", ["default", "thinking_or_p2r"])
@pytest.mark.parametrize("row", AUTHORS, ids=lambda row: row["id"])
def test_release_agrees(row: dict[str, Any], mode: str) -> None:
    expected = row["expected"][mode]
    for name, letters in LETTERS.items():
        answer = read_release(row["response"], tagged=mode != "default", letters=letters)
        assert (answer.text, answer.letter) == (expected["processed_answer"], expected[name])


@pytest.mark.parametrize("row", MME_OFFICIAL, ids=lambda row: row["id"])
def test_mme_official_agrees(row: dict[str, Any]) -> None:
    letter = read_mme_official(row["response"], list(row["options"].values())).letter
    assert (letter or "") == row["expected"]["letter"]


def read_letter(row: dict[str, Any]) -> str | None:
    return extract_answer(row["response"], "choice", list(row["options"].values())).letter


def test_robust_reads_97_percent_of_the_intended_letters() -> None:
    answered = [row for row in AUTHORS if row["intended"]]
    num_right = sum(read_letter(row) == row["intended"] for row in answered)
    assert num_right >= 0.97 * len(answered)


def test_robust_misreads_at_most_one_percent() -> None:
    num_wrong = sum(read_letter(row) not in (None, row["intended"]) for row in AUTHORS)
    assert num_wrong <= 0.01 * len(AUTHORS)


@pytest.mark.parametrize("key", ["can_infer", "exact_matching_opt", "mme_realworld_letter"])
def test_robust_reads_better_than_vlmevalkit(key: str) -> None:
    num_ours = sum(read_letter(row) == row["intended"] for row in VLMEVALKIT)
    num_theirs = sum((row["expected"][key] or None) == row["intended"] for row in VLMEVALKIT)
    assert num_ours > num_theirs
