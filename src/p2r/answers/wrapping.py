"""Take off what is wrapped around an answer: blanks, emphasis, pairs of quotes or brackets, LaTeX."""

from __future__ import annotations

import re


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span within `text[start:end]` without its wrapping.

    A quotation mark goes together with its partner; alone it belongs to the answer (`The word is "STOP"`, `5'10"`).
    """
    while start < end:
        if text[start] in _LOOSE:
            start += 1
        elif text[end - 1] in _LOOSE:
            end -= 1
        elif match := _LATEX.fullmatch(text, start, end):
            start, end = match.span(match.lastindex or 0)
        elif _is_pair(text, start, end):
            start, end = start + 1, end - 1
        else:
            break
    return start, end


_LOOSE = " \t\r\n*_`\u3000"
_PAIRS = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "「": "」", "『": "』", "《": "》", "$": "$"}
_LATEX = re.compile(
    r"\\(?:text|textbf|textit|emph|mathrm|mathbf|mathit|mathsf|mbox|boxed)\s{0,4}\{((?:[^{}]|\{[^{}]*\})*)\}"
    r"|\\\(([^()]*)\\\)|\\\[([^\[\]]*)\\\]"
)


def _is_pair(text: str, start: int, end: int) -> bool:
    closer = _PAIRS.get(text[start])
    if closer is None or end - start < 2 or text[end - 1] != closer:
        return False
    return closer not in text[start + 1 : end - 1]  # the outer two of `"A" and "B"` do not belong together
