"""Blocking calls of asynchronous code."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from p2r.loop import run_blocking


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

    monkeypatch.setattr("concurrent.futures.Future.result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_blocking(work())
    assert closed
