"""Find the file of a folder that holds the rows of a split, and read it by its kind, also when it is packed (`.gz`).

A packed file is unpacked, and one in UTF-16 (a spreadsheet's "Unicode text") is written in UTF-8, into a temporary
folder, which is removed when the process ends: images stay in the file until they are used.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from p2r.benchmarks.files.json_file import read_first_fields, read_json
from p2r.benchmarks.files.parquet_file import join_tables, read_parquet, read_parquet_columns
from p2r.benchmarks.files.rows import RowTable
from p2r.benchmarks.files.tsv_file import read_tsv, read_tsv_header
from p2r.benchmarks.files.whole_floats import undo_floats
from p2r.errors import DataError, reason_of

LARGE_COLUMNS = frozenset({"image", "images", "crop_image", "crop_images", "bytes", "mask"})


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

_FLOAT_KINDS = (".parquet", ".tsv", ".csv")
"""The kinds in which pandas writes whole numbers as floats."""

_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OTHER_PACKERS = frozenset({".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z"})
_PART = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]+)?$")


def read_table(path: Path, *, split: str | None = None, containing: str = "", shown: Path | None = None) -> RowTable:
    """Read the rows of a file, or of the only file of a folder that fits (in one part or several).

    Args:
        split: the start of the files' names in a folder; None if there is only one split.
        containing: text that the files' names in a folder must contain; capital letters do not count.
        shown: the name of a file in messages, if not its own.

    Raises:
        DataError: no file fits, several do, or one cannot be read.
    """
    return join_tables(path, [_read_file(part, shown) for part in find_parts(path, split=split, containing=containing)])


def read_columns(path: Path) -> frozenset[str]:
    """Read the columns of one file from its beginning (JSON: the fields of its first object). Raises DataError."""
    ready = _make_ready(path)
    with named(ready, path):
        return frozenset(_kind_of(path).read_columns(ready))


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


def _read_file(path: Path, shown: Path | None) -> RowTable:
    ready = _make_ready(path)
    with named(ready, shown or path):
        table = _kind_of(path).read(ready)
    if find_kind(path) in _FLOAT_KINDS:
        table = undo_floats(table)
    if ready == path and shown is None:
        return table
    return replace(table, path=shown or path, rows=[replace(row, path=shown or path) for row in table.rows])


@contextmanager
def named(ready: Path, shown: Path) -> Generator[None, None, None]:
    """Name a file in errors as its user does, and not by the temporary place of its contents."""
    try:
        yield
    except DataError as error:
        if ready == shown:
            raise
        raise DataError(error.message.replace(str(ready), str(shown)), hint=error.hint) from error


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="p2r-")


def hold(data: bytes, name: str) -> Path:
    """Write data that came without a file to one, for as long as the process lives. Raises DataError."""
    place = Path(_temporary_folder().name) / hashlib.sha256(data).hexdigest()[:16] / name
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    return place


def _make_ready(path: Path) -> Path:
    """Return the file itself, or where its contents are in UTF-8 when it is packed or in UTF-16."""
    packed = path.suffix.lower() == ".gz"
    try:
        status = path.stat()
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            is_wide = file.read(2) in _WIDE_MARKS and find_kind(path) != ".parquet"
        if not packed and not is_wide:
            return path
        place = Path(_temporary_folder().name) / f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"
        ready = place / (path.stem if packed else path.name)
        if not ready.exists():
            place.mkdir(exist_ok=True)
            with gzip.open(path, "rb") if packed else path.open("rb") as file, (place / "part").open("wb") as part:
                if is_wide:
                    part.write(file.read().decode("utf-16").encode())
                else:
                    shutil.copyfileobj(file, part)
            (place / "part").rename(ready)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-16: {error.reason}", hint="save it as UTF-8") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        what = "unpacked" if packed else "read"
        hint = "copy or download it again" if packed else "name one file, and check its permissions"
        raise DataError(f"{path} cannot be {what}: {reason_of(error)}", hint=hint) from error
    return ready
