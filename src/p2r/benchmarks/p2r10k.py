"""P2R-10k and other training data of its layout, as samples; and the raw layout of Mini-o3 (VisualProbe).

    {"prompt": [{"role": "user", "content": "<image>\\nWhat ...?\\nA. red\\nB. blue"}], "images": ["a.jpg"],
     "data_source": "...", "reward_model": {"ground_truth": "A"}, "extra_info": {"answer_form": "mca", "index": 7}}
    {"images": ["a.jpg"], "problem": "<image>\\nWhat ...?", "solution": "a kite", "doc_id": 7}

The question is the user's text without `<image>`, otherwise word for word, because it is what the published
checkpoints were trained with; options are read out of it and not appended again. If the options of a choice cannot be
read, it stays a choice of unknown options. Rows of the raw layout do not state an answer form: a row that states
options and has the letter of one as its solution is a choice, the others are free.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import cast

from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.listed_image import find_image
from p2r.benchmarks.files.rows import Cell, Row, RowTable
from p2r.benchmarks.files.table_file import read_table
from p2r.benchmarks.files.tsv_file import FileRange
from p2r.benchmarks.layout import Loaded, Source
from p2r.errors import DataError, excerpt
from p2r.types import LETTERS, AnswerForm, ImageSource, Sample

FACTS = Facts("p2r10k", letters="ABCDE")
LICENSE_NOTE = (
    "license of P2R-10k: its card says Apache-2.0, but one of its sources is CC BY-NC 4.0 (no commercial use); "
    "check the sources you train on"
)
FORMS: dict[str, AnswerForm] = {"mca": "choice", "na": "number", "free_form": "free_form"}
"""The answer forms by the names used in the data."""

COLUMNS = frozenset({"prompt", "images", "reward_model"})
RAW_COLUMNS = frozenset({"images", "problem", "solution"})
_PLACEHOLDER = "<image>"
_OPTION_LINE = re.compile(r"\s*\(?([A-Z])[).:]\s*(\S.*?)\s*")
_INLINE_OPTION = re.compile(r"\(([A-Z])\)\s*")


def load_p2r10k(source: Source) -> Loaded:
    """Load either layout. Raises DataError for another one or more bad rows than allowed."""
    table = read_table(source.path, split=source.split)
    is_raw = "problem" in table.columns
    table.require(sorted(RAW_COLUMNS if is_raw else COLUMNS))
    root = source.images or (source.path if source.path.is_dir() else source.path.parent)
    name, differences = _choose_names(table)
    read = _read_raw if is_raw else _read_row

    def make(row: Row) -> Sample:
        row.check()
        sample = read(row, find_image(row, root))
        return replace(sample, id=name(row))

    samples = source.sieve.collect(table.rows, make, lambda row: row.place)
    unread = [sample.id for sample in samples if sample.answer_form == "choice" and not sample.options]
    if unread:
        differences.append(f"{len(unread)} choices state no options that can be read: {', '.join(unread[:5])}")
    return Loaded(samples, FACTS, differences, notes=[LICENSE_NOTE])


def parse_question_options(question: str) -> tuple[str, ...]:
    """Read a question's options, on lines `A. ...`, `(A) ...` or `A) ...`, or inline as `(A) ... (B) ...`.

    Returns () unless they run A, B, C, ... and are two or more. If there are several lists, the last one counts.
    """
    found: list[str] = []
    best: list[str] = []
    for line in filter(str.strip, question.split("\n")):
        match = _OPTION_LINE.fullmatch(line)
        if match and match[1] == LETTERS[len(found) % len(LETTERS)]:
            found.append(match[2])
        else:
            found = [match[2]] if match and match[1] == "A" else []
        best = found if len(found) >= 2 else best
    if best and not any(_INLINE_OPTION.search(option) for option in best):
        return tuple(best)
    parts = _INLINE_OPTION.split(question)
    letters, texts = parts[1::2], [text.strip(" \n\t,;") for text in parts[2::2]]
    if len(letters) >= 2 and letters == list(LETTERS[: len(letters)]) and all(texts):
        return tuple(texts)
    return ()


def _read_row(row: Row, image: ImageSource) -> Sample:
    question = _read_question(row)
    target, form = _read_target(row), _read_form(row)
    options = parse_question_options(question) if form == "choice" else ()
    return _make(
        image,
        question,
        form=form,
        options=options,
        target=_letter_of(row, target, options) if form == "choice" else target,
        category=row.text("data_source") if row.has("data_source") else "",
    )


def _read_raw(row: Row, image: ImageSource) -> Sample:
    question, target = _strip_placeholder(_text_of(row, "problem")), row.text("solution")
    options = parse_question_options(question)
    letter = target.strip("(). ").upper()
    if options and len(letter) == 1 and letter in LETTERS[: len(options)]:
        return _make(image, question, form="choice", options=options, target=letter)
    return _make(image, question, form="free_form", target=target)


def _make(
    image: ImageSource,
    question: str,
    *,
    form: AnswerForm,
    target: str,
    options: tuple[str, ...] = (),
    category: str = "",
) -> Sample:
    if not question:
        raise DataError("the question is empty")
    return Sample(
        id="",
        image=image,
        question=question,
        options=options,
        answer_form=form,
        target=target,
        benchmark=FACTS.name,
        category=category,
        chance=1 / len(options) if options else None,
        options_in_question=True,
    )


def _read_question(row: Row) -> str:
    """Return the user's last text."""
    value = row.values.get("prompt")
    if not isinstance(value, list | tuple):
        raise row.fail("prompt", "missing" if value is None else f"{excerpt(value)} is not a list of messages")
    for message in reversed(cast("Sequence[object]", value)):
        match message:
            case {"role": "user", "content": str() as text}:
                return _strip_placeholder(text)
            case {"role": "user", "content": FileRange() as stretch}:
                return _strip_placeholder(_read_text(stretch))
            case _:
                continue
    raise row.fail("prompt", f"{excerpt(cast('object', value))} has no text from the user")


def _strip_placeholder(text: str) -> str:
    return text.replace(_PLACEHOLDER, "").strip()


def _text_of(row: Row, name: str) -> str:
    return _read_text(row.cells[name]) if name in row.cells else row.text(name)


def _read_text(cell: Cell) -> str:
    """Read a long text that was left in a JSON file."""
    return cast("str", json.loads(b'"' + cell.read() + b'"'))


def _read_target(row: Row) -> str:
    match row.values.get("reward_model"):
        case {"ground_truth": bool()}:
            pass
        case {"ground_truth": str() | int() | float() as target} if str(target).strip():
            return str(target).strip()
        case _:
            pass
    raise row.fail("reward_model.ground_truth", f"no answer in {excerpt(row.values.get('reward_model'))}")


def _read_form(row: Row) -> AnswerForm:
    match row.values.get("extra_info"):
        case {"answer_form": str() as name} if name not in FORMS:
            raise row.fail("extra_info.answer_form", f"{name!r} is not one of {', '.join(FORMS)}")
        case {"answer_form": str() as name}:
            return FORMS[name]
        case _:
            return "free_form"


def _letter_of(row: Row, target: str, options: Sequence[str]) -> str:
    letters = LETTERS[: len(options)] if options else LETTERS
    letter = target.strip("(). ").upper()
    if len(letter) == 1 and letter in letters:
        return letter
    if list(options).count(target) == 1:
        return LETTERS[options.index(target)]
    what = f"({', '.join(letters)})" if options else "(the question states no options that can be read)"
    raise row.fail("reward_model.ground_truth", f"{target!r} is not the letter of an option {what}")


def _choose_names(table: RowTable) -> tuple[Callable[[Row], str], list[str]]:
    """Choose how rows are named: by their index where it is unique, otherwise by their number."""
    found = list(_find_indices(table))
    if found and None not in found and len(set(found)) == len(found):
        names = dict(zip((id(row) for row in table.rows), cast("list[str]", found), strict=True))
        return lambda row: names[id(row)], []
    repeated = len(found) - found.count(None) - len(set(found) - {None})
    sentences = [f"{repeated} rows repeat an index; rows are named by their number"] if repeated else []
    return _name_by_place, sentences


def _name_by_place(row: Row) -> str:
    return f"{row.path.stem}/{row.number}"


def _find_indices(table: RowTable) -> Iterator[str | None]:
    for row in table.rows:
        match row.values.get("extra_info"), row.values.get("doc_id"):
            case ({"index": int() | str() as index}, _) | (_, int() | str() as index):
                yield str(index)
            case _:
                yield None
