"""A row of a data file, read field by field: every error names the file, the row and the field."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, cast

from p2r.benchmarks.solutions import unwrap_solution
from p2r.choices import read_letter
from p2r.errors import DataError, excerpt
from p2r.types import LETTERS

_NOT_A_NUMBER = ("nan", "NaN", "<NA>")
"""These texts are what pandas writes for an empty cell of a column of texts."""

SAVE_AS_UTF8 = "save the file as UTF-8"

_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")


class Cell(Protocol):
    """A large value that stays in its file."""

    def read(self, limit: int | None = None) -> bytes:
        """Return its bytes, or about the first `limit`. Raises DataError when they cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    number: counted from 1 without the header; for JSON lines, the line.
    values: the small fields.
    cells: the large fields, which are not read yet.
    error, hint: why the whole row could not be read, and what to do about it.
    unit: what `number` counts: rows, or the lines of JSON lines.
    """

    path: Path
    number: int
    values: Mapping[str, object]
    cells: Mapping[str, Cell] = field(default_factory=dict[str, Cell])
    error: str = ""
    hint: str = ""
    unit: Literal["row", "line"] = "row"

    @property
    def place(self) -> str:
        return f"{self.path}, {self.unit} {self.number}"

    def fail(self, name: str, what: str, hint: str = "") -> DataError:
        """Make an error about a field, to be raised; whoever collects the rows adds the row."""
        return DataError(f"field {name!r}: {what}", hint=hint)

    def check(self) -> None:
        """Raise DataError when the row could not be read."""
        if self.error:
            raise DataError(self.error, hint=self.hint)

    def has(self, name: str) -> bool:
        """Return True if the field exists and is not empty."""
        return name in self.cells or not is_empty(self.values.get(name))

    def text(self, name: str) -> str:
        """Return a text or number as text. Raises DataError when the field is missing, empty or something else."""
        value = self.values.get(name)
        if is_empty(value):
            raise self.fail(name, "empty" if name in self.values else "missing")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.fail(name, f"{excerpt(value)} is not a text")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value).strip()

    def key(self, name: str) -> str:
        """Return a text that names something; 7.0, as pandas writes whole numbers beside empty cells, is 7."""
        text = self.text(name)
        return match[1] if (match := _WHOLE_FLOAT.fullmatch(text)) else text

    def integer(self, name: str) -> int:
        """Return a whole number. Raises DataError when the field holds anything else."""
        text = self.key(name)
        try:
            return int(text)
        except ValueError:
            raise self.fail(name, f"{text!r} is not a whole number") from None

    def letter(self, name: str, options: Sequence[str]) -> str:
        """Return the letter of the option that the field names. Raises DataError when it names none."""
        text = self.text(name)
        letter = read_letter(unwrap_solution(text), options)
        if letter is None:
            letters = ", ".join(LETTERS[: len(options)])
            raise self.fail(name, f"{excerpt(text)} is not the letter of an option ({letters})")
        return letter

    def cell(self, name: str) -> Cell:
        """Return a large field. Raises DataError when it is missing."""
        if name not in self.cells:
            raise self.fail(name, "empty" if name in self.values else "missing")
        return self.cells[name]


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows of one or more files with the same columns."""

    path: Path
    columns: frozenset[str]
    rows: Sequence[Row]

    def require(self, columns: Iterable[str]) -> None:
        """Raise DataError when a column is missing, or when there are no rows."""
        if not self.rows:
            raise DataError(f"{self.path} holds no rows", hint="is it the right split, and wholly downloaded?")
        if missing := [name for name in columns if name not in self.columns]:
            alike = [name for name in self.columns if name.strip().casefold() == missing[0].casefold()]
            raise DataError(
                f"{self.path} has no column {missing[0]!r}",
                hint=f"rename the column {alike[0]!r} to {missing[0]!r}"
                if alike
                else f"it has {', '.join(sorted(self.columns))}; docs/reference/benchmarks.md lists the layouts",
            )

    def require_one(self, columns: Sequence[str]) -> None:
        """Raise DataError when none of the columns is there."""
        if not self.columns & set(columns):
            self.require(columns[:1])


def parse_struct(value: object) -> object:
    """Return the list or object that a text states as JSON or as Python writes it; anything else as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return cast("object", json.loads(value))
    except (ValueError, RecursionError):
        pass
    try:
        found = cast("object", ast.literal_eval(value.strip()))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value
    return cast("object", found) if isinstance(found, list | dict) else value


def is_empty(value: object) -> bool:
    """Tell whether a cell holds nothing, also as pandas writes that."""
    if isinstance(value, str):
        return not value.strip() or value.strip() in _NOT_A_NUMBER
    return value is None or value != value
