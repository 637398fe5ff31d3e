"""Write tables of words, and patterns as lists of them."""

from __future__ import annotations

from typing import Final

OPTION: Final = r"(?<![A-Z/])(?P<letter>[A-Z](?:/[A-Z])*)"
"""An option, or a list of options."""


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text, which are divided by blanks."""
    return frozenset(words.split())


def any_of(phrases: str) -> str:
    """Return a pattern for one of several phrases, or patterns, which are divided by commas; the first has priority."""
    return f"(?:{'|'.join(phrase.strip() for phrase in phrases.split(','))})"
