"""Read the answer to an open question (a number or a few words) in a text.

Rules, in order: the contents of an answer tag; "the answer is ..."; a box; a short reply as a whole. An answer that may
have been cut off is not read: `<answer>4` may have been meant to continue as 42.
"""

from __future__ import annotations

import re
from typing import Literal

from p2r.answers.region import Where


def read_open(text: str, form: Literal["number", "free_form"], where: Where) -> tuple[str, int, int] | None:
    """Return (rule, start, end) of the answer in `text`, or None."""
    if where == "cut_tag" or not text.strip():
        return None
    boxed = list(_BOXED.finditer(text))
    if where == "tag":
        if boxed:
            return _trimmed(text, "boxed", *boxed[-1].span(1))
        lead_in = _LEAD_IN.match(text)
        return _trimmed(text, "text", lead_in.end() if lead_in else 0, len(text))
    stated = [match for match in _STATED.finditer(text) if where == "reply" or match["stop"]]
    if stated and (found := _trimmed(text, "phrase", *stated[-1].span("answer"))):
        inner = _BOXED.search(text, *stated[-1].span("answer"))
        return _trimmed(text, "boxed", *inner.span(1)) if inner else found
    if boxed:
        return _trimmed(text, "boxed", *boxed[-1].span(1))
    if where == "reply" and len(text.split()) <= _MOST_WORDS and "\n" not in text.strip():
        numbers = list(_NUMBER.finditer(text))
        if form == "number" and len(numbers) <= 1:
            return ("short", *numbers[0].span()) if numbers else None
        return _trimmed(text, "short", 0, len(text))
    return None


_MOST_WORDS = 8
_BOXED = re.compile(r"\\boxed\s{0,4}\{((?:[^{}]|\{[^{}]*\})*)\}")
_LINK = r"(?:\s+(?:is|was|would\s+be|should\s+be|must\s+be)\b\s*:?|\s*[*_]*:)"
_LEAD_IN = re.compile(
    rf"[\s*_]*(?:(?:so|thus|therefore),?\s+)?(?:the\s+)?(?:(?:final|correct|right|best)\s+)?answer[*_]*{_LINK}",
    re.IGNORECASE,
)
_STATED = re.compile(
    rf"\banswer[*_]*{_LINK}\s{{0,4}}(?P<answer>[^\n]+?)(?P<stop>[.!?](?=\s|$)|\n|$(?!\Z)|\Z)", re.IGNORECASE
)
_NUMBER = re.compile(
    r"[-−+]?[$€£¥]?\d(?:[\d,.:/]*\d)?(?:\s?%)?|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|half)\b",
    re.IGNORECASE,
)
_AROUND = ' \t\r\n*_`"“”'


def _trimmed(text: str, rule: str, start: int, end: int) -> tuple[str, int, int] | None:
    while start < end and text[start] in _AROUND:
        start += 1
    while end > start and text[end - 1] in _AROUND:
        end -= 1
    return (rule, start, end) if start < end else None
