"""Read tab-separated values as pandas writes them (VLMEvalKit's data sets), leaving images in the file.

A field that starts with a quotation mark may hold tabs and line ends; quotation marks inside it are doubled. For a long
field only its offset and length are kept, so a file of any size needs little memory. The csv module would read long
fields, and its limit on their length applies to the whole process.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2r.benchmarks.files.rows import Row, RowTable
from p2r.errors import DataError

LONG_FIELD_BYTES = 2048
MOST_LINES_IN_A_ROW = 1000
RawRow = tuple[int, "list[bytes] | None"]


@dataclass(frozen=True, slots=True)
class FileRange:
    """A field that is a stretch of a file: `num_bytes` from offset `start`."""

    path: Path
    start: int
    num_bytes: int

    def read(self, limit: int | None = None) -> bytes:
        """Return the field's bytes, at most the first `limit`.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                return file.read(self.num_bytes if limit is None else min(limit, self.num_bytes))
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error


def read_tsv(path: Path, large: frozenset[str], separator: bytes = b"\t") -> RowTable:
    """Read all rows. Long fields of the columns `large` stay in the file.

    Raises:
        DataError: the file cannot be read, has no header, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            found = _split_rows(file, separator)
            header = _read_header(path, found)
            rows = [_read_row(path, k, header, start, raw, large) for k, (start, raw) in enumerate(found, start=1)]
            return RowTable(path, frozenset(header), rows)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def read_tsv_header(path: Path, separator: bytes = b"\t") -> list[str]:
    """Return the names of the columns. Raises DataError as `read_tsv` does."""
    try:
        with path.open("rb") as file:
            return _read_header(path, _split_rows(file, separator))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_header(path: Path, rows: Iterator[RawRow]) -> list[str]:
    header = _decode(next(rows, (0, None))[1] or [], path, 0)
    if not header:
        raise DataError(f"{path} is empty or has no header", hint="copy or download it again")
    header[0] = header[0].removeprefix("\ufeff")
    return header


def _read_row(
    path: Path, number: int, header: list[str], start: int, fields: list[bytes] | None, large: frozenset[str]
) -> Row:
    if fields is None:
        return Row(path, number, {}, error="a quotation mark is opened and never closed")
    if len(fields) != len(header):
        return Row(path, number, {}, error=f"{len(fields)} fields where the header has {len(header)} columns")
    values: dict[str, object] = {}
    cells: dict[str, FileRange] = {}
    for name, raw in zip(header, fields, strict=True):
        if name in large and len(raw) > LONG_FIELD_BYTES:
            cells[name] = FileRange(path, start, len(raw))
        else:
            values[name] = raw
        start += len(raw) + 1
    try:
        texts = _decode([raw for raw in values.values() if isinstance(raw, bytes)], path, number)
    except DataError as error:
        return Row(path, number, {}, error=error.message)
    return Row(path, number, dict(zip(values, texts, strict=True)), cells)


def _split_rows(file: io.BufferedReader, separator: bytes) -> Iterator[RawRow]:
    """Yield (offset, raw fields with their quotation marks) of each row; fields are None when a quote stays open."""
    offset = 0
    line_start, pending, num_lines = 0, b"", 0
    for line in file:
        pending, num_lines = pending + line, num_lines + 1
        offset += len(line)
        fields = _split_fields(pending.rstrip(b"\r\n"), separator)
        if fields is None and num_lines < MOST_LINES_IN_A_ROW:
            continue
        if pending.strip():
            yield line_start, fields
        line_start, pending, num_lines = offset, b"", 0
    if pending.strip():
        yield line_start, None


def _split_fields(line: bytes, separator: bytes) -> list[bytes] | None:
    """Split a line into raw fields; return None when a quoted field is still open at its end."""
    fields: list[bytes] = []
    for piece in line.split(separator):
        if fields and _is_open(fields[-1]):
            fields[-1] += separator + piece
        else:
            fields.append(piece)
    return None if fields and _is_open(fields[-1]) else fields


def _is_open(field: bytes) -> bool:
    return field.startswith(b'"') and field.count(b'"') % 2 == 1


def _decode(fields: list[bytes], path: Path, number: int) -> list[str]:
    texts: list[str] = []
    for raw in fields:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, row {number} is not UTF-8: {error.reason}") from error
        texts.append(text[1:-1].replace('""', '"') if len(text) >= 2 and text[0] == text[-1] == '"' else text)
    return texts
