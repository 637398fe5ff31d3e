"""Read options as data sets write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from p2r.benchmarks.files.rows import Row
from p2r.errors import excerpt
from p2r.types import LETTERS, Sample

_LETTERED = re.compile(r"^\s*\(?([A-Z])[).:]\s*(.*?)\s*$", re.DOTALL)


def parse_lettered(texts: Sequence[object], field: str, row: Row) -> tuple[str, ...]:
    """Strip the letters from texts like "(A) red". Raises DataError unless the letters run A, B, C, ..."""
    options: list[str] = []
    for letter, text in zip(LETTERS, texts, strict=False):
        match = _LETTERED.match(text) if isinstance(text, str) else None
        if match is None or match[1] != letter:
            raise row.fail(field, f"{excerpt(text)} is where option ({letter}) should be")
        options.append(match[2])
    check_options(options, field, row)
    return tuple(options)


def read_letter_columns(row: Row) -> tuple[str, ...]:
    """Read the options in the columns A, B, C, ... Raises DataError for a gap or fewer than two options."""
    present = [letter for letter in LETTERS[:10] if row.has(letter)]
    options = [row.text(letter) for letter in present]
    if present != list(LETTERS[: len(present)]):
        missing = next(letter for letter in LETTERS if letter not in present)
        raise row.fail(missing, f"empty, though there is an option {present[-1]}")
    check_options(options, "A", row)
    return tuple(options)


def check_options(options: Sequence[str], field: str, row: Row) -> None:
    """Raise DataError for fewer than two options or an empty one. A repeated option is a difference, not an error."""
    if len(options) < 2:
        raise row.fail(field, f"{len(options)} options; a choice needs two or more")
    if "" in options:
        raise row.fail(field, f"option {LETTERS[options.index('')]} is empty")


def find_doubles(samples: Sequence[Sample]) -> list[str]:
    """Return a sentence if any questions state the same option twice."""
    ids = [sample.id for sample in samples if len(set(sample.options)) < len(sample.options)]
    return [f"{len(ids)} questions state the same option twice: {', '.join(ids[:5])}"] if ids else []


def split_question(text: str, row: Row, field: str = "text") -> tuple[str, tuple[str, ...]]:
    """Split a question with lines "(A) ..." into (question, options). Raises DataError without such lines."""
    lines = text.split("\n")
    first = next((k for k, line in enumerate(lines) if line.startswith("(A)")), None)
    if first is None:
        raise row.fail(field, "no line begins with (A)")
    return "\n".join(lines[:first]).strip(), parse_lettered([line for line in lines[first:] if line], field, row)


def join_question(question: str, options: Sequence[str], *, heading: str = "") -> str:
    """Append the options to the question as lines "(A) ...", under a heading such as "Options:" if one is given."""
    lines = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, *([heading] if heading else []), *lines])
