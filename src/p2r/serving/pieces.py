"""Replies while they come: what of a text can be shown before it is whole."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from p2r.dialogue import Decoding, Prompt, StreamingModel
from p2r.types import Completion

_TAG = re.compile(r"</?think>")
_ANSWER, _LONGEST_TAG = "<answer>", len("</think>")


async def stream_reply(
    model: StreamingModel, prompt: Prompt, decoding: Decoding, on_text: Callable[[str], Awaitable[None]]
) -> Completion:
    """Ask a model, and await `on_text` with each piece of its text. Raises as `complete` does."""
    pieces = asyncio.Queue[str | None]()
    asking = asyncio.ensure_future(model.stream(prompt, decoding, pieces.put_nowait))
    asking.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        while (piece := await pieces.get()) is not None:
            await on_text(piece)
        return await asking
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


class ShownText:
    """A text that grows, and the part of it that was shown.

    Args:
        find_sure: returns the beginning of a text that will stay as it is, whatever follows.
    """

    def __init__(self, find_sure: Callable[[str], str]) -> None:
        self._find_sure = find_sure
        self._text = self._shown = ""

    def add(self, piece: str) -> str:
        """Add a piece, and return what can be shown now."""
        self._text += piece
        return self.end_with(self._find_sure(self._text))

    def end_with(self, text: str) -> str:
        """Return what is left to be shown of a text; "" where another one was shown."""
        if not text.startswith(self._shown):
            return ""
        rest = text[len(self._shown) :]
        self._shown = text
        return rest


def find_thought(text: str) -> str:
    """Return the reasoning at the beginning of a reply without its tags, as far as it is sure."""
    thought, answer, _ = text.partition(_ANSWER)
    start = thought.rfind("<")
    if not answer and start >= 0 and len(thought) - start < _LONGEST_TAG:  # it may become a tag
        thought = thought[:start]
    return _TAG.sub("", thought).strip()


def find_before_stop(stops: tuple[str, ...]) -> Callable[[str], str]:
    """Return a function that finds what comes before every word of `stops`, as far as it is sure."""
    held = max(map(len, stops), default=1) - 1

    def find_sure(text: str) -> str:
        ends = [place for word in stops if (place := text.find(word)) >= 0]
        return text[: min(ends)] if ends else text[: max(0, len(text) - held)]

    return find_sure
