"""An image as bytes to be written: as it was found where it lies in a file, else as PNG."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from p2r.benchmarks.files.cell_image import CellImage
from p2r.benchmarks.files.field_image import ParquetImage, make_image
from p2r.errors import DataError, ImageError, reason_of
from p2r.images.load import FileImage
from p2r.images.unpack import unpack
from p2r.types import ImageSource

SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
"""The suffixes that are not the format's name in small letters."""


def encode_image(image: ImageSource) -> tuple[bytes, str]:
    """Return an image's bytes and the suffix of its format, such as "jpg".

    Raises:
        ImageError: the image cannot be read.
    """
    data = _find_bytes(image)
    if data is None:
        buffer = io.BytesIO()
        image.load().save(buffer, "PNG")
        data = buffer.getvalue()
    try:
        name = Image.open(io.BytesIO(data)).format or "PNG"
    except (UnidentifiedImageError, OSError, ValueError):
        image.load()  # which says what is wrong
        raise ImageError(f"{image.uri} is in a format that is not known") from None
    return data, SUFFIXES.get(name, name.lower())


def _find_bytes(image: ImageSource) -> bytes | None:
    try:
        if isinstance(image, CellImage):
            return unpack(image.cell.read())
        if isinstance(image, ParquetImage):
            return _find_bytes(make_image(image.cell.read_value(), image.uri, image.root))
        if isinstance(image, FileImage):
            return Path(image.path).read_bytes()
    except DataError as error:
        raise ImageError(f"{image.uri}: {error.message}", hint=error.hint) from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{image.uri} cannot be read: {reason_of(error)}") from error
    return None
