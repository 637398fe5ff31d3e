"""Load images: whatever a file holds (palette, transparency, CMYK, gray, 16 bits, an animation) becomes one upright
RGB image.

An image's size is checked against a limit before a pixel is decoded. Pillow's own limit, which is global to the
process, is neither used nor changed.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

from p2r.errors import ImageError
from p2r.types import ImageSource

MAX_IMAGE_PIXELS = 400_000_000
"""Largest image that is decoded by default: 20,000 x 20,000 pixels, 1.6 GB in memory."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "MPO", "JPEG2000", "PPM", "AVIF")
"""The formats that are read, by Pillow's names, without those that run a program (EPS) or lack a signature (TGA)."""


@runtime_checkable
class SizedSource(Protocol):
    """An image source whose size can be read from a header, without decoding."""

    def read_size(self) -> tuple[int, int]:
        """Return (width, height) of the upright image in pixels. Raises ImageError."""
        ...


@dataclass(frozen=True, slots=True)
class FileImage:
    """An image in a file.

    max_image_pixels: a larger image is refused before it is decoded.
    """

    path: str | Path
    max_image_pixels: int = MAX_IMAGE_PIXELS

    @property
    def uri(self) -> str:
        return str(self.path)

    def load(self) -> Image.Image:
        """Return the upright RGB image.

        Raises:
            ImageError: there is no such file, or it is not an image, broken, cut off or larger than the limit.
        """
        path = Path(self.path)
        try:
            if path.exists() and not path.is_file():
                raise ImageError(f"{path} is not a file", hint="name one image")
            with path.open("rb") as file:
                return _decode(file, path, self.max_image_pixels)
        except FileNotFoundError as error:
            raise ImageError(f"there is no file {path}", hint="check the path and the working directory") from error
        except PermissionError as error:
            raise ImageError(f"{path} may not be read", hint="check the file's permissions") from error


@dataclass(frozen=True, slots=True)
class MemoryImage:
    """An image that is already decoded, and its name in traces."""

    image: Image.Image
    name: str = "memory"

    @property
    def uri(self) -> str:
        return self.name

    def load(self) -> Image.Image:
        """Return the upright RGB image: the image itself if it is one. Raises ImageError when it cannot be decoded."""
        if 0 in self.image.size:
            raise ImageError(f"the image {self.name!r} has {self.image.width} x {self.image.height} pixels")
        try:
            return make_upright_rgb(self.image)
        except _DECODER_ERRORS as error:
            raise ImageError(f"the image {self.name!r} cannot be decoded: {error}") from error


def decode_image(data: bytes, name: str, *, max_image_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """Return the upright RGB image in `data`, the bytes of an image file. `name` is its name in messages.

    Raises:
        ImageError: the data are not an image, or are broken, cut off or larger than the limit.
    """
    return _decode(io.BytesIO(data), name, max_image_pixels)


def read_image_size(file: BinaryIO, name: str | Path) -> tuple[int, int]:
    """Return (width, height) of the upright image in pixels, read from the file's header alone.

    Raises:
        ImageError: the file is empty or not an image, or its header is broken or cut off.
    """
    image = _identify(file, file.read(16), name)
    width, height = image.size
    return (height, width) if _read_orientation(image) >= 5 else (width, height)


def read_size(image: ImageSource) -> tuple[int, int]:
    """Return (width, height) of the upright image in pixels, from its header if possible. Raises ImageError."""
    return image.read_size() if isinstance(image, SizedSource) else image.load().size


def make_upright_rgb(image: Image.Image) -> Image.Image:
    """Turn `image` as its EXIF data says and make it RGB: transparency over white, 16 bits scaled to 8."""
    upright = ImageOps.exif_transpose(image) if _read_orientation(image) != 1 else image
    if upright.mode.startswith("I") or upright.mode == "F":
        return _scale_to_8_bits(upright).convert("RGB")
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return upright if upright.mode == "RGB" else upright.convert("RGB")


# What Pillow's decoders raise on broken data, from experience and from its own list in Image.open.
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError),
    *(EOFError, MemoryError, Warning, struct.error, Image.DecompressionBombError),
)


def _decode(file: BinaryIO, path: str | Path, max_image_pixels: int) -> Image.Image:
    image = _identify(file, file.read(16), path)
    num_pixels = image.width * image.height
    if num_pixels == 0:
        raise ImageError(f"{path} holds {image.width} x {image.height} pixels")
    if num_pixels > max_image_pixels:
        raise ImageError(
            f"{path} holds {image.width} x {image.height} pixels, {num_pixels:,}; the limit is {max_image_pixels:,}",
            hint="raise `max_image_pixels` if you trust the file and have the memory (4 bytes a pixel), or shrink it",
        )
    try:
        upright = make_upright_rgb(image)
        upright.load()
    except _DECODER_ERRORS as error:
        raise ImageError(
            f"{path} is broken or cut off: {error}", hint="copy or download it again, or save it again from a viewer"
        ) from error
    return upright


def _identify(file: BinaryIO, prefix: bytes, path: str | Path) -> ImageFile.ImageFile:
    """Open the file with the plugin that knows it, as `Image.open` does but without its process-wide size limit."""
    if not prefix:
        raise ImageError(f"{path} is empty (0 bytes)", hint="copy or download it again")
    Image.init()
    reason = ""
    for name in FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        if accept is None or accept(prefix) is not True:
            continue
        try:
            file.seek(0)
            return factory(file, "")
        except Image.DecompressionBombError as error:  # a few plugins look at Pillow's limit themselves
            raise ImageError(
                f"{path} is larger than Pillow reads {name} files: {error}", hint="convert it to PNG"
            ) from error
        except _DECODER_ERRORS as error:
            reason = f": {error}"
    if reason:
        raise ImageError(f"{path} is a broken image{reason}", hint="copy or download it again")
    raise ImageError(f"{path} is not an image that can be read", hint=f"known formats: {', '.join(FORMATS)}")


def _read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, which is upright, where it cannot be read, since the pixels may be good."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODER_ERRORS:
        return 1
    return orientation if orientation in range(2, 9) else 1


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale gray values of 16 bits, 32 bits or floats: 0 stays black, the format's white becomes 255.

    Nothing is clipped. 32-bit images mostly hold 16-bit values and are read as such when the values fit. Beyond that,
    and for floats outside 0..1, the white is unknown: the largest value becomes white, and the smallest black if it is
    below zero.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    least, most = min(float(values.min()), 0.0), float(values.max())
    white = 65535.0 if image.mode.startswith("I") else 1.0
    if least < 0.0 or most > white:
        white = max(most, least + 1e-12)
    scaled = (values - least) * (255.0 / (white - least))
    return Image.fromarray(np.floor(scaled + 0.5).astype(np.uint8))
