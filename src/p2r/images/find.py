"""Find the image that a text names or holds: a path, an address on the web, or the image itself as text."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast, runtime_checkable
from urllib.parse import unquote, urlsplit

from PIL import Image

from p2r.errors import DataError, ImageError
from p2r.images.contents import is_base64_image
from p2r.images.load import MAX_IMAGE_PIXELS, FileImage, decode_image, read_image_size
from p2r.images.unpack import unpack
from p2r.images.web import WebImage
from p2r.types import ImageSource

FILE, DATA = "file:", "data:"
LONGEST_PATH = 1024
"""A longer text is taken for base64."""

HEADER_BYTES = 256 << 10
"""Usually enough of a file to tell its image's size; if not, all of it is read."""

MISSING_HINT = "check the path and the working directory"
_URL = re.compile(r"data:|file:|[A-Za-z][A-Za-z0-9+.-]+://", re.IGNORECASE)


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
class WrittenImage:
    """An image that is written out as text: a data: URL, or base64 in any wrapping.

    name: its name in traces; "" for the text's beginning, because the text is as long as the image is large.
    """

    text: str
    max_image_pixels: int = MAX_IMAGE_PIXELS
    name: str = ""

    @property
    def uri(self) -> str:
        return self.name or (self.text if len(self.text) <= 60 else f"{self.text[:57]}...")

    @property
    def data(self) -> bytes:
        """The image's bytes. Raises ImageError."""
        return self._read(None)

    def load(self) -> Image.Image:
        """Decode the image. Raises ImageError."""
        return decode_image(self.data, self.uri, max_image_pixels=self.max_image_pixels)

    def read_size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright, from the header. Raises ImageError."""
        try:
            return read_image_size(io.BytesIO(self._read(HEADER_BYTES)), self.uri, cut_off=True)
        except ImageError:
            return read_image_size(io.BytesIO(self.data), self.uri)

    def _read(self, limit: int | None) -> bytes:
        try:
            return unpack(self.text[:limit].encode("utf-8", "replace"), cut_off=limit is not None)
        except DataError as error:
            raise ImageError(f"{self.uri} {error.message}", hint=error.hint) from error


def is_url(name: str) -> bool:
    """Tell whether a text names an image by a URL instead of a path."""
    return _URL.match(name) is not None


def find_image(
    name: str | Path,
    *,
    folder: Path | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
    shown: str = "",
    missing_hint: str = MISSING_HINT,
) -> ImageSource:
    """Return the source of the image that a text names or holds. Nothing is opened yet.

    Args:
        name: a path (also a Windows path, or a name as in URLs, with %20), an http(s), file: or data: URL, or base64.
        folder: relative paths are relative to it.
        max_image_pixels: a larger image is refused when it is loaded.
        shown: the name in traces of an image that the text itself holds.
        missing_hint: what to do when there is no such file.
    """
    if isinstance(name, str):
        lower = name[:10].lower()
        if lower.startswith(DATA) or (len(name) > LONGEST_PATH and not is_url(name)):
            return WrittenImage(name, max_image_pixels, shown)
        if lower.startswith(FILE):
            name = unquote(urlsplit(name).path)
        elif is_url(name):
            return WebImage(name, max_image_pixels)
        elif is_base64_image(name.strip("\"'")) and not exists(_join(folder, name)):
            return WrittenImage(name, max_image_pixels, shown)
        elif folder is not None:
            return FileImage(find_file(folder, name), max_image_pixels, missing_hint)
    return FileImage(_join(folder, name), max_image_pixels, missing_hint)


def find_file(folder: Path, name: str) -> Path:
    """Return the path of a file whose name may be a Windows path, part of a URL (%20, ?query), or begin with the
    folder's own name; as it is otherwise."""
    if re.search(r"[\\%?]", name) and not exists(folder / name):
        plain = name.replace("\\", "/")
        for other in (plain, unquote(plain), unquote(plain.partition("?")[0])):
            if exists(folder / other):
                return folder / other
    own, _, inside = name.partition("/")
    if inside and own == folder.absolute().name and not exists(folder / name) and exists(folder / inside):
        return folder / inside
    return folder / name


def _join(folder: Path | None, name: str | Path) -> str | Path:
    return name if folder is None else folder / name


def exists(path: str | Path) -> bool:
    """Tell whether a path leads anywhere. One that cannot be a path does not."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or a null byte
        return False


def limit_pixels(image: ImageSource, max_image_pixels: int) -> ImageSource:
    """Return an image that is refused when it has more pixels; one in memory as it is."""
    if not isinstance(image, _Limited) or image.max_image_pixels == max_image_pixels:
        return image
    return cast("ImageSource", replace(cast("FileImage", image), max_image_pixels=max_image_pixels))


@runtime_checkable
class _Limited(Protocol):
    @property
    def max_image_pixels(self) -> int: ...


@runtime_checkable
class StoredImage(Protocol):
    """An image whose encoded bytes are known, because they are not in a file of their own."""

    @property
    def data(self) -> bytes:
        """The bytes as they are in a file. Raises ImageError."""
        ...
