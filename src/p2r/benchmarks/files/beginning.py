"""Refuse a data file that its beginning shows to be something else: another encoding, an archive, a web page."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from p2r.errors import DataError
from p2r.images.contents import HEAD_BYTES, explain_signature

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def check_beginning(path: Path) -> None:
    """Raise DataError when a file that should hold rows is something else, and OSError when it cannot be read."""
    with path.open("rb") as file:
        _check(path, file.read(HEAD_BYTES))


def read_utf8(path: Path) -> str:
    """Return the text of a file, which may be packed (`.gz`). Raises DataError when there is none in UTF-8."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="check the path, or copy it again") from error
    _check(path, data[:HEAD_BYTES])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error.reason}", hint="save it as UTF-8") from error


def _check(path: Path, head: bytes) -> None:
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            raise DataError(
                f"{path} is written in {encoding}",
                hint=f"save it as UTF-8, for example with iconv -f {encoding} -t UTF-8",
            )
    what, hint = explain_signature(head)
    if what and what != "a JSON text":
        raise DataError(f"{path} is {what}", hint=hint)
