"""Find the option that a text names by its words.

A text is an option when it is the option's text after a lead-in such as "It is". An answer, or a short reply that
begins with such a lead-in, may also name the option among other words, if it names only one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from p2r.types import LETTERS


def match_option(text: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option whose text `text` is. A letter alone does not count as an option's text."""
    text = text.strip(_SPACE)
    if len(normalize(text)) < 2 and not normalize(text).isdigit():
        return None
    exact = [letter for letter, option in zip(LETTERS, options, strict=False) if option.strip() == text]
    return _only(exact) or _only(_equal(normalize(text), options))


def find_option(text: str, options: Sequence[str], *, committed: bool) -> str | None:
    """Return the letter of the only option that `text` names.

    Args:
        committed: the text is only an answer, so that other words around the option do not matter.
    """
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    are_options = [letter for part in paragraphs if (letter := match_option(part, options))]
    if are_options:
        return _only(are_options)
    last = text if committed else paragraphs[-1]
    stripped = _strip_lead_in(last)
    if letter := match_option(stripped, options):
        return letter
    without_denials = _DENIAL.sub(" ", last)
    remainder = _strip_lead_in(without_denials)
    if letter := match_option(remainder, options):
        return letter
    has_lead_in, num_words = remainder != without_denials.strip(_SPACE), len(remainder.split())
    if committed or (has_lead_in and num_words <= 4):
        denials = [option for option in _named(last, options) if _DENIAL.search(options[LETTERS.index(option)])]
        if named := denials or _named(without_denials, options):
            return _only(named)
    if (committed or num_words <= 6) and (naming := _naming(remainder, options)):
        return _only(naming)
    opening, _, rest = last.partition(",")
    if rest:
        return match_option(opening, options) if not _named(rest, options) else None
    words = normalize(remainder).removeprefix("the ")
    named = _named(words, options) if len(words.split()) <= 3 else []
    return _only([letter for letter in named if words.startswith(normalize(options[LETTERS.index(letter)]))] and named)


def normalize(text: str) -> str:
    """Return a text in lower case, with single blanks, and without punctuation or markup around it."""
    return " ".join(text.casefold().split()).strip(_AROUND)


_SPACE = ' \t\r\n*_`"“”'
_AROUND = " \t\r\n*_~`\"'“”‘’«»()[]{}.,:;!?。、，-–—"
_LEAD_IN = re.compile(
    r"(?:(?:so|thus|therefore|hence|well|ok|okay)\b,?\s*)?"
    r"(?:i(?:['’]d)?\s+(?:would\s+)?(?:think|believe|say|see|count|guess|choose|pick)\s*(?:(?:that\s+)?(?:it\s+is|it['’]s|there\s+(?:are|is)"
    r"|they\s+are|so))?"
    r"|it(?:['’]s|\s+is|\s+looks|\s+appears(?:\s+to\s+be)?|\s+seems(?:\s+to\s+be)?)|there(?:['’]s|\s+is|\s+are)|(?:this|that)\s+is|they\s+are"
    r"|the\s+\w+(?:\s+\w+)?\s+(?:is|are)|(?:final\s+)?answer\s*:|choose\b|pick\b|(?:on|at|to)\s+the\b)"
    r":?(?:\s+(?:clearly|definitely|on|at|to|the|a|an)\b)*\s*",
    re.IGNORECASE,
)
_DENIAL = re.compile(r",?\s*\bnot\b[^.,;!?\n]*?(?:\bbut\b|\brather\b|(?=[.,;!?\n]|$))", re.IGNORECASE)


def _equal(text: str, options: Sequence[str]) -> list[str]:
    return [letter for letter, option in zip(LETTERS, options, strict=False) if text and normalize(option) == text]


def _named(text: str, options: Sequence[str]) -> list[str]:
    """List the letters of options whose words occur in the text; of two that overlap, only the longer one."""
    remaining, found = normalize(text), list[str]()
    ordered = sorted(zip(LETTERS, options, strict=False), key=lambda pair: len(pair[1]), reverse=True)
    for letter, option in ordered:
        pattern = _as_words(normalize(option))
        if pattern.search(remaining):
            found.append(letter)
            twins = _equal(normalize(option), options)
            found.extend(twin for twin in twins if twin != letter)
            remaining = pattern.sub("\0", remaining)
    return found


def _naming(text: str, options: Sequence[str]) -> list[str]:
    """List the letters of options in which the words of the text occur: "12:00" in "Approximately 12:00"."""
    words = normalize(text)
    if len(words) < 3:
        return []
    return [
        letter for letter, option in zip(LETTERS, options, strict=False) if _as_words(words).search(normalize(option))
    ]


def _as_words(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w])(?<!\d[.:]){re.escape(text)}(?!\w|[.:]\d)") if text else re.compile(r"(?!)")


def _only(letters: Sequence[str]) -> str | None:
    return letters[0] if len(set(letters)) == 1 else None


def _strip_lead_in(text: str) -> str:
    text = text.strip(_SPACE)
    lead_in = _LEAD_IN.match(text)
    return text[lead_in.end() :] if lead_in else text
