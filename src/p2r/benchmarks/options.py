"""Read options as data sets write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast

from p2r.benchmarks.files.rows import Row, is_empty, parse_struct
from p2r.benchmarks.row_layouts.stated_options import find_lettered
from p2r.choices import split_letter, strip_letters
from p2r.errors import count_nouns, excerpt
from p2r.types import LETTERS, Sample

OPTION_COLUMNS = ("options", "choices", "candidates", "multi-choice options")


def parse_lettered(texts: Sequence[object], field: str, row: Row) -> tuple[str, ...]:
    """Strip the letters from texts like "(A) red". Raises DataError unless the letters run A, B, C, ..."""
    options: list[str] = []
    for letter, text in zip(LETTERS, texts, strict=False):
        split = split_letter(text) if isinstance(text, str) else None
        if split is None or split[0] != letter:
            raise row.fail(field, f"{excerpt(text)} is where option ({letter}) should be")
        options.append(split[1])
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


def read_option_columns(row: Row) -> tuple[str, ...]:
    """Read a row's options, without letters, from a column that lists them or from the columns A, B, ...; () without.

    Raises:
        DataError: the column holds something else.
    """
    name = next((name for name in OPTION_COLUMNS if row.has(name)), None)
    if name is None:
        return read_letter_columns(row) if sum(map(row.has, LETTERS[:10])) > 1 else ()
    value = parse_struct(row.values.get(name))
    if isinstance(value, str):
        value = split_options(value)
    if isinstance(value, Mapping):
        value = _list_by_letter(cast("Mapping[str, object]", value), name, row)
    if not isinstance(value, list | tuple):
        raise row.fail(name, f"{excerpt(value)} is not a list of options")
    listed = cast("Sequence[object]", value)
    for letter, option in zip(LETTERS, listed, strict=False):
        if option is None or isinstance(option, bool) or not isinstance(option, str | int | float):
            raise row.fail(name, f"option {letter} is {excerpt(option)}, which is not a text")
    options = strip_letters([str(option).strip() for option in listed])
    if options:
        check_options(options, name, row)
    return options


def split_options(text: str) -> tuple[str, ...]:
    """Split options that are one text: at line ends, else at their letters, else at "|", else at commas."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if len(lines) > 1:
        return tuple(lines)
    text = text.strip()
    if (found := find_lettered(text)) and not text[: found.marks[0].start].strip():
        return found.texts
    if "|" in text:
        return tuple(part.strip() for part in text.split("|"))
    comma = r",(?!\d{3}(?!\d))" if re.search(r",\s", text) else ","  # "1,000, 2,000"
    return tuple(part.strip() for part in re.split(comma, text)) if text else ()


def _list_by_letter(texts: Mapping[str, object], name: str, row: Row) -> list[object]:
    """Return the options of {"A": ..., "B": ...}. What is empty behind the last counts as missing."""
    filled = {letter: text for letter, text in texts.items() if not is_empty(text)}
    letters = LETTERS[: len(filled)]
    if set(filled) != set(letters):
        raise row.fail(name, f"its letters should be A, B, C, ..., not {', '.join(filled)}")
    return [filled[letter] for letter in letters]


def check_options(options: Sequence[str], field: str, row: Row) -> None:
    """Raise DataError for fewer than two options or an empty one. A repeated option is a difference, not an error."""
    if len(options) < 2:
        raise row.fail(field, f"{count_nouns(len(options), 'option')}; a choice needs two or more")
    if "" in options:
        raise row.fail(field, f"option {LETTERS[options.index('')]} is empty")


def find_doubles(samples: Sequence[Sample]) -> list[str]:
    """Return a sentence if any questions state the same option twice."""
    ids = [sample.id for sample in samples if len(set(sample.options)) < len(sample.options)]
    state = count_nouns(len(ids), "question states", "questions state")
    return [f"{state} the same option twice: {', '.join(ids[:5])}"] if ids else []


def split_question(text: str, row: Row, field: str = "text") -> tuple[str, tuple[str, ...]]:
    """Split a question with lines "(A) ..." into (question, options). Raises DataError without such lines.

    Lines after the last option, such as "Answer with a letter.", do not count.
    """
    lines = text.split("\n")
    first = next((k for k, line in enumerate(lines) if line.startswith("(A)")), None)
    if first is None:
        raise row.fail(field, "no line begins with (A)")
    last = max(k for k, line in enumerate(lines) if k == first or (k > first and split_letter(line)))
    listed = [line for line in lines[first : last + 1] if line.strip()]
    return "\n".join(lines[:first]).strip(), parse_lettered(listed, field, row)


def join_question(question: str, options: Sequence[str], *, heading: str = "") -> str:
    """Append the options to the question as lines "(A) ...", under a heading such as "Options:" if one is given."""
    lines = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, *([heading] if heading else []), *lines])
