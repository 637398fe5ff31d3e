"""Connections: replies are sent at once, and one that sends no whole request in time, or is one too many, is cut.

So nobody holds many open for nothing, and the process never runs out of files that it may open.
"""

from __future__ import annotations

import asyncio
import socket

from uvicorn.protocols.http.h11_impl import H11Protocol

from p2r.serving.settings import MOST_AT_ONCE, MOST_WAITING

MOST_CONNECTIONS = 2 * (MOST_AT_ONCE + MOST_WAITING)
"""Connections that are open at a time, some of them idle."""


class TimedProtocol(H11Protocol):
    """HTTP in which the head of a request must come in time; bodies and replies have limits of their own."""

    longest_head_s = 30.0
    most_open = MOST_CONNECTIONS
    _alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait, or cut one that is too many.

        A reply is written in two pieces. The kernel would hold back the second until the first is acknowledged, which
        takes 40 ms, and asyncio sees to that only for listeners that name their protocol, as uvicorn's do not.
        """
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.most_open:
            transport.close()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on, or no more where a request has come."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._rest()
        super().connection_lost(exc)

    @property
    def _is_waiting(self) -> bool:
        return not self.cycle or self.cycle.response_complete

    def _watch(self) -> None:
        if not self._is_waiting:
            self._rest()
        elif self._alarm is None:
            self._alarm = self.loop.call_later(self.longest_head_s, self._cut)

    def _rest(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _cut(self) -> None:
        self._alarm = None
        if self._is_waiting:
            self.transport.close()
