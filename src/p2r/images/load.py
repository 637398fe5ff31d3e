"""Load images: whatever a file holds (palette, transparency, CMYK, gray, 16 bits, an animation) becomes one upright
RGB image.

An image's size is checked against a limit before a pixel is decoded. Pillow's own limit, which is global to the
process, is neither used nor changed.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin

from p2r.errors import ImageError, P2RWarning
from p2r.images.contents import HEAD_BYTES, HEIC, explain_content, explain_path, name_path, show_path
from p2r.images.formats import FORMATS, FRAMED_FORMATS, reads_heic, register_formats
from p2r.images.png import drop_texts, has_late_exif
from p2r.types import ImageSource

MAX_IMAGE_PIXELS = 400_000_000
"""Largest image that is decoded by default: 20,000 x 20,000 pixels, 1.6 GB in memory."""


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
    missing_hint: what to do when there is no such file.
    """

    path: str | Path
    max_image_pixels: int = MAX_IMAGE_PIXELS
    missing_hint: str = "check the path and the working directory"

    @property
    def uri(self) -> str:
        return name_path(self.path)

    def load(self) -> Image.Image:
        """Return the upright RGB image.

        Raises:
            ImageError: there is no such file, or it is not an image, broken, cut off or larger than the limit.
        """
        with _open(self.path, self.missing_hint) as file:
            return _decode(file, show_path(self.path), self.max_image_pixels)

    def read_size(self) -> tuple[int, int]:
        """Return (width, height) of the upright image in pixels, from the header. Raises ImageError."""
        with _open(self.path, self.missing_hint) as file:
            return read_image_size(file, show_path(self.path))


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


def read_image_size(file: BinaryIO, name: str, *, cut_off: bool = False) -> tuple[int, int]:
    """Return (width, height) of the upright image in pixels, read from the file's header alone.

    Args:
        cut_off: `file` is only the beginning; then an orientation that may come later is an error.

    Raises:
        ImageError: the file is empty or not an image, or its header is broken or cut off.
    """
    try:
        image = _identify(file, name)
    except ImageError:
        if (clean := drop_texts(file)) is None:
            raise
        image = _identify(clean, name)
    late_exif = has_late_exif(file) if image.format == "PNG" else False
    if late_exif is None and cut_off:
        raise ImageError(f"{name} is cut off")
    # For PNG, `getexif` of the class itself decodes all pixels.
    orientation = _read_orientation(image, None if late_exif else Image.Image.getexif)
    width, height = _get_stored_size(image)
    return (height, width) if orientation >= 5 else (width, height)


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


def _open(path: str | Path, missing_hint: str) -> BinaryIO:
    """Open an image file. Raises ImageError when it cannot be opened, with what the text is if it is not a path."""
    shown = show_path(path)
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise ImageError(f"{shown} is not a file", hint="name one image")
        return Path(path).open("rb")
    except PermissionError as error:
        raise ImageError(f"{shown} may not be read", hint="check the file's permissions") from error
    except (OSError, ValueError) as error:
        what, hint = explain_path(str(path))
        if what:
            raise ImageError(f"{shown} is {what}", hint=hint) from error
        if isinstance(error, FileNotFoundError):
            raise ImageError(f"there is no file {shown}", hint=missing_hint) from error
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ImageError(f"{shown} cannot be opened: {reason.lower()}", hint="check the path") from error


def _decode(file: BinaryIO, path: str, max_image_pixels: int) -> Image.Image:
    try:
        return _decode_once(file, path, max_image_pixels)
    except ImageError:
        if (clean := drop_texts(file)) is None:
            raise
        return _decode_once(clean, path, max_image_pixels)


def _decode_once(file: BinaryIO, path: str, max_image_pixels: int) -> Image.Image:
    image = _identify(file, path)
    num_pixels = image.width * image.height
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
    if num_further := _count_further_frames(file, image, path):
        frames = "frame" if num_further == 1 else "frames"
        warnings.warn(f"{path}: the first frame is used; {num_further} more {frames} left out", P2RWarning, 2)
    return upright


def _count_further_frames(file: BinaryIO, image: ImageFile.ImageFile, path: str) -> int:
    """Count the frames after the first. A second look at the file counts them, which leaves `image` as it is."""
    if image.format not in FRAMED_FORMATS:
        return 0
    try:
        return int(getattr(_identify(file, path), "n_frames", 1)) - 1
    except (*_DECODER_ERRORS, ImageError):  # the first frame is good, whatever follows it
        return 0


def _identify(file: BinaryIO, path: str) -> ImageFile.ImageFile:
    """Open the file with the plugin that knows it, as `Image.open` does but without its process-wide size limit."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if not head:
        raise ImageError(f"{path} is empty (0 bytes)", hint="copy or download it again")
    register_formats()
    reason = ""
    for name in FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        if accept is None or accept(head[:16]) is not True:
            continue
        try:
            file.seek(0)
            image = factory(file, "")
        except Image.DecompressionBombError as error:  # a few plugins look at Pillow's limit themselves
            raise ImageError(
                f"{path} is larger than Pillow reads {name} files: {error}", hint="convert it to PNG"
            ) from error
        except _DECODER_ERRORS as error:
            reason = f": {error}"
            continue
        if 0 in image.size:
            raise ImageError(f"{path} holds {image.width} x {image.height} pixels")
        return image
    # HEIC may begin as AVIF does, so that Pillow takes it for a broken one.
    what, hint = explain_content(head) if not reason or head[4:8] == b"ftyp" else ("", "")
    if what == HEIC and reads_heic():
        raise ImageError(f"{path} is a broken HEIC image{reason}", hint="copy or download it again")
    if reason and not what:
        raise ImageError(f"{path} is a broken image{reason}", hint="copy or download it again")
    known = f"known formats: {', '.join(FORMATS)}"
    raise ImageError(f"{path} is {what or 'not an image that can be read'}", hint=hint or known)


def _get_stored_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Return the size before the image is turned. For TIFF, Pillow's own size is that of the upright image."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return image.size


def _read_orientation(image: Image.Image, read: Callable[[Image.Image], Image.Exif] | None = None) -> int:
    """Return the EXIF orientation; 1, which is upright, where it cannot be read, since the pixels may be good."""
    try:
        orientation = (read(image) if read else image.getexif()).get(ExifTags.Base.Orientation, 1)
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
