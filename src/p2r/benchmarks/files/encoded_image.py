"""An image as bytes to be written: as it was found where it lies in a file, else as PNG; or as JPEG."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from p2r.benchmarks.files.field_image import ParquetImage
from p2r.errors import ImageError, reason_of
from p2r.images.find import StoredImage
from p2r.images.load import FileImage
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


def encode_jpeg(image: ImageSource) -> bytes:
    """Return an image as JPEG, for layouts that hold nothing else: at quality 95 without color subsampling, which
    preserves details. Raises ImageError if it cannot be read."""
    buffer = io.BytesIO()
    image.load().save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _find_bytes(image: ImageSource) -> bytes | None:
    try:
        if isinstance(image, ParquetImage):
            return _find_bytes(image.find())
        if isinstance(image, StoredImage):
            return image.data
        if isinstance(image, FileImage):
            return Path(image.path).read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(f"{image.uri} cannot be read: {reason_of(error)}") from error
    return None
