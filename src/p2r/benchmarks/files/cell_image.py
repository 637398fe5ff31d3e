"""Images that stay inside a data file until they are used: then they are read and, if needed, decoded from base64."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from p2r.benchmarks.files.rows import Cell
from p2r.errors import DataError, ImageError
from p2r.images.load import decode_image, read_image_size
from p2r.images.unpack import unpack

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
