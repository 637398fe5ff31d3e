"""Replies while they come: what of a text can be shown before it is whole."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from p2r.dialogue import Decoding, Prompt, StreamingModel
from p2r.types import Completion

_TAGS = re.compile(r"</?(?:think|answer)>")
_THINK, _THOUGHT_END = "<think>", re.compile(r"</think>|<answer>")
_LONGEST_TAG = len("</think>")


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


def find_thought(text: str, *, is_whole: bool = False) -> str:
    """Return the reasoning in the tags at the beginning of a reply, as far as it is sure; "" where no tag is there.

    Args:
        is_whole: nothing follows the text.
    """
    text = text.lstrip()
    if not text.startswith(_THINK):
        return ""
    thought, end = text, _THOUGHT_END.search(text)
    if end is not None:
        thought = text[: end.start()]
    elif not is_whole and (start := text.rfind("<")) >= 0 and len(text) - start < _LONGEST_TAG:  # it may become a tag
        thought = text[:start]
    return strip_tags(thought)


def split_reply(reply: str, answer_at: int | None) -> tuple[str, str]:
    """Return the reasoning of a reply, and the text that is no part of it.

    Args:
        answer_at: where the answer stands, which all before it is reasoning for; None where there is none.
    """
    thought, text = find_thought(reply, is_whole=True), strip_tags(reply)
    if answer_at is not None:
        before = strip_tags(reply[:answer_at])
        thought = before if before.startswith(thought) else thought
    return thought, text.removeprefix(thought).strip()


def strip_tags(text: str) -> str:
    """Return a text without the tags of reasoning and answer."""
    return _TAGS.sub("", text).strip()


def find_before_stop(stops: tuple[str, ...]) -> Callable[[str], str]:
    """Return a function that finds what comes before every word of `stops`, as far as it is sure."""
    held = max(map(len, stops), default=1) - 1

    def find_sure(text: str) -> str:
        ends = [place for word in stops if (place := text.find(word)) >= 0]
        return text[: min(ends)] if ends else text[: max(0, len(text) - held)]

    return find_sure
