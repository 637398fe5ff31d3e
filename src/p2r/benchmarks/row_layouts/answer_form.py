"""The form of a row's answer, inferred the same way for every layout that does not state it.

A question that states options, with an answer that names one of them, is a choice. Otherwise an answer that is one
number, with a known unit or none, or a LaTeX formula is a number, and every other answer is free. Numbers that may be
names (`007`, `12A`) and what only looks like a number (`5-6`, dates, times) are free answers, compared by their words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from p2r.answers import extract_answer
from p2r.answers.numbers import find_number, read_number
from p2r.benchmarks.row_layouts.stated_options import find_lettered, find_numbered, write_letters
from p2r.choices import fold_width, read_letter, split_letter
from p2r.types import LETTERS, AnswerForm


class Reading(NamedTuple):
    """A question and its answer, understood.

    names_none: the question states options, but the answer names none of them.
    numbered: the options had numbers; the question now has letters in their place.
    """

    question: str
    options: tuple[str, ...]
    form: AnswerForm
    target: str
    names_none: bool = False
    numbered: bool = False


def infer_form(question: str, target: str, options: Sequence[str] = ()) -> Reading:
    """Infer the form of an answer from a question and its right answer.

    Args:
        target: without wrapping.
        options: texts without letters, where the row has them apart from the question.
    """
    if not options and (numbered := find_numbered(question)) and not find_lettered(question):
        letter = _read_number_of(target, len(numbered.texts)) or name_option(target, numbered.texts)
        if letter:
            return Reading(write_letters(question, numbered), numbered.texts, "choice", letter, numbered=True)
    stated = tuple(options) or read_options(question)
    if stated and (letter := name_option(target, stated)):
        return Reading(question, stated, "choice", letter)
    form: AnswerForm = "number" if is_plain_number(target, question) else "free_form"
    return Reading(question, (), form, target, names_none=bool(stated))


def read_options(question: str) -> tuple[str, ...]:
    """Return the lettered options that a question states, or ()."""
    found = find_lettered(question)
    return found.texts if found else ()


def name_option(target: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that a right answer names, in short or as a sentence; None for no option."""
    if letter := read_letter(target, options):
        return letter
    headed = split_letter(target)
    if not options or (headed and read_letter(headed[1], options)):  # "A. blue", though blue is B
        return None
    return extract_answer(f"<answer>{target}</answer>", "choice", options).letter


def is_plain_number(target: str, question: str = "") -> bool:
    """Tell whether a right answer is one number, with a known unit or none, or a LaTeX formula.

    A number with the thing that is counted ("3 cars") is one where the question asks how many there are.
    """
    text = target.strip().strip("$").strip()
    found = find_number(text)
    if read_number(text) is None or found is None or _CODE.search(text):
        return False
    return (found.start, found.end) == (0, len(text)) or _HOW_MANY.search(question) is not None


_CODE = re.compile(r"^[-+]?0\d|^#|\d[A-Z]{1,2}$")
_HOW_MANY = re.compile(r"\bhow many\b|\bnumber of\b|\bcount\b|多少|几", re.IGNORECASE)
_NUMBER_OF_OPTION = re.compile(
    r"\W*(?:option\s*|choice\s*)?(?:(\d{1,2})|([①-⑳]))(?:\s*[.):、].*|\W*)", re.IGNORECASE | re.DOTALL
)


def _read_number_of(target: str, num_options: int) -> str | None:
    match = _NUMBER_OF_OPTION.fullmatch(fold_width(target))
    if match is None:
        return None
    index = int(match[1]) - 1 if match[1] else ord(match[2]) - ord("①")
    return LETTERS[index] if 0 <= index < num_options else None
