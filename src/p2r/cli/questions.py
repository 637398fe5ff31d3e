"""Read a file of questions: JSON lines, a JSON list, CSV or TSV. Every row is checked before anything is asked."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from pydantic import AliasChoices, Field, ValidationError, field_validator

from p2r.api import make_sample
from p2r.benchmarks.files.rows import is_empty
from p2r.errors import DataError, P2RWarning, count_nouns, excerpt, explain_fault
from p2r.images.find import find_image
from p2r.types import LETTERS, AnswerForm, Frozen, Sample

TABLES = (".csv", ".tsv")
SUFFIXES = (".jsonl", ".ndjson", ".json", *TABLES)
EXAMPLE = 'a line reads like {"image": "a.jpg", "question": "..."}'
TABLE_EXAMPLE = "the first line names the columns, as in image,question,options,target; each line below is a question"
UNUSED = ("boxes", "box_frame", "category", "cluster")
"""The keys of such a row that only `p2r eval` uses."""
_MOST_CELL_CHARS = 100_000_000
"""Most characters of a cell: an image may be written out in one."""


class AskedRow(Frozen):
    """A row of a questions file.

    image: a path, relative to the file, or a URL.
    options: a list; a text such as "a,b,c", "a|b|c" or lines; or texts by letter. Letters in the texts are stripped.
    target: the right answer, if known; for a choice the letter or the text of an option. Also called answer.
    id: the number of the line or row by default.
    """

    image: str
    question: str
    options: tuple[str, ...] = ()
    id: str | int | None = None
    target: str | int | float | None = Field(default=None, validation_alias=AliasChoices("target", "answer"))
    answer_form: AnswerForm | None = None

    @field_validator("options", mode="before")
    @classmethod
    def _list_options(cls, value: object) -> object:
        if isinstance(value, str):
            return split_options(value)
        if isinstance(value, Mapping):
            texts = cast("Mapping[str, object]", value)
            if list(texts) != list(LETTERS[: len(texts)]):
                raise ValueError(f"its letters should be A, B, C, ..., not {', '.join(texts)}")
            return tuple(texts.values())
        return value


def split_options(text: str) -> tuple[str, ...]:
    """Split options that are written as one text: at line ends, else at "|", else at commas; or a JSON list."""
    if text.lstrip().startswith("["):
        try:
            listed: object = json.loads(text)
        except ValueError:
            pass
        else:
            return tuple(map(str, cast("list[object]", listed)))
    mark = next((mark for mark in ("\n", "|") if mark in text.strip()), ",")
    return tuple(part.strip() for part in text.strip().split(mark)) if text.strip() else ()


def is_question_file(name: str) -> bool:
    """Tell from its name whether a file holds questions."""
    return name.lower().endswith(SUFFIXES)


def read_questions(path: Path, max_image_pixels: int) -> list[Sample]:
    """Make a sample of each row.

    Raises:
        DataError: there is no such file, it has no rows, a row cannot be read, or an id comes twice.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", hint="check the path and the working directory") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}", hint="name one file of questions"
        ) from error
    return parse_questions(data, str(path), path.parent, max_image_pixels)


def parse_questions(data: bytes, name: str, folder: Path, max_image_pixels: int) -> list[Sample]:
    """Make a sample of each row in the contents of a file.

    Args:
        name: the file's name, whose suffix says how to read it; anything but .csv and .tsv is JSON.
        folder: paths of images are relative to it.

    Raises:
        DataError: as `read_questions`.
    """
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not text in UTF-8: {error.reason}", hint="save it again as UTF-8") from error
    samples: dict[str, Sample] = {}
    unused: dict[str, None] = {}
    for place, number, fields in _read_rows(text, name):
        if isinstance(fields, dict):
            row = cast("dict[str, object]", fields)
            unused |= dict.fromkeys(key for key in UNUSED if key in row)
            fields = {key: value for key, value in row.items() if key not in UNUSED}
        sample = _make_sample(fields, number, f"{place} {number} of {name}", folder, max_image_pixels)
        if sample.id in samples:
            raise DataError(f"{place} {number} of {name}: the id {sample.id!r} was used before", hint="ids must differ")
        samples[sample.id] = sample
    if not samples:
        raise DataError(f"{name} holds no questions", hint=TABLE_EXAMPLE if _is_table(name) else EXAMPLE)
    if unused:
        warnings.warn(f"{name}: {', '.join(unused)} are not used here; p2r eval uses them", P2RWarning, stacklevel=2)
    return list(samples.values())


def _read_rows(text: str, name: str) -> Iterator[tuple[str, int, object]]:
    """Yield (the word for its place, its number, its fields) of every row."""
    if _is_table(name):
        yield from (("row", number, fields) for number, fields in enumerate(_read_table(text, name), start=1))
        return
    try:
        whole: object = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, list):
        yield from (("row", number, fields) for number, fields in enumerate(cast("list[object]", whole), start=1))
        return
    if isinstance(whole, dict) and len(text.strip().split("\n")) > 1:
        yield "row", 1, cast("object", whole)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield "line", number, json.loads(line)
            except ValueError as error:
                raise DataError(f"line {number} of {name}: it is not JSON: {error}", hint=EXAMPLE) from error


def _read_table(text: str, name: str) -> Iterator[dict[str, str]]:
    """Yield the filled cells of every row by the names in the first row."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    head = text.split("\n", 1)[0]
    delimiter = "\t" if name.lower().endswith(".tsv") else max(",;\t", key=head.count)
    before = csv.field_size_limit(_MOST_CELL_CHARS)
    try:
        lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True) if any(line)]
    except csv.Error as error:
        raise DataError(f"{name} cannot be read as a table: {error}", hint="is a quotation mark left open?") from error
    finally:
        csv.field_size_limit(before)
    if not lines:
        return
    names = [_read_name(cell) for cell in lines[0]]
    if missing := [key for key in ("image", "question") if key not in names]:
        raise DataError(
            f"the first line of {name} names no column {' and no column '.join(missing)}: "
            f"its columns are {excerpt(', '.join(names))}",
            hint=TABLE_EXAMPLE,
        )
    for number, line in enumerate(lines[1:], start=1):
        if len(line) > len(names):
            raise DataError(
                f"row {number} of {name} has {count_nouns(len(line), 'cell')} under {count_nouns(len(names), 'name')}",
                hint="put cells that hold the delimiter into quotation marks",
            )
        yield {key: cell for key, cell in zip(names, line, strict=False) if not is_empty(cell)}


def _read_name(cell: str) -> str:
    name = cell.strip()
    return name.lower() if len(name) > 1 else name


def _make_sample(fields: object, number: int, place: str, folder: Path, max_image_pixels: int) -> Sample:
    if isinstance(fields, dict):
        fields = _collect_letters(cast("dict[str, object]", fields))
    try:
        row = AskedRow.model_validate(fields)
    except ValidationError as error:
        names = ", ".join(AskedRow.model_fields)
        raise DataError(
            f"{place}: {explain_fault(error.errors()[0])}",
            hint=f"a row has the keys {names}; image and question are needed",
        ) from error
    try:
        return make_sample(
            find_image(row.image, folder=folder, max_image_pixels=max_image_pixels),
            row.question,
            options=row.options,
            answer_form=row.answer_form,
            target=None if row.target is None else str(row.target),
            id=str(number if row.id is None else row.id),
        )
    except DataError as error:
        word = "column" if _is_table(place) else "key"
        hint = _ARGUMENT.sub(
            lambda found: f"the {word} {found[1]}" + (f" to {found[2]}" if found[2] else ""), error.hint
        )
        raise DataError(f"{place}: {error.message}", hint=hint) from error


_ARGUMENT = re.compile(r'`(answer_form|options|target)(?:="(\w+)")?`')
"""An argument in a hint: here it is a column or key of the row, and no flag."""


def _is_table(name: str) -> bool:
    return name.lower().endswith(TABLES)


def _collect_letters(fields: dict[str, object]) -> dict[str, object]:
    """Turn the keys A, B, C, ... into options, as many as there are in order."""
    if "options" in fields or "A" not in fields:
        return fields
    letters = [letter for letter in LETTERS if letter in fields]
    texts = {letter: str(fields[letter]) for letter in letters}
    return {**{key: value for key, value in fields.items() if key not in letters}, "options": texts}
