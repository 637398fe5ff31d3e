"""Whole numbers that pandas wrote as floats: a column of integers with an empty cell becomes 1.0, 2.0, ...

It is certain where all numbers of a column end in .0 and a cell is empty. The columns A, B, C, ... belong together: if
another one has decimals, without an empty cell or with other digits behind the point, they all stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from p2r.benchmarks.files.rows import RowTable, is_empty
from p2r.types import LETTERS

_DECIMAL = re.compile(r"-?\d+\.\d+")
_WHOLE = re.compile(r"-?\d+\.0")


def undo_floats(table: RowTable) -> RowTable:
    """Return a table with whole numbers in the columns that pandas turned to floats."""
    turned = {name for name in table.columns if _is_turned(table, name)}
    if any(name in LETTERS and name not in turned and _has_decimals(table, name) for name in table.columns):
        turned -= set(LETTERS)
    if not turned:
        return table
    return replace(table, rows=[replace(row, values=_make_whole(row.values, turned)) for row in table.rows])


def _is_turned(table: RowTable, name: str) -> bool:
    has_empty = has_number = False
    for row in table.rows:
        value = row.values.get(name)
        if is_empty(value):
            has_empty = has_empty or (not row.error and name not in row.cells)
        elif not _is_whole(value):
            return False
        else:
            has_number = True
    return has_empty and has_number


def _has_decimals(table: RowTable, name: str) -> bool:
    values = [row.values.get(name) for row in table.rows]
    return any((isinstance(value, float) and value == value) or _is_text(value, _DECIMAL) for value in values)


def _is_whole(value: object) -> bool:
    return (isinstance(value, float) and value.is_integer()) or _is_text(value, _WHOLE)


def _is_text(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value.strip()) is not None


def _make_whole(values: Mapping[str, object], turned: set[str]) -> dict[str, object]:
    whole = dict(values)
    for name in turned & values.keys():
        value = values[name]
        if isinstance(value, str):
            whole[name] = value.strip().removesuffix(".0")
        elif isinstance(value, float) and value == value:
            whole[name] = int(value)
    return whole
