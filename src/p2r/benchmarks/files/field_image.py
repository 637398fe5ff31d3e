"""The one image in a field of a row, in all the forms in which data sets state it.

A text names or holds it as `images.find` says: a path, a URL, base64. Beside that there are bytes, a structure with one
of these, and a list of one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from PIL import Image

from p2r.benchmarks.files.cell_image import CellImage, HeldCell
from p2r.benchmarks.files.parquet_file import ParquetCell
from p2r.benchmarks.files.rows import Row, parse_struct
from p2r.benchmarks.files.tsv_file import FileRange
from p2r.errors import DataError, ImageError, count_nouns, excerpt
from p2r.images import find
from p2r.images.find import LONGEST_PATH
from p2r.images.load import MAX_IMAGE_PIXELS, read_size
from p2r.types import ImageSource

IMAGE_COLUMNS = ("image", "image_path")
"""The columns in which VLMEvalKit's tables hold an image; the first that is not empty counts."""

MISSING_HINT = "paths of images start from the folder of the file, or from `images=FOLDER`"

_SYNONYMS = ("image", "images")
_KEYS = ("path", "image", "image_path", "image_url", "url", "file_name")
"""The names under which structures hold an image, beside `bytes`."""


@dataclass(frozen=True, slots=True)
class ParquetImage:
    """An image in a parquet file: its bytes or base64, or a path relative to `root`. It is read when it is used."""

    uri: str
    cell: ParquetCell
    root: Path
    max_image_pixels: int = MAX_IMAGE_PIXELS

    def load(self) -> Image.Image:
        """Decode the image. Raises ImageError."""
        return find.limit_pixels(self.find(), self.max_image_pixels).load()

    def read_size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright, from the header. Raises ImageError."""
        return read_size(self.find())

    def find(self) -> ImageSource:
        """Return the image that the cell states. Raises ImageError."""
        try:
            return make_image(self.cell.read_value(), self.uri, self.root)
        except DataError as error:
            raise ImageError(f"{self.uri}: {error.message}", hint=error.hint) from error


def find_image(row: Row, root: Path, *names: str) -> ImageSource:
    """Return the image in the first of the fields `names` that is not empty.

    Args:
        root: the folder that paths start from.

    Raises:
        DataError: the fields are missing or empty, or hold several images or no image at all.
    """
    name = next((name for name in names if row.has(name)), names[0])
    if not row.has(name):
        raise row.fail(name, "empty" if name in row.values else "missing")
    _check_alone(row, names)
    value = row.cells[name] if name in row.cells else row.values[name]
    try:
        return make_image(value, f"{row.path}#{row.number}/{name}", root)
    except DataError as error:
        raise row.fail(name, error.message, error.hint) from error


def _check_alone(row: Row, names: Sequence[str]) -> None:
    """Raise DataError where `image` and `images` state different images. A path may stand beside an image's data."""
    stated = [
        _simplify(row.values[name]) for name in _SYNONYMS if name in names and row.has(name) and name in row.values
    ]
    first, *others = [value for value in stated if value not in ([], {})] or [None]
    if any(value != first for value in others):
        raise row.fail("images", "there is also 'image', which states another image", "a question is about one image")


def _simplify(value: object) -> object:
    """Return what a list of one holds, and anything else as it is."""
    found = parse_struct(value)
    if not isinstance(found, list):
        return found
    items = cast("list[object]", found)
    return items[0] if len(items) == 1 else items


def make_image(value: object, uri: str, root: Path) -> ImageSource:
    """Return the image that a value states.

    Args:
        uri: the image's name, where it is in the value itself.
        root: the folder that paths start from.

    Raises:
        DataError: no image, or several.
    """
    match value:
        case ParquetCell():
            return ParquetImage(uri, value, root)
        case FileRange():
            beginning = value.read(LONGEST_PATH).decode("latin-1").lstrip("[\"' ")
            if find.is_url(beginning) and not beginning.startswith(find.DATA):
                return _make_from_text(_read_text(value), uri, root)
            return CellImage(uri, value)
        case bytes() if value:
            return CellImage(uri, HeldCell(value))
        case str() if value.strip():
            return _make_from_text(value.strip(), uri, root)
        case list() | tuple():
            return make_image(_take_one(cast("Sequence[object]", value)), uri, root)
        case dict():
            return _make_from_structure(cast("Mapping[str, object]", value), uri, root)
        case _ if value is None or value == b"" or isinstance(value, str):
            raise DataError("no image")
        case _:
            raise DataError(
                f"{excerpt(value)} is neither a path nor bytes", hint='write "a.jpg", {"path": ...} or {"bytes": ...}'
            )


def _take_one(items: Sequence[object]) -> object:
    if len(items) > 1:
        raise DataError(count_nouns(len(items), "image"), hint="a question is about one image")
    return items[0] if items else None


def _make_from_structure(value: Mapping[str, object], uri: str, root: Path) -> ImageSource:
    data = value.get("bytes")
    if isinstance(data, str) and data.strip():
        return CellImage(uri, HeldCell(data.encode()))
    found = data or next((value[key] for key in _KEYS if value.get(key)), None)
    if not value:
        raise DataError("no image")
    if not found:
        raise DataError(
            f"a structure of {', '.join(value)} with neither a path nor bytes",
            hint='write {"path": ...} or {"bytes": ...}',
        )
    return make_image(found, uri, root)


def _make_from_text(text: str, uri: str, root: Path) -> ImageSource:
    if not isinstance(value := parse_struct(text), str):
        return make_image(value, uri, root)
    return find.find_image(text, folder=root, shown=uri, missing_hint=MISSING_HINT)


def _read_text(cell: FileRange) -> str:
    return cell.read().decode("utf-8", "replace").strip("[\"' ]").replace("\\/", "/")
