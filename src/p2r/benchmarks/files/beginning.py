"""Refuse a data file that its beginning shows to be something else: another encoding, an archive, a web page."""

from __future__ import annotations

import codecs
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
        head = file.read(HEAD_BYTES)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            raise DataError(
                f"{path} is written in {encoding}", hint=f"save it as UTF-8: `iconv -f {encoding} -t UTF-8 FILE > NEW`"
            )
    what, hint = explain_signature(head)
    if what and what != "a JSON text":
        raise DataError(f"{path} is {what}", hint=hint)
