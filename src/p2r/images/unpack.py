"""Unpack an image that is written out as text: base64 in any wrapping, or a data: URL."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from p2r.errors import DataError, count_nouns

_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def unpack(data: bytes, *, cut_off: bool = False) -> bytes:
    """Return the bytes of an image, given as they are or as base64.

    The base64 may be quoted, in a list of one, in lines of any length, escaped as in JSON, in the URL-safe alphabet,
    without its padding, or a `data:` URL, which may also be percent-encoded.

    Args:
        cut_off: `data` is only the beginning; an incomplete last group of four characters is left out.

    Raises:
        DataError: neither of the two, or several images.
    """
    if not data.isascii() or data.startswith(b"GIF8"):
        return data
    text = _resolve_escapes(data) if b"\\" in data else data
    text = text.strip(b"[]'\" \t\r\n")
    if re.search(rb"""['"]\s*,\s*['"]""", text):
        raise DataError("holds several images", hint="a question is about one image")
    if text[:5].lower() == b"data:":
        head, comma, text = text.partition(b",")
        if not comma:
            raise DataError("has no comma", hint="a data: URL reads like data:image/png;base64,...")
        if b"%" in text:
            text = unquote_to_bytes(text)
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
            hint="it was cut off or altered; copy or download it again",
        ) from error


def _resolve_escapes(text: bytes) -> bytes:
    r"""Resolve `\/`, `\"`, `\u002b` and `\n`; an escape that the end cuts off is left out."""
    text = re.sub(rb"\\u00([0-7][0-9a-fA-F])", lambda match: bytes([int(match[1], 16)]), text)
    return re.sub(rb"\\[nrt]|\\(u[0-9a-fA-F]{0,3})?$", b"", text).replace(b"\\", b"")
