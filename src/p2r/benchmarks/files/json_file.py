"""Read JSON lines or a JSON list of objects, leaving long texts (base64 images) in the file.

The file is read once, in pieces. For a long string only its offset and length are kept, so a list of gigabytes needs
little memory. Everything else is parsed by the standard parser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, cast

from p2r.benchmarks.files.beginning import check_beginning
from p2r.benchmarks.files.rows import SAVE_AS_UTF8, Row, RowTable
from p2r.benchmarks.files.tsv_file import FileRange
from p2r.errors import DataError, excerpt

LONG_STRING_BYTES = 4096
KEYS = ("data", "rows", "samples", "examples", "questions", "items", "instances", "records", "train", "test")
"""The keys under which a file may hold its list of rows."""

_PIECE_BYTES = 1 << 20
_TOKEN = re.compile(rb'["{}]')
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BETWEEN = b" \t\r\n,[]"
_STRING_END = re.compile(rb'["\\]')
_MARK = "\u0000cell "
_OBJECT = 'each row is an object, such as {"image": "a.jpg", "question": "..."}'
_LOOK = "look for a missing or spare comma, quotation mark, or bracket there; was the file wholly written?"
Unit = Literal["row", "line"]


def read_json(path: Path) -> RowTable:
    """Read all objects of the list, also when it lies under a key such as "data", or of the lines.

    Raises:
        DataError: the file cannot be read, or is neither a list of objects nor JSON lines.
    """
    try:
        check_beginning(path)
        rows = _open_key([_parse(path, *found) for found in _find_rows(path)])
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    columns = {name for row in rows for name in (*row.values, *row.cells)}
    return RowTable(path, frozenset(columns), rows)


def read_first_fields(path: Path) -> frozenset[str]:
    """Return the first object's field names, or none for an empty file. Raises DataError as `read_json` does."""
    try:
        check_beginning(path)
        row = next(iter(_open_key([_parse(path, *found) for found in islice(_find_rows(path), 1)])), None)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return frozenset((*row.values, *row.cells)) if row else frozenset()


def _open_key(rows: list[Row]) -> list[Row]:
    """Return the rows of a list that lies under a key of the file's only object; else the rows as they are."""
    keys = [name for name in KEYS if len(rows) == 1 and isinstance(rows[0].values.get(name), list)]
    items = cast("list[object]", rows[0].values[keys[0]]) if len(keys) == 1 else []
    if not items or not all(isinstance(item, dict) for item in items):
        return rows
    return [
        _make_row(rows[0].path, number, cast("dict[str, object]", item)) for number, item in enumerate(items, start=1)
    ]


def _parse(path: Path, number: int, unit: Unit, text: bytes, ranges: list[tuple[int, int]]) -> Row:
    try:
        found: object = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Row(path, number, {}, error=f"not UTF-8 ({error.reason})", hint=SAVE_AS_UTF8, unit=unit)
    except (ValueError, RecursionError) as error:
        return Row(path, number, {}, error=f"not a JSON object: {error}", hint=_LOOK, unit=unit)
    if not isinstance(found, dict):
        return Row(path, number, {}, error=f"not a JSON object: {excerpt(found)}", hint=_OBJECT, unit=unit)
    return _make_row(path, number, cast("dict[str, object]", _place(cast("object", found), path, ranges)), unit)


def _make_row(path: Path, number: int, found: dict[str, object], unit: Unit = "row") -> Row:
    values: dict[str, object] = {}
    cells: dict[str, FileRange] = {}
    for name, value in found.items():
        if isinstance(value, FileRange):
            cells[name] = value
        else:
            values[name] = value
    return Row(path, number, values, cells, unit=unit)


def _place(value: object, path: Path, ranges: list[tuple[int, int]]) -> object:
    """Replace each mark, also inside lists and objects, by the stretch of the file that it stands for."""
    match value:
        case str() if value.startswith(_MARK):
            return FileRange(path, *ranges[int(value.removeprefix(_MARK))])
        case list():
            return [_place(item, path, ranges) for item in cast("list[object]", value)]
        case dict():
            return {name: _place(item, path, ranges) for name, item in cast("dict[str, object]", value).items()}
        case _:
            return value


def _find_rows(path: Path) -> Iterator[tuple[int, Unit, bytes, list[tuple[int, int]]]]:
    """Yield the number and the text of each row with long strings replaced by marks, and their (offset, bytes)."""
    with path.open("rb") as file:
        is_lines = _has_lines(file.read(_PIECE_BYTES), path.suffix.lower() in (".jsonl", ".ndjson"))
    if is_lines:
        for number, text, ranges in _find_lines(path):
            yield number, "line", text, ranges
    else:
        for number, (text, ranges) in enumerate(_find_objects(path), start=1):
            yield number, "row", text, ranges


def _has_lines(head: bytes, is_named_so: bool) -> bool:
    """Tell from a file's beginning whether each line is an object, and not an object or a list spread over lines."""
    line, newline, rest = head.removeprefix(_BYTE_ORDER_MARK).lstrip().partition(b"\n")
    line, rest = line.rstrip(), rest.lstrip()
    if not line.startswith(b"{"):
        return False
    if not newline or not rest:
        return is_named_so
    if rest.startswith(b"{"):
        return not line.endswith((b"[", b":", b"{")) and (is_named_so or not line.endswith(b","))
    return is_named_so and line.endswith(b"}")


def _find_lines(path: Path) -> Iterator[tuple[int, bytes, list[tuple[int, int]]]]:
    """Yield each line that is not empty, as `_find_rows` does. A line is in memory while it is read."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            start = len(_BYTE_ORDER_MARK) if number == 1 and line.startswith(_BYTE_ORDER_MARK) else 0
            text, ranges, at = bytearray(), list[tuple[int, int]](), start
            for match in _STRING.finditer(line, start):
                if (length := match.end() - match.start() - 2) > LONG_STRING_BYTES:
                    text += line[at : match.start()] + json.dumps(f"{_MARK}{len(ranges)}").encode()
                    ranges.append((offset + match.start() + 1, length))
                    at = match.end()
            text += line[at:]
            offset += len(line)
            if whole := bytes(text).strip().removesuffix(b","):
                yield number, whole, ranges


def _find_objects(path: Path) -> Iterator[tuple[bytes, list[tuple[int, int]]]]:
    """Yield the text of each outermost object, and of what else lies between them, as `_find_rows` does."""
    text, ranges, depth = bytearray(), list[tuple[int, int]](), 0
    string_start = -1  # offset of the first byte inside the current string, -1 outside strings
    string_at, escaped = 0, False
    with path.open("rb") as file:
        first = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        if first and first[:1] not in b"[{":
            start = first.decode("utf-8", "replace").partition("\n")[0].strip()
            raise DataError(f"{path} is not a JSON list of objects: it starts with {excerpt(start)}", hint=_OBJECT)
        file.seek(0)
        if file.read(3) != _BYTE_ORDER_MARK:
            file.seek(0)
        offset = file.tell()
        while piece := file.read(_PIECE_BYTES):
            at = 0
            while at < len(piece):
                if string_start >= 0:
                    match = None if escaped else _STRING_END.search(piece, at)
                    end = at + 1 if escaped else match.end() if match else len(piece)
                    escaped = bool(match and match[0] == b"\\")
                    if depth and len(text) - string_at <= LONG_STRING_BYTES:
                        text += piece[at:end]
                    if match and match[0] == b'"':
                        length = offset + end - 1 - string_start
                        if depth and length > LONG_STRING_BYTES:
                            text[string_at:] = json.dumps(f"{_MARK}{len(ranges)}")[1:].encode()
                            ranges.append((string_start, length))
                        string_start = -1
                    at = end
                    continue
                match = _TOKEN.search(piece, at)
                end = match.end() if match else len(piece)
                if depth:
                    text += piece[at:end]
                elif other := piece[at : match.start() if match else end].strip(_BETWEEN):
                    yield other, []
                if match and match[0] == b"{":
                    depth += 1
                    text = text if depth > 1 else bytearray(b"{")
                if match and match[0] == b'"':
                    if not depth:
                        yield b'"..."', []
                    string_start, string_at, escaped = offset + end, len(text), False
                elif match and match[0] == b"}":
                    depth -= 1
                    if depth == 0:
                        yield bytes(text), ranges
                        text, ranges = bytearray(), []
                    elif depth < 0:
                        raise DataError(f"{path} is not JSON: an unmatched }} near byte {offset + at}")
                at = end
            offset += len(piece)
    if depth or string_start >= 0:
        yield bytes(text[:200]), []
