"""Find the image that a text names: a path, an address on the web, or the image itself as a data: URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from p2r.errors import DataError, ImageError
from p2r.images.load import MAX_IMAGE_PIXELS, FileImage, decode_image
from p2r.images.unpack import unpack
from p2r.images.web import WebImage
from p2r.types import ImageSource

FILE, DATA = "file:", "data:"
_URL = re.compile(r"data:|file:|[A-Za-z][A-Za-z+.-]+://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of an image file, and its name in traces."""

    data: bytes
    name: str
    max_image_pixels: int = MAX_IMAGE_PIXELS

    @property
    def uri(self) -> str:
        return self.name

    def load(self) -> Image.Image:
        """Decode the image. Raises ImageError."""
        return decode_image(self.data, self.name, max_image_pixels=self.max_image_pixels)


@dataclass(frozen=True, slots=True)
class DataUrlImage:
    """An image that is written out as a data: URL."""

    url: str
    max_image_pixels: int = MAX_IMAGE_PIXELS

    @property
    def uri(self) -> str:
        """The URL's beginning: it is as long as the image is large."""
        return self.url if len(self.url) <= 60 else f"{self.url[:57]}..."

    def load(self) -> Image.Image:
        """Decode the image. Raises ImageError."""
        try:
            data = unpack(self.url.encode(errors="replace"))
        except DataError as error:
            raise ImageError(f"{self.uri} {error.message}", hint=error.hint) from error
        return decode_image(data, self.uri, max_image_pixels=self.max_image_pixels)


def is_url(name: str) -> bool:
    """Tell whether a text names an image by a URL instead of a path."""
    return _URL.match(name) is not None


def find_image(
    name: str | Path, *, folder: Path | None = None, max_image_pixels: int = MAX_IMAGE_PIXELS
) -> ImageSource:
    """Return the source of an image. Nothing is opened yet.

    Args:
        name: a path, an http(s), file: or data: URL.
        folder: relative paths are relative to it.
        max_image_pixels: a larger image is refused when it is loaded.
    """
    if isinstance(name, str):
        lower = name[:10].lower()
        if lower.startswith(DATA):
            return DataUrlImage(name, max_image_pixels)
        if lower.startswith(FILE):
            name = unquote(urlsplit(name).path)
        elif is_url(name):
            return WebImage(name, max_image_pixels)
    path = name if folder is None else folder / name
    return FileImage(path, max_image_pixels=max_image_pixels)
