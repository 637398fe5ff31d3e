"""Compare texts by their words: what is only another way to write the same does not count.

Case, width and composition of letters, articles, quotes, punctuation of any script, thousands separators, HTML
entities, and end marks of tokenizers. What carries meaning stays: signs (-5, 50%, C++, $5), digits, accents, the order
of words.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator


def say_the_same(answer: str, target: str) -> bool:
    """Tell whether an answer is the target's words, alone or in a sentence such as "The sign reads STOP."."""
    wanted = normalize_text(target)
    if normalize_text(answer) == wanted:
        return True
    if wanted in ("yes", "no"):
        return _leading_yes_or_no(answer) == wanted
    return any(normalize_text(core) == wanted for core in _cores(answer))


def normalize_text(text: str) -> str:
    """Return the words that count, in lower case with single blanks; a text of mere punctuation stays as it is."""
    text = html.unescape(_END_MARK.sub("", text)).translate(_SUPERSCRIPTS)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = _STYLED.sub(r"\1", text).translate(_SAME_SIGNS)
    text = _THOUSANDS.sub("", text)
    words = " ".join(_MARKS.sub(" ", _ABBREVIATED.sub("", _UNSEEN.sub("", text))).split())
    listed = _AROUND_SIGN.sub(r"\1", _BETWEEN_IDEOGRAPHS.sub("", words)).split()
    kept = [word for word in listed if word not in _ARTICLES] or listed
    return " ".join(kept) or " ".join(text.split())


def _leading_yes_or_no(text: str) -> str:
    match = _YES_OR_NO.match(text)
    return match[1].casefold() if match else ""


def _cores(text: str) -> Iterator[str]:
    """Yield what a sentence says: "red" of "The color is red because of the paint."."""
    said = _SAID.match(text)
    core = text[said.end() :] if said else text
    yield core
    if reason := _REASON.search(core):
        yield core[: reason.start()]


_ARTICLES = frozenset({"a", "an", "the"})
_END_MARK = re.compile(r"(?:\s{0,4}(?:<\|[^<>|]{1,40}\|>|</?s>|<(?:eos|pad|end_of_turn)>)){1,20}\s{0,9}\Z")
_SUPERSCRIPTS = str.maketrans({character: f"^{k}" for k, character in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")})
_SAME_SIGNS = str.maketrans("‘’‛′`“”„″−‐‑–—·⁄", "'''''\"\"\"\"------/")
_STYLED = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|boxed)\s?\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|\Z))")
_UNSEEN = re.compile(r"[\u00ad\u200b-\u200f\u2060\ufe0e\ufe0f\ufeff]")
# The points of U.S.A. and St. go without a blank; those of 3.14 stay.
_ABBREVIATED = re.compile(r"(?<=\b[^\W\d_])\. ?(?=[^\W\d_]\b)")
# Punctuation, but for an apostrophe within a word, a point or colon within a number, and signs (-5, C++).
_MARKS = re.compile(
    r"(?<!\w)'|'(?!\w)|(?<!\d)[.:]|[.:](?!\d)|(?<=[^\W\d_])-|-(?=[^\W\d_])|(?<!\S)-(?!\S)"
    r"|,(?!\d)|(?<!\d),|[\"!?;…()\[\]{}*_|~¡¿«»‹›「」『』《》〈〉【】〔〕、。،؛؟।՝՞։·•]|\\"
)
_AROUND_SIGN = re.compile(r" ?([&/]) ?| (?=[%°])|(?<=[$€£¥]) ")
_BETWEEN_IDEOGRAPHS = re.compile(r"(?<=[\u3040-\u30ff\u3400-\u9fff]) (?=[\u3040-\u30ff\u3400-\u9fff])")
_YES_OR_NO = re.compile(
    r"[\W_]*(yes|no)\b(?=\W*\Z|\s*[,.;:!–—-]\s|\s*[,;]|\s+(?:because|since)\b)(?!\W{0,3}(?:yes|no)\b\W*\Z)",
    re.IGNORECASE,
)
_SAID = re.compile(
    r"\W*(?:(?:so|thus|therefore|i\s+(?:think|believe|see)(?:\s+that)?),?\s+)?"
    r"(?:(?:it|this|that|they|there|(?:the|this|that)\s+\w+(?:\s+\w+){0,3}?)\s*(?:\bis\b|\bare\b|['’]s\b|\breads?\b|\bsays?\b|\bshows?\b))"
    r"\s*:?\s*(?:that\s+)?",
    re.IGNORECASE,
)
_REASON = re.compile(r",?\s+(?:because|since|due to|as it|as the)\b", re.IGNORECASE)
