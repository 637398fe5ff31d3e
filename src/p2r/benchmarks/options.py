"""Options as data sets write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from p2r.benchmarks.files.rows import Row, shorten
from p2r.types import LETTERS, Sample

_LETTERED = re.compile(r"^\s*\(?([A-Z])[).:]\s*(.*?)\s*$", re.DOTALL)


def parse_lettered(texts: Sequence[object], field: str, row: Row) -> tuple[str, ...]:
    """Options without their letters, from texts like "(A) red". Raises DataError unless they run A, B, C, ..."""
    options: list[str] = []
    for letter, text in zip(LETTERS, texts, strict=False):
        match = _LETTERED.match(text) if isinstance(text, str) else None
        if match is None or match[1] != letter:
            raise row.fail(field, f"{shorten(text)} stands where option ({letter}) should")
        options.append(match[2])
    check_options(options, field, row)
    return tuple(options)


def read_letter_columns(row: Row) -> tuple[str, ...]:
    """Options from the columns A, B, C, ..., up to the first empty one. Raises DataError."""
    present = [letter for letter in LETTERS[:10] if row.has(letter)]
    options = [row.text(letter) for letter in present]
    if present != list(LETTERS[: len(present)]):
        missing = next(letter for letter in LETTERS if letter not in present)
        raise row.fail(missing, f"empty, though there is an option {present[-1]}")
    check_options(options, "A", row)
    return tuple(options)


def check_options(options: Sequence[str], field: str, row: Row) -> None:
    """Raises DataError for fewer than two, or an empty one. The same one twice is a difference, not an error."""
    if len(options) < 2:
        raise row.fail(field, f"{len(options)} options; a choice needs two or more")
    if "" in options:
        raise row.fail(field, f"option {LETTERS[options.index('')]} is empty")


def find_doubles(samples: Sequence[Sample]) -> list[str]:
    """A sentence when questions state the same option twice."""
    ids = [sample.id for sample in samples if len(set(sample.options)) < len(sample.options)]
    return [f"{len(ids)} questions state the same option twice: {', '.join(ids[:5])}"] if ids else []


def split_question(text: str, row: Row, field: str = "text") -> tuple[str, tuple[str, ...]]:
    """A text of a question and lines "(A) ...", as (question, options). Raises DataError."""
    lines = text.split("\n")
    first = next((k for k, line in enumerate(lines) if line.startswith("(A)")), None)
    if first is None:
        raise row.fail(field, "no line begins with (A)")
    return "\n".join(lines[:first]).strip(), parse_lettered([line for line in lines[first:] if line], field, row)


def join_question(question: str, options: Sequence[str], *, heading: str = "") -> str:
    """The question with lines "(A) ...", under a heading like "Options:" if there is one."""
    lines = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, *([heading] if heading else []), *lines])
