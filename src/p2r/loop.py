"""Blocking calls of asynchronous code: one event loop for the process, in a thread of its own.

So they work where a loop is running already, as in a notebook, and no call starts a loop of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from typing import TypeVar

Result = TypeVar("Result")


@cache
def blocking_loop() -> asyncio.AbstractEventLoop:
    """The event loop of blocking calls: one for the process, in a daemon thread."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="p2r-loop", daemon=True).start()
    return loop


def run_blocking(work: Coroutine[object, object, Result]) -> Result:
    """Wait for `work` from code that is not asynchronous; also where an event loop is running, as in a notebook."""
    future = asyncio.run_coroutine_threadsafe(work, blocking_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
