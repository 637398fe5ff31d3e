"""Find the file of a folder that holds the rows of a split, and read it by its kind."""

from __future__ import annotations

import re
from pathlib import Path

from p2r.benchmarks.files.json_file import read_first_fields, read_json
from p2r.benchmarks.files.parquet_file import join_tables, read_parquet, read_parquet_columns
from p2r.benchmarks.files.rows import RowTable
from p2r.benchmarks.files.tsv_file import read_tsv, read_tsv_header
from p2r.errors import DataError

SUFFIXES = (".parquet", ".tsv", ".json", ".jsonl")
LARGE_COLUMNS = frozenset({"image", "images", "bytes", "mask"})
_PART = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]+)?$")


def read_table(path: Path, *, split: str | None = None, containing: str = "") -> RowTable:
    """Read the rows of a file, or of the only file of a folder that fits (in one part or several).

    Args:
        split: the start of the files' names in a folder; None if there is only one split.
        containing: text that the files' names in a folder must contain; capital letters do not count.

    Raises:
        DataError: no file fits, several do, or one cannot be read.
    """
    return join_tables(path, [_read_file(part) for part in find_parts(path, split=split, containing=containing)])


def read_columns(path: Path) -> frozenset[str]:
    """Read the columns of one file from its beginning (JSON: the fields of its first object). Raises DataError."""
    if path.suffix == ".parquet":
        return read_parquet_columns(path)
    if path.suffix == ".tsv":
        return frozenset(read_tsv_header(path))
    return read_first_fields(path) if path.suffix in (".json", ".jsonl") else frozenset()


def find_parts(path: Path, *, split: str | None = None, containing: str = "") -> list[Path]:
    """Return the files that `read_table` reads, in order. Raises DataError as it does."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise DataError(f"there is no file or folder {path}", hint="check the path and the working directory")
    files = [file for folder in (path, path / "data") if folder.is_dir() for file in sorted(folder.iterdir())]
    files = [file for file in files if file.suffix in SUFFIXES and containing in file.name.lower()]
    groups: dict[str, list[Path]] = {}
    for file in files:
        stem = _PART.sub("", file.stem)
        if split is None or stem == split or stem.startswith(split):
            groups.setdefault(f"{stem}{file.suffix}", []).append(file)
    if not groups:
        wanted = f" of the split {split!r}" if split else ""
        raise DataError(
            f"the folder {path} holds no data file{wanted}",
            hint=f"looked for {', '.join(SUFFIXES)}; there is {', '.join(file.name for file in files) or 'none'}",
        )
    if len(groups) > 1:
        raise DataError(
            f"the folder {path} holds several data files: {', '.join(groups)}",
            hint="name one of them, or give a `split`",
        )
    return next(iter(groups.values()))


def _read_file(path: Path) -> RowTable:
    if path.suffix == ".parquet":
        return read_parquet(path, LARGE_COLUMNS)
    if path.suffix == ".tsv":
        return read_tsv(path, LARGE_COLUMNS)
    if path.suffix in (".json", ".jsonl"):
        return read_json(path)
    raise DataError(f"{path} is not a known kind of data file", hint=f"known: {', '.join(SUFFIXES)}")
