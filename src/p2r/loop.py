"""Blocking calls of asynchronous code, and calls of blocking code that can be left.

Blocking calls share one event loop for the process, in a thread of its own. They therefore work where a loop is running
already, as in a notebook, and no call starts a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from functools import cache, partial
from queue import Empty, SimpleQueue
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

Result = TypeVar("Result")
Item = TypeVar("Item")

MOST_AT_ONCE = (os.cpu_count() or 1) + 4
"""Works that `run_short` runs at a time. There are more than cores, as in Python's own pools: some wait for files."""
LONGEST_WAIT_S = 0.5
"""The seconds of one wait in `take`, and of others after which something is looked at."""
LONGEST_CLEANUP_S = 30.0
"""The seconds that an interrupted call may take to close its files."""


@cache
def blocking_loop() -> asyncio.AbstractEventLoop:
    """The event loop of blocking calls: one for the process."""
    return start_loop("p2r-loop")


def start_loop(name: str) -> asyncio.AbstractEventLoop:
    """Start an event loop in a daemon thread of this name."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=name, daemon=True).start()
    return loop


def run_blocking(work: Coroutine[object, object, Result]) -> Result:
    """Wait for `work` from code that is not asynchronous; also where an event loop is running, as in a notebook.

    An interrupt such as Ctrl-C cancels the work, and is raised when the work has cleaned up.
    """
    loop, outcome = blocking_loop(), SimpleQueue[asyncio.Task[Result] | None]()
    begun: list[asyncio.Task[Result]] = []

    def begin() -> None:
        begun.append(loop.create_task(work))
        begun[0].add_done_callback(outcome.put)

    def leave() -> None:
        if begun and not begun[0].done():
            begun[0].cancel()
        else:  # it has ended, or the interrupt came before it was handed over
            work.close()
            outcome.put(None)

    try:
        loop.call_soon_threadsafe(begin)
        ended = take(outcome)
    except BaseException:
        loop.call_soon_threadsafe(leave)
        with contextlib.suppress(Empty):
            outcome.get(timeout=LONGEST_CLEANUP_S)
        raise
    assert ended is not None, "only work that is left ends before it has begun"
    return ended.result()


def take(queue: SimpleQueue[Item]) -> Item:
    """Wait for the next item, so that Ctrl-C is heeded whenever it comes.

    One that comes just before a wait is not heeded until the wait has ended, so each is short. A wait of `threading`,
    such as that of `queue.Queue`, could be left with a lock that is broken.
    """
    while True:
        with contextlib.suppress(Empty):
            return queue.get(timeout=LONGEST_WAIT_S)


async def run_in_thread(work: Callable[[Callable[[], bool]], Result]) -> Result:
    """Run `work` in a thread, which stops early when its caller is cancelled.

    Args:
        work: is given a function to ask now and then: once it returns True, the caller has left and nobody wants the
            result. The caller waits until `work` has noticed, so that nothing is left running.
    """
    left = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, left.is_set))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        left.set()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # it counts as seen
        raise


async def run_apart(work: Callable[[], Result]) -> Result:
    """Run `work` in a daemon thread, which is left alone when its caller is cancelled: nothing waits for its end."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(cast("Result", result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="p2r-apart", daemon=True).start()
    return await outcome


_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def run_short(work: Callable[[], Result]) -> Result:
    """Run one of many short works, such as decoding an image, apart: MOST_AT_ONCE of an event loop at a time.

    Unlike `asyncio.to_thread`, it keeps neither the loop nor the process from ending while `work` is halfway.
    """
    slots = _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(MOST_AT_ONCE))
    async with slots:
        return await run_apart(partial(contextvars.copy_context().run, work))
