"""Find the file of a folder that holds the rows of a split, and read it by its kind, also when it is packed (`.gz`).

A packed file is unpacked into a temporary folder, which is removed when the process ends: images stay in the file until
they are used, and cannot be looked up in a packed one.
"""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from p2r.benchmarks.files.json_file import read_first_fields, read_json
from p2r.benchmarks.files.parquet_file import join_tables, read_parquet, read_parquet_columns
from p2r.benchmarks.files.rows import RowTable
from p2r.benchmarks.files.tsv_file import read_tsv, read_tsv_header
from p2r.errors import DataError

LARGE_COLUMNS = frozenset({"image", "images", "bytes", "mask"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of data file: how its rows, and its columns alone, are read."""

    read: Callable[[Path], RowTable]
    read_columns: Callable[[Path], Iterable[str]]


KINDS: Mapping[str, Kind] = {
    ".parquet": Kind(partial(read_parquet, large=LARGE_COLUMNS), read_parquet_columns),
    ".tsv": Kind(partial(read_tsv, large=LARGE_COLUMNS), read_tsv_header),
    ".csv": Kind(partial(read_tsv, large=LARGE_COLUMNS), read_tsv_header),
    ".json": Kind(read_json, read_first_fields),
    ".jsonl": Kind(read_json, read_first_fields),
}
"""The kinds by their suffix; each may be packed, with another `.gz`."""

_OTHER_PACKERS = frozenset({".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z"})
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
    return frozenset(_kind_of(path).read_columns(_unpack(path)))


def find_kind(path: Path) -> str:
    """Return the suffix that tells what a data file holds, such as ".tsv" for a.TSV and a.tsv.gz; "" for others."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    suffix = ".jsonl" if suffix == ".ndjson" else suffix
    return suffix if suffix in KINDS else ""


def find_parts(path: Path, *, split: str | None = None, containing: str = "") -> list[Path]:
    """Return the files that `read_table` reads, in order. Raises DataError as it does."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise DataError(f"there is no file or folder {path}", hint="check the path and the working directory")
    files = [file for folder in (path, path / "data") if folder.is_dir() for file in sorted(folder.iterdir())]
    files = [file for file in files if find_kind(file) and containing in file.name.lower()]
    groups: dict[str, list[Path]] = {}
    for file in files:
        stem = _PART.sub("", find_stem(file))
        if split is None or stem == split or stem.startswith(split):
            groups.setdefault(f"{stem}{file.suffix}", []).append(file)
    if not groups:
        wanted = f" of the split {split!r}" if split else ""
        raise DataError(
            f"the folder {path} holds no data file{wanted}",
            hint=f"looked for {', '.join(KINDS)}; there is {', '.join(file.name for file in files) or 'none'}",
        )
    if len(groups) > 1:
        raise DataError(
            f"the folder {path} holds several data files: {', '.join(groups)}",
            hint="name one of them, or give a `split`",
        )
    return next(iter(groups.values()))


def _kind_of(path: Path) -> Kind:
    kind = KINDS.get(find_kind(path))
    if kind is None:
        is_packed = path.suffix.lower() in _OTHER_PACKERS
        raise DataError(
            f"{path} is not a known kind of data file",
            hint="unpack it first" if is_packed else f"known: {', '.join(KINDS)}, each also packed as .gz",
        )
    return kind


def find_stem(file: Path) -> str:
    """Return a file's name without its suffix, and without `.gz`."""
    return Path(file.stem).stem if file.suffix.lower() == ".gz" else file.stem


def _read_file(path: Path) -> RowTable:
    unpacked = _unpack(path)
    table = _kind_of(path).read(unpacked)
    if unpacked == path:
        return table
    return replace(table, path=path, rows=[replace(row, path=path) for row in table.rows])


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="p2r-")


def _unpack(path: Path) -> Path:
    """Return the file itself, or where its contents are when it is packed."""
    if path.suffix.lower() != ".gz":
        return path
    try:
        status = path.stat()
        place = Path(_temporary_folder().name) / f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"
        unpacked = place / path.stem
        if not unpacked.exists():
            place.mkdir(exist_ok=True)
            with gzip.open(path, "rb") as packed, (place / "part").open("wb") as file:
                shutil.copyfileobj(packed, file)
            (place / "part").rename(unpacked)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked: {error}", hint="copy or download it again") from error
    return unpacked
