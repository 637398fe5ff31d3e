"""Images that stay inside a data file until they are used: then they are read and, if needed, decoded from base64."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from p2r.benchmarks.files.rows import Cell
from p2r.errors import DataError, ImageError
from p2r.images.find import HEADER_BYTES
from p2r.images.load import MAX_IMAGE_PIXELS, decode_image, read_image_size
from p2r.images.unpack import unpack


@dataclass(frozen=True, slots=True)
class CellImage:
    """An image in a field. `uri` names file, row and field."""

    uri: str
    cell: Cell
    max_image_pixels: int = MAX_IMAGE_PIXELS

    @property
    def data(self) -> bytes:
        """The image's bytes. Raises ImageError."""
        return self._read(None)

    def load(self) -> Image.Image:
        """Decode the image. Raises ImageError for broken base64 or an image that cannot be decoded."""
        return decode_image(self.data, self.uri, max_image_pixels=self.max_image_pixels)

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
