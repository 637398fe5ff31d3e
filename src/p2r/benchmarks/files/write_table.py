"""Write rows to a file of the kind that its name tells; `table_file` reads them back.

In TSV and CSV a list or an object becomes JSON text. Rows are written as they come, so that memory holds few images.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from p2r.benchmarks.files.parquet_file import write_parquet
from p2r.benchmarks.files.table_file import KINDS, find_kind
from p2r.errors import DataError
from p2r.files import explain_write_errors

TableRow = Mapping[str, object]


def write_table(rows: Iterable[TableRow], path: Path) -> int:
    """Write rows with the same columns, whole or not at all; `.gz` packs them.

    Returns:
        The number of rows.

    Raises:
        DataError: the name tells no kind of file, or pyarrow is missing for a parquet file.
        StorageError: the file cannot be written.
    """
    write = WRITERS[check_kind(path)]
    draft = path.with_name(f"{path.name}.tmp")
    counter = _Counter(rows)
    try:
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _open(path, draft) as file:
                write(counter, file)
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return counter.count


def check_kind(path: Path) -> str:
    """Return the suffix of a kind of file that can be written. Raises DataError for another."""
    kind = find_kind(path)
    if not kind:
        raise DataError(
            f"{str(path)!r} tells no kind of file to write",
            hint=f"end it in {', '.join(KINDS)}, or one of them and .gz",
        )
    return kind


class _Counter:
    """Rows that are counted as they go by."""

    def __init__(self, rows: Iterable[TableRow]) -> None:
        self.rows, self.count = rows, 0

    def __iter__(self) -> Iterator[TableRow]:
        for row in self.rows:
            self.count += 1
            yield row


@contextmanager
def _open(path: Path, draft: Path) -> Generator[BinaryIO, None, None]:
    with draft.open("wb") as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            yield cast("BinaryIO", packed)


def _as_text(file: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8", newline="")


def _write_list(rows: Iterable[TableRow], file: BinaryIO) -> None:
    text = _as_text(file)
    text.write("[")
    for number, row in enumerate(rows):
        text.write((",\n" if number else "\n") + json.dumps(row, ensure_ascii=False))
    text.write("\n]\n")
    text.detach()


def _write_lines(rows: Iterable[TableRow], file: BinaryIO) -> None:
    text = _as_text(file)
    text.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text.detach()


def _write_cells(separator: str) -> Callable[[Iterable[TableRow], BinaryIO], None]:
    def write(rows: Iterable[TableRow], file: BinaryIO) -> None:
        text = _as_text(file)
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        header: list[str] = []
        for row in rows:
            if not header:
                header = list(row)
                writer.writerow(header)
            values = [row[name] for name in header]
            writer.writerow(
                json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value for value in values
            )
        text.detach()

    return write


WRITERS: Mapping[str, Callable[[Iterable[TableRow], BinaryIO], None]] = {
    ".parquet": write_parquet,
    ".tsv": _write_cells("\t"),
    ".csv": _write_cells(","),
    ".json": _write_list,
    ".jsonl": _write_lines,
}
