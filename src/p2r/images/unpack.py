"""Unpack an image that is written out as text: base64 in any wrapping, or a data: URL."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from urllib.parse import unquote_to_bytes

from p2r.errors import DataError, count_nouns

_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WRITTEN = re.compile(rb"[\[\s'\"]*(?:[dD][aA][tT][aA]:|iVBOR|/9j/|R0lGOD|UklGR|SUkq|TU0A)")
"""The beginning of an image that is written out: a data: URL, or the base64 of PNG, JPEG, GIF, WebP or TIFF."""
_DATA_URL = re.compile(r"[\[\s'\"]*data:", re.IGNORECASE)
_BLOCK_BYTES = 1 << 16
_ALTERED = "it was cut off or altered; copy or download it again"


def unpack(data: bytes, *, cut_off: bool = False) -> bytes:
    """Return the bytes of an image, given as they are or as base64.

    The base64 may be quoted, in a list of one, in lines of any length, escaped as in JSON, in the URL-safe alphabet,
    without its padding, or a `data:` URL, which may also be percent-encoded.

    Args:
        cut_off: `data` is only the beginning; an incomplete last group of four characters is left out.

    Raises:
        DataError: neither of the two, or several images.
    """
    if data.startswith(b"GIF8") or not (data.isascii() or _WRITTEN.match(data)):
        return data
    if not data.isascii():
        data = _read_ascii(data)
    text = _resolve_escapes(data) if b"\\" in data else data
    text = text.strip(b"[]'\" \t\r\n")
    if re.search(rb"""['"]\s*,\s*['"]""", text):
        raise DataError("holds several images", hint="a question is about one image")
    if text[:5].lower() == b"data:":
        head, comma, text = text.partition(b",")
        if not comma:
            raise DataError("has no comma", hint="a data: URL reads like data:image/png;base64,...")
        if text.lstrip().startswith(b"<"):  # markup, such as an SVG, not base64; what decodes it says so
            return text
        if b"%" in text:
            text = _unquote(text)
            if not head.lower().endswith(b";base64"):
                return text
    text = b"".join(text.split()).translate(_URL_SAFE).rstrip(b"=")
    text = text[: len(text) // 4 * 4] if cut_off else text + b"=" * (-len(text) % 4)
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise DataError(
            f"is not base64: {str(error).lower()} ({count_nouns(len(text), 'character')}, beginning with "
            f"{text[:20].decode()!r})",
            hint=_ALTERED,
        ) from error


def _read_ascii(data: bytes) -> bytes:
    """Return a written image without blanks of other alphabets, invisible characters and what its media type says.

    Raises:
        DataError: another character has got into it.
    """
    text = data.decode("utf-8", "replace")
    start = text.find(",") + 1 if _DATA_URL.match(text) else 0
    head = text[:start].encode("ascii", "replace")
    body = "".join("" if char.isspace() or unicodedata.category(char) == "Cf" else char for char in text[start:])
    wrong = next((char for char in body if not char.isascii()), None)
    if wrong is None or body.startswith("<"):
        return head + body.encode()
    raise DataError(
        f"is not base64: it holds {wrong!r} at character {text.index(wrong, start) + 1:,} of {len(text):,}",
        hint=_ALTERED,
    )


def _unquote(text: bytes) -> bytes:
    """Resolve %41 and the like, block by block: all at once takes fifty times the memory of the text."""
    blocks, start = list[bytes](), 0
    while start < len(text):
        end = start + _BLOCK_BYTES
        end -= next((back for back in (1, 2) if text[end - back : end - back + 1] == b"%"), 0)
        blocks.append(unquote_to_bytes(text[start:end]))
        start = end
    return b"".join(blocks)


def _resolve_escapes(text: bytes) -> bytes:
    r"""Resolve `\/`, `\"`, `\u002b` and `\n`; an escape that the end cuts off is left out."""
    text = re.sub(rb"\\u00([0-7][0-9a-fA-F])", lambda match: bytes([int(match[1], 16)]), text)
    return re.sub(rb"\\[nrt]|\\(u[0-9a-fA-F]{0,3})?$", b"", text).replace(b"\\", b"")
