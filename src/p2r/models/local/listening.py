"""Tell the text of a reply while its tokens are generated, in another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""A token may end within a character; its text then ends with this."""


class Listener:
    """Hears the tokens of one reply, and tells its text piece by piece.

    Args:
        decode: makes text of tokens.
        on_text: told each piece, in the event loop in which this was made.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], on_text: Callable[[str], None]) -> None:
        self._decode, self._on_text = decode, on_text
        self._loop = asyncio.get_running_loop()
        self._tokens: list[int] = []
        self._said = ""

    def hear(self, place: int, token: int) -> None:
        """Hear a token and its place in the reply, from any thread. A batch that is run again says the same again."""
        self._loop.call_soon_threadsafe(self._take, place, token)

    def _take(self, place: int, token: int) -> None:
        if place != len(self._tokens):
            return
        self._tokens.append(token)
        text = self._decode(self._tokens)
        if text.startswith(self._said) and not text.endswith(UNFINISHED) and len(text) > len(self._said):
            self._on_text(text[len(self._said) :])
            self._said = text
