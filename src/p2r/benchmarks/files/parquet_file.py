"""Read parquet files, leaving images and masks in the file. Needs pyarrow (the extra `data`), imported when used.

A column of images is read forward, value by value. Reading rows in order takes one pass over the file; a jump back
reads the row group again from its start. Memory holds one page of the file, packed and unpacked. The writer chooses the
pages: pyarrow puts up to 1024 rows into one unless told otherwise (`row_group_size`).
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyarrow has no types.

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from p2r.benchmarks.files.beginning import check_beginning
from p2r.benchmarks.files.rows import Row, RowTable
from p2r.errors import DataError, install_hint

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS_PER_PAGE = 32
"""Rows that are written together: a reader keeps a page in memory."""

RECENT_BYTES = 64 << 20
"""Bytes of encoded images kept in memory for each file, for rows read slightly out of order."""


def read_parquet(path: Path, large: frozenset[str]) -> RowTable:
    """Read all rows; the columns `large` stay in the file, unless they are lists of texts (paths).

    Raises:
        DataError: pyarrow is missing, or the file is incomplete or not parquet.
    """
    with _open(path) as file:
        columns = list(file.schema_arrow.names)
        large = frozenset(name for name in large & set(columns) if not _is_list_of_texts(file, name))
        small = [name for name in columns if name not in large]
        try:
            read = cast("list[dict[str, object]]", file.read(columns=small).to_pylist())
            values: list[dict[str, object]] = read if small else [{} for _ in range(file.metadata.num_rows)]
        except (OSError, ValueError) as error:
            raise _broken(path, error) from error
    readers = {name: ColumnReader(path, name) for name in columns if name in large}
    rows = [
        Row(path, k + 1, row, {name: ParquetCell(reader, k) for name, reader in readers.items()})
        for k, row in enumerate(values)
    ]
    return RowTable(path, frozenset(columns), rows)


def read_parquet_columns(path: Path) -> frozenset[str]:
    """Return the names of the columns. Raises DataError as `read_parquet` does."""
    with _open(path) as file:
        return frozenset(file.schema_arrow.names)


@dataclass(frozen=True, slots=True)
class ParquetCell:
    """One large value of a parquet file: an image's bytes, their base64 text, or a mask."""

    reader: ColumnReader
    index: int

    def read_value(self) -> object:
        """Return the value: a struct as a dictionary, a list as a list. Raises DataError if the file is incomplete."""
        return self.reader.read(self.index).as_py()

    def read(self, limit: int | None = None) -> bytes:
        """Return the value's bytes, at most the first `limit`.

        Raises:
            DataError: the file is incomplete, or the value holds no bytes.
        """
        value = self.read_value()
        if isinstance(value, Mapping):  # the `datasets` library's Image: {"bytes": ..., "path": ...}
            value = cast("Mapping[str, object]", value).get("bytes")
        if isinstance(value, str):
            value = value.encode()
        if not isinstance(value, bytes) or not value:
            raise DataError("holds no bytes", hint="the image itself has to be in the file, not only its path")
        return value if limit is None else value[:limit]

    def read_mask(self) -> NDArray[np.bool_]:
        """Return a list of rows of truth values as an array (H, W). Raises DataError when rows differ in length."""
        rows = self.reader.read(self.index)
        try:
            height = len(rows.values)
            return np.asarray(rows.values.flatten().to_numpy(zero_copy_only=False), dtype=bool).reshape(height, -1)
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"is not a mask of rows of equal length: {error}") from error


class ColumnReader:
    """Values of one column by row number, read forward. Safe to share between threads; pickled as its path."""

    def __init__(self, path: Path, column: str) -> None:
        self.path, self.column = path, column
        self._lock = threading.Lock()
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._group, self._next = -1, 0
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._file: pq.ParquetFile | None = None
        self._recent: list[tuple[int, pa.RecordBatch]] = []

    def __reduce__(self) -> tuple[type[ColumnReader], tuple[Path, str]]:
        return ColumnReader, (self.path, self.column)

    def read(self, index: int) -> pa.Scalar:
        """Return the value of row `index`, counted from 0. Raises DataError when the file is incomplete."""
        with self._lock:
            for start, batch in self._recent:
                if start <= index < start + batch.num_rows:
                    return batch.column(0)[index - start]
            try:
                return self._advance_to(index)
            except (OSError, ValueError) as error:
                raise _broken(self.path, error) from error

    def _advance_to(self, index: int) -> pa.Scalar:
        if self._file is None:
            self._file = _open(self.path)
            metadata = self._file.metadata
            counts = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
            self._ends = list(accumulate(counts))
            self._starts = [0, *self._ends[:-1]]
        group = max(k for k, start in enumerate(self._starts) if start <= index)
        if group != self._group or index < self._next:
            self._group, self._next = group, self._starts[group]
            self._batches = self._file.iter_batches(
                batch_size=1, row_groups=[group], columns=[self.column], use_threads=False
            )
        for batch in self._batches:
            start, self._next = self._next, self._next + batch.num_rows
            self._remember(start, batch)
            if self._next == self._ends[group]:  # releases the page
                self._group, self._batches = -1, iter(())
            if index < self._next:
                return batch.column(0)[index - start]
        raise ValueError(f"row {index + 1} is not there")

    def _remember(self, start: int, batch: pa.RecordBatch) -> None:
        self._recent.append((start, batch))
        while len(self._recent) > 1 and sum(batch.nbytes for _, batch in self._recent) > RECENT_BYTES:
            self._recent.pop(0)


def join_tables(path: Path, tables: Sequence[RowTable]) -> RowTable:
    """Join the parts of one split into one table."""
    if len(tables) == 1:
        return tables[0]
    columns = frozenset.intersection(*(table.columns for table in tables))
    return RowTable(path, columns, [row for table in tables for row in table.rows])


def write_parquet(rows: Iterable[Mapping[str, object]], place: Path | BinaryIO) -> None:
    """Write rows with the same columns, in pages that can be read one by one; few of them are in memory at a time.

    Raises:
        DataError: there is no pyarrow.
    """
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)
    pq = _import_parquet(place if isinstance(place, Path) else Path("the output"))
    import pyarrow as pa

    found = iter(rows)
    table = pa.Table.from_pylist(list(islice(found, ROWS_PER_PAGE)))
    with pq.ParquetWriter(place, table.schema) as writer:
        writer.write_table(table)
        while batch := list(islice(found, ROWS_PER_PAGE)):
            writer.write_table(pa.Table.from_pylist(batch, schema=table.schema))


def _import_parquet(path: Path) -> ModuleType:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(f"{path} is a parquet file, and pyarrow is not installed", hint=install_hint("data")) from error
    return pq


def _open(path: Path) -> pq.ParquetFile:
    pq = _import_parquet(path)
    try:
        check_beginning(path)
        return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False, memory_map=False)
    except (OSError, ValueError) as error:
        raise _broken(path, error) from error


def _is_list_of_texts(file: pq.ParquetFile, name: str) -> bool:
    kind = file.schema_arrow.field(name).type
    return str(kind).startswith(("list<", "large_list<")) and str(kind.value_type) in ("string", "large_string")


def _broken(path: Path, error: Exception) -> DataError:
    reason = str(error).split("\n")[0].rstrip(".")
    return DataError(
        f"{path} is cut off or not a parquet file: {reason}",
        hint="compare its size with the original; download it again",
    )
