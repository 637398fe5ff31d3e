"""What Pillow needs help with in PNG files: large text chunks, and EXIF data that come after the pixels.

Pillow refuses a file whose text chunks are large, though its pixels are sound; and to look for late EXIF data it
decodes all pixels.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


def drop_texts(file: BinaryIO) -> io.BytesIO | None:
    """Copy a PNG file without its text chunks; None if it is not a PNG file or has none."""
    chunks = list(_find_chunks(file))
    if not any(kind in _TEXTS for kind, _, _ in chunks):
        return None
    clean = io.BytesIO()
    clean.write(SIGNATURE)
    for kind, start, length in chunks:
        if kind not in _TEXTS:
            file.seek(start)
            clean.write(file.read(length))
    clean.seek(0)
    return clean


def has_late_exif(file: BinaryIO) -> bool | None:
    """Tell whether chunks that may state an orientation follow the pixels of a PNG file; None if its end is missing."""
    place, seen_pixels = file.tell(), False
    try:
        for kind, _, _ in _find_chunks(file):
            seen_pixels = seen_pixels or kind == b"IDAT"
            if seen_pixels and kind in (b"eXIf", *_TEXTS):
                return True
            if kind == b"IEND":
                return False
        return None
    finally:
        file.seek(place)


def _find_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield each chunk's kind, its offset and its number of bytes; nothing if it is not a PNG file."""
    file.seek(0, io.SEEK_END)
    end, place = file.tell(), len(SIGNATURE)
    file.seek(0)
    if file.read(place) != SIGNATURE:
        return
    while place + 12 <= end:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        yield kind, place, min(12 + length, end - place)
        place += 12 + length
