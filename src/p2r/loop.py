"""Blocking calls of asynchronous code: one event loop for the process, in a thread of its own.

They therefore work where a loop is running already, as in a notebook, and no call starts a loop of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from typing import TypeVar

Result = TypeVar("Result")

LONGEST_CLEANUP_S = 30.0
"""The seconds that an interrupted call may take to close its files."""


@cache
def blocking_loop() -> asyncio.AbstractEventLoop:
    """The event loop of blocking calls: one for the process, in a daemon thread."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="p2r-loop", daemon=True).start()
    return loop


def run_blocking(work: Coroutine[object, object, Result]) -> Result:
    """Wait for `work` from code that is not asynchronous; also where an event loop is running, as in a notebook.

    An interrupt such as Ctrl-C cancels the work, and is raised when the work has cleaned up.
    """
    ended = threading.Event()

    async def watch() -> Result:
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: ended.set())
        return await task

    future = asyncio.run_coroutine_threadsafe(watch(), blocking_loop())
    try:
        return future.result()
    except BaseException:
        if future.cancel():
            ended.wait(LONGEST_CLEANUP_S)
        raise
