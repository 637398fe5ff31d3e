"""Read separated values as pandas writes them (VLMEvalKit's data sets), leaving images in the file.

The header tells the separator: a tab, a comma or a semicolon. A field in quotation marks may hold separators and line
ends; quotation marks inside it are doubled. Some writers do not quote: then a field may begin with a lone quotation
mark, and quoting is told by what follows. For a long field only its offset and length are kept, so a file of any size
needs little memory. The csv module would read long fields, and its limit on their length applies to the whole process.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2r.benchmarks.files.beginning import check_beginning
from p2r.benchmarks.files.rows import SAVE_AS_UTF8, Row, RowTable
from p2r.errors import DataError, count_nouns

LONG_FIELD_BYTES = 2048
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_QUOTED = re.compile(rb'"[^"]*(?:""[^"]*)*"')
RawRow = tuple[int, "list[bytes] | None"]
Data = mmap.mmap | bytes


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


def read_tsv(path: Path, large: frozenset[str]) -> RowTable:
    """Read all rows. Long fields of the columns `large` stay in the file.

    Raises:
        DataError: the file cannot be read, has no header, or is not UTF-8.
    """
    with _open(path) as data:
        found = _split_rows(data)
        header = _read_header(path, found)
        rows = [_read_row(path, k, header, start, raw, large) for k, (start, raw) in enumerate(found, start=1)]
        return RowTable(path, frozenset(header), rows)


def read_tsv_header(path: Path) -> list[str]:
    """Return the names of the columns. Raises DataError as `read_tsv` does."""
    with _open(path) as data:
        return _read_header(path, _split_rows(data))


@contextmanager
def _open(path: Path) -> Generator[Data]:
    try:
        check_beginning(path)
        if not path.stat().st_size:
            yield b""
            return
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_header(path: Path, rows: Iterator[RawRow]) -> list[str]:
    try:
        names = _decode(next(rows, (0, None))[1] or [])
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error.reason}", hint=SAVE_AS_UTF8) from error
    header = [name.strip() for name in names]
    if not any(header):
        raise DataError(f"{path} is empty or has no header", hint="copy or download it again")
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise DataError(f"{path} has two columns {twice[0]!r}", hint="rename or drop one of them")
    return header


def _read_row(
    path: Path, number: int, header: list[str], start: int, fields: list[bytes] | None, large: frozenset[str]
) -> Row:
    if fields is None:
        return Row(path, number, {}, error="a quotation mark is opened and never closed", hint="close it, or remove it")
    if len(fields) != len(header):
        return Row(
            path,
            number,
            {},
            error=f"{count_nouns(len(fields), 'field')} where the header has {count_nouns(len(header), 'column')}",
            hint="put a field that holds the separator in quotation marks, and leave no field out, even an empty one",
        )
    values: dict[str, object] = {}
    cells: dict[str, FileRange] = {}
    for name, raw in zip(header, fields, strict=True):
        if name in large and len(raw) > LONG_FIELD_BYTES:
            cells[name] = FileRange(path, start, len(raw))
        else:
            values[name] = raw
        start += len(raw) + 1
    try:
        texts = _decode([raw for raw in values.values() if isinstance(raw, bytes)])
    except UnicodeDecodeError as error:
        return Row(path, number, {}, error=f"not UTF-8 ({error.reason})", hint=SAVE_AS_UTF8)
    return Row(path, number, dict(zip(values, texts, strict=True)), cells)


def _split_rows(data: Data) -> Iterator[RawRow]:
    """Yield (offset, raw fields with their quotation marks) of each row; fields are None when a quote stays open."""
    at = len(_BYTE_ORDER_MARK) if data[:3] == _BYTE_ORDER_MARK else 0
    first = _LINE_END.search(data, at)
    separator = _find_separator(data[at : first.start() if first else len(data)])
    newline = b"\r" if first and first[0] == b"\r" else b"\n"
    num_columns = 0
    while at < len(data):
        fields, following = _split_row(data, at, separator, newline, num_columns)
        if fields is None or any(map(bytes.strip, fields)):
            yield at, fields
            num_columns = num_columns or len(fields or ())
        at = following


def _find_separator(header: bytes) -> bytes:
    return b"\t" if b"\t" in header else max(b",", b";", key=header.count)


def _split_row(
    data: Data, at: int, separator: bytes, newline: bytes, num_columns: int
) -> tuple[list[bytes] | None, int]:
    """Split the row that begins at an offset, and return its raw fields and the offset of the next row.

    A row is read without regard to quotation marks if it has the right number of fields only then, or if its next line
    is a whole row as well. (The first line of a long quoted field at the row's end has the right number too.)
    """
    line, following = _read_line(data, at, newline)
    plain = line.split(separator)
    if not num_columns or not any(field.startswith(b'"') for field in plain):
        return plain, following
    fields, end, is_open = _split_quoted(data, at, separator, newline)
    spans_lines = end > following
    fits = len(plain) == num_columns
    if fits and (
        len(fields) != num_columns
        or (
            spans_lines
            and separator == b"\t"
            and _read_line(data, following, newline)[0].count(b"\t") == num_columns - 1
        )
    ):
        return plain, following
    if len(fields) != num_columns and (is_open or spans_lines):
        return None, following
    return fields, end


def _read_line(data: Data, at: int, newline: bytes) -> tuple[bytes, int]:
    end = data.find(newline, at)
    end = len(data) if end < 0 else end
    return data[at:end].rstrip(b"\r"), end + 1


def _split_quoted(data: Data, at: int, separator: bytes, newline: bytes) -> tuple[list[bytes], int, bool]:
    """Split a row that may have quoted fields, and tell if one begins with a quotation mark but is not quoted."""
    ends = (separator, b"\r", b"\n", b"")
    fields: list[bytes] = []
    is_open = False
    while True:
        quoted = _QUOTED.match(data, at)
        if quoted and data[quoted.end() : quoted.end() + 1] in ends:
            end = quoted.end()
        else:
            line_end = at + len(_read_line(data, at, newline)[0])
            end = data.find(separator, at, line_end)
            end = line_end if end < 0 else end
            is_open = is_open or data[at : at + 1] == b'"'
        fields.append(data[at:end])
        at = end + 1
        if data[end : end + 1] != separator:
            return fields, _read_line(data, end, newline)[1], is_open


def _decode(fields: list[bytes]) -> list[str]:
    texts: list[str] = []
    for raw in fields:
        text = raw.decode("utf-8")
        texts.append(text[1:-1].replace('""', '"') if _QUOTED.fullmatch(raw) else text)
    return texts
