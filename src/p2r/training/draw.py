"""One call of the policy for prompts that come lot by lot, and whose groups of replies come back one by one.

So no slot of the sampler waits for the slowest group of a lot, and what came back is judged while the rest grows.
Prompts are taken in the order in which they came, and waited for: which of them share a batch never depends on the
clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeAlias

from p2r.dialogue import Decoding
from p2r.loop import run_in_thread
from p2r.training.engines.base import Actor
from p2r.training.engines.local.generate import Generated, Wanted

Replies: TypeAlias = "asyncio.Future[list[Generated]]"


class Draw:
    """Samples replies to all prompts that are added. `run` and the block of `adding` share one event loop.

    num_at_once: the most prompts whose replies grow at the same time.
    """

    def __init__(self, actor: Actor, decoding: Decoding, num_at_once: int) -> None:
        self._actor, self._decoding, self._num_at_once = actor, decoding, num_at_once
        self._coming = SimpleQueue[Wanted | None]()
        self._replies: list[Replies] = []
        self._num_taken, self._taken = 0, asyncio.Event()

    @contextmanager
    def adding(self) -> Generator[Callable[[Sequence[Wanted]], list[Replies]], None, None]:
        """Yield what adds prompts, and returns the replies to each of them. After the block no more will come."""
        try:
            yield self._add
        finally:
            self._coming.put(None)

    async def until_wanted(self) -> None:
        """Wait until fewer prompts wait than may grow at the same time. Only while `run` is under way."""
        while len(self._replies) - self._num_taken >= self._num_at_once:
            self._taken.clear()
            await self._taken.wait()

    async def run(self) -> None:
        """Sample until all prompts have their replies.

        Raises:
            ModelError: the policy cannot sample.
        """
        loop = asyncio.get_running_loop()

        def take() -> Wanted | None:
            one = self._coming.get()
            loop.call_soon_threadsafe(self._note_taken)
            return one

        def work(abandoned: Callable[[], bool]) -> None:
            for place, group in self._actor.sample(iter(take, None), self._decoding, self._num_at_once, abandoned):
                loop.call_soon_threadsafe(self._hand_back, place, group)

        await run_in_thread(work)

    def _add(self, wanted: Sequence[Wanted]) -> list[Replies]:
        loop = asyncio.get_running_loop()
        replies: list[Replies] = [loop.create_future() for _ in wanted]
        self._replies += replies
        for one in wanted:
            self._coming.put(one)
        return replies

    def _note_taken(self) -> None:
        self._num_taken += 1
        self._taken.set()

    def _hand_back(self, place: int, group: list[Generated]) -> None:
        if not self._replies[place].done():  # nobody waits for it any more
            self._replies[place].set_result(group)
