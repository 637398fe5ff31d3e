"""Sockets of vLLM's that outlive the death of the process at their other end.

vLLM talks to its processes through zmq, and libzmq 4.3.5 has two faults when one dies while it is written to. A message
that it has not read is kept, and whoever lets go of the socket's context later, such as the garbage collector, waits
forever for it to be read; closing the socket with a linger of 0 does not help. And where the socket is closed before
libzmq has seen that the other end is gone, it aborts this process ("Resource temporarily unavailable",
session_base.cpp).
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Any

NOTICE_S = 0.2
"""The seconds that libzmq is given to see that the other end is gone. It takes a thread some milliseconds."""

_lock = Lock()

if TYPE_CHECKING:

    class _Socket:
        type: int
        closed: bool

        def setsockopt(self, opt: int, value: int) -> None: ...

        def close(self, linger: int | None = None) -> None: ...

    class _Context:
        def socket(self, socket_type: int, *, socket_class: type[_Socket]) -> _Socket: ...


@contextmanager
def patient_sockets() -> Generator[None, None, None]:
    """Let asynchronous contexts of zmq that are made in the block make such sockets."""
    zmq: Any = sys.modules.get("zmq")
    if not hasattr(zmq, "asyncio"):  # vLLM imports both
        yield
        return
    with _lock:
        context: type[_Context] = zmq.asyncio.Context
        socket: type[_Socket] = zmq.asyncio.Socket

        class PatientSocket(socket):
            def close(self, linger: int | None = None) -> None:
                if not self.closed and self.type == zmq.ROUTER:  # the one that vLLM writes to
                    sleep(NOTICE_S)
                super().close(linger=linger)

        class PatientContext(context):
            def socket(self, socket_type: int, *, socket_class: type[_Socket] = PatientSocket) -> _Socket:
                made = super().socket(socket_type, socket_class=socket_class)
                made.setsockopt(zmq.LINGER, 0)
                return made

        zmq.asyncio.Context = PatientContext
        try:
            yield
        finally:
            zmq.asyncio.Context = context
