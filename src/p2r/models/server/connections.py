"""The HTTP clients of one server: one per event loop, because connections cannot move from one loop to another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import openai

from p2r.models.server.lookup import LOOKUP_TIMEOUT_S
from p2r.models.server.token_check import TextCounts


@dataclass(frozen=True, slots=True)
class Connection:
    """A client, its free slots, and what the server has counted, for one event loop."""

    client: openai.AsyncOpenAI
    slots: asyncio.Semaphore
    text_counts: TextCounts = field(default_factory=TextCounts)


class Connections:
    """The clients of one server.

    Args:
        concurrency: most requests under way at a time, in each event loop.
        timeout_s: longest wait for a reply.
    """

    def __init__(self, url: str, api_key: str, *, concurrency: int, timeout_s: float) -> None:
        self._url, self._api_key = url, api_key
        self._concurrency, self._timeout_s = concurrency, timeout_s
        self._open: dict[asyncio.AbstractEventLoop, tuple[Connection, AsyncGenerator[Connection, None]]] = {}

    async def get(self) -> Connection:
        """Return the connection of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._open:
            held = self._hold(loop)
            self._open[loop] = await anext(held), held
        return self._open[loop][0]

    async def _hold(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Connection, None]:
        """Yield what is closed with its loop: `asyncio.run` ends open generators before it closes the loop."""
        timeout = openai.Timeout(self._timeout_s, connect=min(LOOKUP_TIMEOUT_S, self._timeout_s))
        async with openai.AsyncOpenAI(
            base_url=self._url, api_key=self._api_key or "none", max_retries=0, timeout=timeout
        ) as client:
            try:
                yield Connection(client, asyncio.Semaphore(self._concurrency))
            finally:
                del self._open[loop]
