"""A row of a data file, read field by field: every complaint names the file, the row and the field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from p2r.errors import DataError
from p2r.types import LETTERS


class Cell(Protocol):
    """A large value that is still in its file."""

    def read(self, limit: int | None = None) -> bytes:
        """Its bytes, or about the first `limit` of them. Raises DataError when the file does not give them."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    number: from 1, without counting a header; of JSON lines the line.
    values: the small fields.
    cells: the large fields, not read yet.
    error: why the row could not be read at all.
    """

    path: Path
    number: int
    values: Mapping[str, object]
    cells: Mapping[str, Cell] = field(default_factory=dict[str, Cell])
    error: str = ""

    @property
    def place(self) -> str:
        return f"{self.path}, row {self.number}"

    def fail(self, name: str, what: str, hint: str = "") -> DataError:
        """What is wrong with a field, to be raised; who collects rows says which row it is."""
        return DataError(f"field {name!r}: {what}", hint=hint)

    def check(self) -> None:
        """Raises DataError when the row could not be read."""
        if self.error:
            raise DataError(self.error)

    def has(self, name: str) -> bool:
        """Whether the field is there and not empty."""
        return name in self.cells or not _is_empty(self.values.get(name))

    def text(self, name: str) -> str:
        """A field that has to hold a text or a number. Raises DataError."""
        value = self.values.get(name)
        if _is_empty(value):
            raise self.fail(name, "empty" if name in self.values else "missing")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.fail(name, f"{shorten(value)} is not a text")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value).strip()

    def integer(self, name: str) -> int:
        """A field that has to hold a whole number. Raises DataError."""
        text = self.text(name)
        try:
            return int(text)
        except ValueError:
            raise self.fail(name, f"{text!r} is not a whole number") from None

    def letter(self, name: str, options: Sequence[str]) -> str:
        """A field that has to hold the letter of an option. Raises DataError."""
        text = self.text(name).upper().strip("().")
        letters = LETTERS[: len(options)]
        if len(text) != 1 or text not in letters:
            raise self.fail(name, f"{self.text(name)!r} is not the letter of an option ({', '.join(letters)})")
        return text

    def cell(self, name: str) -> Cell:
        """A large field. Raises DataError when it is not there."""
        if name not in self.cells:
            raise self.fail(name, "empty" if name in self.values else "missing")
        return self.cells[name]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one or several files of the same columns."""

    path: Path
    columns: frozenset[str]
    rows: Sequence[Row]

    def require(self, columns: Iterable[str]) -> None:
        """Raises DataError when a column is missing, or when there is no row."""
        if not self.rows:
            raise DataError(f"{self.path} holds no rows", hint="is it the right split, and wholly downloaded?")
        if missing := [name for name in columns if name not in self.columns]:
            raise DataError(
                f"{self.path} has no column {missing[0]!r}",
                hint=f"it has {', '.join(sorted(self.columns))}; docs/reference/benchmarks.md lists the layouts",
            )


def shorten(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _is_empty(value: object) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())
