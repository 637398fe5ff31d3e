"""Say what a file is that cannot be read as an image: a Git LFS pointer, a web page, a video.

A file that failed to download keeps the name of the image, so the name tells nothing.
"""

from __future__ import annotations

import re

from p2r.errors import DataError, count_nouns
from p2r.images.formats import HEIC_HINT
from p2r.images.unpack import unpack

HEAD_BYTES = 1024
"""Enough of a file's beginning to tell what it is."""

MOST_PATH_CHARS = 240

HEIC, WEB_PAGE = "a HEIC image", "a web page (HTML)"
_SAVE_AS_IMAGE = "save or export it as PNG or JPEG"
_DOWNLOAD = "download the file again, and look at what the server answers"
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (
        rb"version https://git-lfs\.github\.com/",
        "a Git LFS pointer, not the file itself",
        "fetch the file with `git lfs pull`",
    ),
    (
        rb"(\.\./)*(\.git)?/?annex/objects/",
        "a git-annex pointer, not the file itself",
        "fetch it with `git annex get`",
    ),
    (rb"\s*(<!doctype html|<html|<head|<body)", WEB_PAGE, _DOWNLOAD),
    (
        rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<!doctype svg[^>]*>\s*)*<svg",
        "a drawing (SVG), which has no pixels",
        _SAVE_AS_IMAGE,
    ),
    (rb"\s*<\?xml", "an XML text", _DOWNLOAD),
    (rb"\s*[{\[]\s*[\"{\[]", "a JSON text", _DOWNLOAD),
    (rb"%PDF-", "a PDF", "save its page as PNG or JPEG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file", _SAVE_AS_IMAGE),
    (rb"8BPS", "a Photoshop file", _SAVE_AS_IMAGE),
    (rb"....ftyp(hei|hev|(mif1|msf1)(?!.{0,40}avi[fs]))", HEIC, f"{HEIC_HINT}, or {_SAVE_AS_IMAGE}"),
    (
        rb"....ftyp(?!avi[fs]|mif1|msf1)|\x1aE\xdf\xa3|RIFF....AVI |....moov",
        "a video",
        "save a frame of it as PNG or JPEG",
    ),
    (rb"PK\x03\x04", "a ZIP archive", "unpack it"),
    (rb"\x1f\x8b", "a gzip archive", "unpack it"),
    (rb"\x00\x00\x01\x00", "an icon (ICO)", _SAVE_AS_IMAGE),
    (rb"\x93NUMPY", "a NumPy array", _SAVE_AS_IMAGE),
    (rb"\x00{16}", "filled with zeros", "the copy or download was interrupted: do it again"),
)
_IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0", b"P5\n", b"P6\n")
_BASE64 = re.compile(r"[A-Za-z0-9+/_=\s-]{24,}")


def explain_content(head: bytes) -> tuple[str, str]:
    """Say what a file that begins with `head` is, and what to do; "" where that is not known."""
    what, hint = explain_signature(head)
    if what:
        return what, hint
    if is_base64_image(head[:100].decode("latin-1")) or head.startswith(b"data:image/"):
        return "an image written as base64 text", "decode it: `base64 -d FILE > IMAGE`"
    if head.strip() and re.fullmatch(rb"[\t\n\r -~]+", head):
        return "not an image but text", ""
    return "", ""


def explain_signature(head: bytes) -> tuple[str, str]:
    """Do what `explain_content` does, for contents that are known by their first bytes."""
    for signature, what, hint in _SIGNATURES:
        if re.match(signature, head, re.IGNORECASE | re.DOTALL):
            return what, hint
    return "", ""


def is_base64_image(text: str) -> bool:
    """Return True if a text begins as the base64 of an image does, in the usual or the URL-safe alphabet."""
    start = text[:100].strip()
    if not _BASE64.fullmatch(start):
        return False
    try:
        return unpack(start.encode(), cut_off=True).startswith(_IMAGE_STARTS)
    except DataError:
        return False


def explain_path(text: str) -> tuple[str, str]:
    """Say what a text is that was given as a path but is not one, and what to do; ("", "") if it may be a path."""
    if re.match(r"data:[^,]{0,100},|data:image/", text):
        return "a data URL, not the path of a file", "save the image to a file, and name that"
    if match := re.match(r"([a-z][a-z0-9+.]+):/+", text, re.IGNORECASE):
        if match[1].lower() == "file":
            return "a file: URL, not a path", "write the path alone"
        return f"a web address ({match[1].lower()})", "download the image, and name the file"
    if is_base64_image(text):
        return "an image written as base64 text, not the path of a file", "save the image to a file, and name that"
    return "", ""


def name_path(path: object) -> str:
    """Return a path as text that can be stored: bytes of its name that are not UTF-8 are written as escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def show_path(path: object) -> str:
    """Return a path for a message: cut if it is very long, and without null bytes and line ends."""
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(path))
    return text if len(text) <= MOST_PATH_CHARS else f"{text[:60]}... ({count_nouns(len(text), 'character')})"
