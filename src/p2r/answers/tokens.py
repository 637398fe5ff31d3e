"""Split a text into words, numbers, marks and line ends; the mentions of options in it are named by them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from p2r.answers.phrases import beside, moods


class Token(NamedTuple):
    """A piece of the text. `lower` is what it says, in lower case and with plain apostrophes."""

    text: str
    start: int
    end: int
    lower: str

    @property
    def is_word(self) -> bool:
        return self.text[0].isalnum()


class Mention(NamedTuple):
    """A place where the text names an option by its letter or its words.

    letters: the option's letter; several, as "A/B", for a list, or where letter and words contradict each other.
    start, end: the place in the text.
    next: the index of the first token after the mention, with the option's words where they follow the letter.
    words_end: where the option's own words end that follow; 0 without them.
    is_heading: it opens a line, and a mark sets it apart: "B. blue", "(B) because ...".
    """

    letters: str
    start: int
    end: int
    next: int
    words_end: int = 0
    is_heading: bool = False

    @property
    def has_words(self) -> bool:
        return self.words_end > 0


def split(text: str) -> list[Token]:
    """Split a text into tokens. Blanks are left out, each end of a line is a token."""
    return [
        Token(match[0], match.start(), match.end(), match[0].lower().replace("’", "'"))
        for match in _TOKEN.finditer(text)
    ]


def words_of(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text, in lower case."""
    return tuple(token.lower for token in split(text) if token.is_word)


class TokenRow:
    """Tokens in a row, and what stands beside one of them."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens

    def at(self, index: int) -> Token | None:
        return self.tokens[index] if 0 <= index < len(self.tokens) else None

    def said(self, index: int, end: int) -> str:
        """Return the tokens from `index` to `end` as plain words."""
        return " ".join(token.lower for token in self.tokens[max(0, index) : end])

    def first_before(self, index: int) -> str:
        """Return the last token before `index` that is not markup; "" at the beginning of the text."""
        index -= 1
        while index >= 0 and (self.tokens[index].text in MARKUP or self.tokens[index].text in "(（-•–"):
            index -= 1
        return self.tokens[index].lower if index >= 0 else ""

    def is_boundary(self, index: int) -> bool:
        """Tell whether a clause ends at `index`."""
        while index < len(self.tokens) and self.tokens[index].text in MARKUP:
            index += 1
        token = self.at(index)
        return token is None or not token.is_word or token.lower in moods.OPENERS


EAST_ASIAN = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
MARKUP = frozenset("*_~`\"'“”‘’«»「」『』【】[]{}$\\#>")
_WORD = rf"[^\W\d_{EAST_ASIAN}]"
_TOKEN = re.compile(
    rf"{beside.POSITION_EAST}|(?:(?!{beside.POSITION_EAST})[{EAST_ASIAN}])+"
    r"|\d+(?:[.,:/]\d+)*(?:%|[A-Za-z]{1,3}\b)?|[A-Z](?=['’]s\b)"
    rf"|{_WORD}+(?:['’]{_WORD}+)*|\n|\.\.+|[-=]+>|[^\w\s]|_"
)
