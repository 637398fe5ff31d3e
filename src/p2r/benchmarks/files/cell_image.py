"""Images that stay inside a data file until they are used: then they are read and, if needed, decoded from base64."""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass

from PIL import Image

from p2r.benchmarks.files.rows import Cell
from p2r.errors import DataError, ImageError
from p2r.images.load import decode_image, read_image_size

HEADER_BYTES = 256 << 10
"""Usually enough of a file to tell its image's size; if not, all of it is read."""

_URL_SAFE = bytes.maketrans(b"-_", b"+/")


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
            return read_image_size(io.BytesIO(self._read(HEADER_BYTES)), self.uri, cut_off=True)
        except ImageError:
            return read_image_size(io.BytesIO(self._read(None)), self.uri)

    def _read(self, limit: int | None) -> bytes:
        try:
            return unpack(self.cell.read(limit), cut_off=limit is not None)
        except DataError as error:
            raise ImageError(f"{self.uri}: {error.message}", hint=error.hint) from error


@dataclass(frozen=True, slots=True)
class HeldCell:
    """A field that is in memory already."""

    data: bytes

    def read(self, limit: int | None = None) -> bytes:
        return self.data[:limit]


def unpack(data: bytes, *, cut_off: bool = False) -> bytes:
    """Return the bytes of an image, given as they are or as base64.

    The base64 may be quoted, in a list of one, in lines of any length, escaped as in JSON, in the URL-safe alphabet,
    without its padding, or a `data:` URL.

    Args:
        cut_off: `data` is only the beginning; an incomplete last group of four characters is left out.

    Raises:
        DataError: neither of the two.
    """
    if not data.isascii() or data.startswith(b"GIF8"):
        return data
    text = _resolve_escapes(data) if b"\\" in data else data
    text = text.strip(b"[]'\" \t\r\n")
    if re.search(rb"""['"]\s*,\s*['"]""", text):
        raise DataError("holds several images", hint="a question is about one image")
    if text.startswith(b"data:"):
        text = text.partition(b",")[2]
    text = b"".join(text.split()).translate(_URL_SAFE).rstrip(b"=")
    text = text[: len(text) // 4 * 4] if cut_off else text + b"=" * (-len(text) % 4)
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise DataError(
            f"is not base64: {str(error).lower()} ({len(text):,} characters, beginning with {text[:20].decode()!r})",
            hint="the field was cut off or altered; copy or download the file again",
        ) from error


def _resolve_escapes(text: bytes) -> bytes:
    r"""Resolve `\/`, `\"`, `\u002b` and `\n`; an escape that the end cuts off is left out."""
    text = re.sub(rb"\\u00([0-7][0-9a-fA-F])", lambda match: bytes([int(match[1], 16)]), text)
    return re.sub(rb"\\[nrt]|\\(u[0-9a-fA-F]{0,3})?$", b"", text).replace(b"\\", b"")
