"""The text of a reply is told while its tokens come, from another thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from p2r.models.local.listening import Listener

TOKENS = ["Stra", "\ufffd", "ße", " is", "", " here"]


def decode(tokens: Sequence[int]) -> str:
    """The second token ends within a character, which the third completes."""
    text = "".join(TOKENS[token] for token in tokens)
    return text if len(tokens) == 2 else text.replace("\ufffd", "")


async def tell(places: list[int]) -> list[str]:
    told: list[str] = []
    listener = Listener(decode, told.append)

    def generate() -> None:
        for place in places:
            listener.hear(place, place)

    thread = threading.Thread(target=generate)
    thread.start()
    await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)
    return told


async def test_each_piece_is_told_once_and_no_half_character() -> None:
    assert await tell([0, 1, 2, 3, 4, 5]) == ["Stra", "ße", " is", " here"]


async def test_a_batch_that_is_run_again_says_nothing_twice() -> None:
    assert "".join(await tell([0, 1, 2, 0, 1, 2, 3, 4, 5])) == "Straße is here"
