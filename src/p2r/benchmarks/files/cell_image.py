"""Images that stay inside a data file until they are used: then they are read and, if needed, decoded from base64."""

from __future__ import annotations

import base64
import binascii
import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from p2r.benchmarks.files.rows import Cell, Row
from p2r.errors import DataError, ImageError
from p2r.images.load import FileImage, decode_image, read_image_size
from p2r.types import ImageSource

HEADER_BYTES = 256 << 10
"""Usually enough of a file to tell its image's size; if not, all of it is read."""


@dataclass(frozen=True, slots=True)
class CellImage:
    """An image in a field. `uri` names file, row and field."""

    uri: str
    cell: Cell

    def load(self) -> Image.Image:
        """Decode the image. Raises ImageError for broken base64 or an image that cannot be decoded."""
        return decode_image(self._read(None), self.uri)

    def read_size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright, from the header. Raises ImageError."""
        try:
            return read_image_size(io.BytesIO(self._read(HEADER_BYTES)), self.uri)
        except ImageError:
            return read_image_size(io.BytesIO(self._read(None)), self.uri)

    def _read(self, limit: int | None) -> bytes:
        try:
            return unpack(self.cell.read(limit), cut_off=limit is not None)
        except DataError as error:
            raise ImageError(f"{self.uri}: {error.message}", hint=error.hint) from error


@dataclass(frozen=True, slots=True)
class PathImage:
    """An image file; its size is read from the header."""

    path: Path

    @property
    def uri(self) -> str:
        return str(self.path)

    def load(self) -> Image.Image:
        """Decode the image. Raises ImageError."""
        return FileImage(self.path).load()

    def read_size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright, from the header. Raises ImageError."""
        try:
            with self.path.open("rb") as file:
                return read_image_size(file, self.path)
        except FileNotFoundError as error:
            raise ImageError(f"there is no file {self.path}", hint="check the folder of the images") from error
        except OSError as error:
            raise ImageError(f"{self.path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def image_in(row: Row, name: str) -> ImageSource:
    """Return the image in a field of a row. Raises DataError when the field is missing or empty."""
    if name in row.cells:
        return CellImage(f"{row.path}#{row.number}/{name}", row.cells[name])
    return CellImage(f"{row.path}#{row.number}/{name}", ShortCell(row.text(name)))


@dataclass(frozen=True, slots=True)
class ShortCell:
    """A field small enough to be in memory already (an image of a few hundred bytes)."""

    text: str

    def read(self, limit: int | None = None) -> bytes:
        return self.text.encode()[:limit]


def unpack(data: bytes, *, cut_off: bool = False) -> bytes:
    """Return the bytes of an image, given as they are or as base64 with optional quotes, line ends and `data:` prefix.

    Args:
        cut_off: `data` is only the beginning; an incomplete last group of four characters is left out.

    Raises:
        DataError: neither of the two.
    """
    if not data.isascii() or data.startswith(b"GIF8"):
        return data
    text = data.strip().strip(b'"')
    if b"\\" in text:
        text = (
            json.loads(b'"' + text + b'"').encode() if not cut_off else text.replace(b"\\/", b"/").replace(b"\\n", b"")
        )
    if text.startswith(b"data:"):
        text = text.partition(b",")[2]
    text = b"".join(text.split())
    if cut_off:
        text = text[: len(text) // 4 * 4]
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise DataError(
            f"is not base64: {str(error).lower()} ({len(text):,} characters, beginning with {text[:20].decode()!r})",
            hint="the field was cut off or altered; copy or download the file again",
        ) from error
