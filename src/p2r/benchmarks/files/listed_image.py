"""The one image in a row's list: a path or bytes, in the forms that training data uses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from PIL import Image

from p2r.benchmarks.files.cell_image import CellImage, PathImage, ShortCell
from p2r.benchmarks.files.parquet_file import ParquetCell
from p2r.benchmarks.files.rows import Row, parse_struct
from p2r.benchmarks.files.tsv_file import FileRange
from p2r.errors import DataError, ImageError, excerpt
from p2r.images.load import read_size
from p2r.types import ImageSource


@dataclass(frozen=True, slots=True)
class ListedImage:
    """The one image in a list of a parquet file: its bytes, or a path relative to `root`."""

    uri: str
    cell: ParquetCell
    root: Path

    def load(self) -> Image.Image:
        """Decode the image. Raises ImageError."""
        return self._find().load()

    def read_size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright, from the header. Raises ImageError."""
        return read_size(self._find())

    def _find(self) -> ImageSource:
        try:
            return make_image(_take_one(self.cell.read_value()), self.uri, self.root)
        except DataError as error:
            raise ImageError(f"{self.uri}: {error.message}", hint=error.hint) from error


@dataclass(frozen=True, slots=True)
class BytesCell:
    """An image's bytes, already in memory."""

    data: bytes

    def read(self, limit: int | None = None) -> bytes:
        return self.data[:limit]


def find_image(row: Row, root: Path, name: str = "images") -> ImageSource:
    """Return the image in a field of a row. Raises DataError when there is none, or more than one."""
    uri = f"{row.path}#{row.number}/{name}"
    cell = row.cells.get(name)
    if isinstance(cell, ParquetCell):
        return ListedImage(uri, cell, root)
    if cell is not None:
        return CellImage(uri, cell)
    try:
        return make_image(_take_one(row.values.get(name)), uri, root)
    except DataError as error:
        raise row.fail(name, error.message, error.hint) from error


def _take_one(value: object) -> object:
    value = parse_struct(value)
    items = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [value]
    if value is None or not items:
        raise DataError("no image")
    if len(items) > 1:
        raise DataError(f"{len(items)} images", hint="a question is about one image")
    return items[0]


def make_image(value: object, uri: str, root: Path) -> ImageSource:
    """Make an image of one value: a path, a `file://` or `data:` URL, base64, or an object that holds one of them.

    Raises:
        DataError: the value is something else.
    """
    match value:
        case str() if value.strip():
            return _read_text(value.strip(), uri, root)
        case FileRange():
            return CellImage(uri, value)
        case {"bytes": bytes() as data} if data:
            return CellImage(uri, BytesCell(data))
        case {"bytes": str() as text} if text:
            return CellImage(uri, ShortCell(text))
        case {"bytes": FileRange() as stretch}:
            return CellImage(uri, stretch)
        case {"path": str() as path} | {"image": str() as path} if path.strip():
            return PathImage(root / path)
        case _:
            raise DataError(
                f"{excerpt(value)} is neither a path nor bytes", hint='write "a.jpg", {"path": ...} or {"bytes": ...}'
            )


_BASE64 = re.compile(r"[A-Za-z0-9+/=_\-\s]{100,}")


def _read_text(text: str, uri: str, root: Path) -> ImageSource:
    if text.startswith("data:") or _BASE64.fullmatch(text):
        return CellImage(uri, ShortCell(text))
    if text.startswith(("http://", "https://")):
        raise DataError(f"{excerpt(text)} is on the web", hint="download the images and write their paths instead")
    if text.startswith("file:"):
        return PathImage(Path(unquote(urlsplit(text).path)))
    if "\\" in text and not (root / text).exists():
        text = text.replace("\\", "/")
    return PathImage(root / text)
