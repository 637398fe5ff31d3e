"""Blocking calls of asynchronous code."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from p2r.loop import (
    LONGEST_WAIT_S,
    MOST_AT_ONCE,
    blocking_loop,
    run_apart,
    run_blocking,
    run_in_thread,
    run_short,
    take,
)


async def name_thread() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def test_every_call_runs_in_one_thread_of_its_own() -> None:
    assert {run_blocking(name_thread()) for _ in range(3)} == {"p2r-loop"}


async def test_it_works_where_a_loop_is_running() -> None:
    assert run_blocking(name_thread()) == "p2r-loop"


def test_what_the_work_raises_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_blocking(fail())


def test_an_interrupted_call_waits_until_its_files_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, closed = threading.Event(), False

    async def work() -> None:
        nonlocal closed
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            time.sleep(0.05)
            closed = True

    def interrupt(_: object) -> None:
        assert begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr("p2r.loop.take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_blocking(work())
    assert closed


def test_a_wait_ends_now_and_then_so_that_an_interrupt_is_heeded() -> None:
    waits: list[float | None] = []

    class Late(SimpleQueue[str]):
        def get(self, block: bool = True, timeout: float | None = None) -> str:
            waits.append(timeout)
            if len(waits) < 3:
                raise Empty
            return "item"

    assert take(Late()) == "item"
    assert waits == [LONGEST_WAIT_S] * 3


@pytest.mark.parametrize("is_handed_over", [True, False])
def test_work_is_left_when_the_interrupt_comes_as_it_is_handed_over(
    is_handed_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, interrupts = blocking_loop(), [KeyboardInterrupt]
    hand_over = loop.call_soon_threadsafe

    def interrupt(*args: Any) -> object:  # noqa: ANN401
        handle = hand_over(*args) if is_handed_over or not interrupts else None
        if interrupts:
            raise interrupts.pop()
        return handle

    async def work() -> None:
        await asyncio.sleep(600)

    running = work()
    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_blocking(running)
    assert inspect.getcoroutinestate(running) == inspect.CORO_CLOSED


async def test_work_in_a_thread_is_told_when_its_caller_has_left_and_is_waited_for() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(left: Callable[[], bool]) -> str:
        begun.set()
        while not left():
            time.sleep(0.001)
        ended.set()
        raise ValueError("nobody hears this")

    task = asyncio.ensure_future(run_in_thread(work))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_work_in_a_thread_returns_or_raises_what_it_does() -> None:
    assert await run_in_thread(lambda left: left()) is False
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda _: 1 // 0)


async def test_work_apart_is_left_alone_when_its_caller_leaves() -> None:
    assert await run_apart(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await run_apart(lambda: 1 // 0)
    going = threading.Event()
    task = asyncio.ensure_future(run_apart(going.wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not going.is_set()
    going.set()


async def test_short_works_are_left_alone_and_few_of_them_run_at_a_time() -> None:
    going, held = list[int](), threading.Event()

    def work(number: int) -> bool:
        going.append(number)
        return held.wait(10)

    tasks = [asyncio.ensure_future(run_short(lambda number=number: work(number))) for number in range(50)]
    while len(going) < MOST_AT_ONCE:
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)
    assert len(going) == MOST_AT_ONCE and not held.is_set()
    held.set()


async def test_short_works_see_the_context_of_their_caller_and_raise_what_they_raise() -> None:
    name = contextvars.ContextVar("name", default="nobody")
    name.set("caller")
    assert await run_short(name.get) == "caller"
    assert await asyncio.gather(*(run_short(lambda each=each: each) for each in range(50))) == [*range(50)]
    with pytest.raises(ZeroDivisionError):
        await run_short(lambda: 1 // 0)
