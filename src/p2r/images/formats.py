"""The formats that images are read from, and the suffixes of their files."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "MPO", "JPEG2000", "PPM", "AVIF", "HEIF")
"""The formats that are read, by Pillow's names, without those that run a program (EPS) or lack a signature (TGA).

HEIF, which is a phone's HEIC, needs pillow-heif.
"""

FRAMED_FORMATS = frozenset({"GIF", "PNG", "WEBP", "TIFF", "AVIF"})
"""Formats whose further frames are images of their own. Those of MPO and HEIF are previews and depths of the first."""

HEIC_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
HEIC_HINT = "pip install pillow-heif"


@cache
def list_suffixes() -> frozenset[str]:
    """List the suffixes of the files that can be read here, in lower case."""
    register_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)


def reads_heic() -> bool:
    """Tell whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


@cache
def register_formats() -> None:
    """Have Pillow load its plugins, and pillow-heif's where it is installed."""
    Image.init()
    if reads_heic():
        import pillow_heif

        pillow_heif.register_heif_opener()  # pyright: ignore[reportUnknownMemberType]
