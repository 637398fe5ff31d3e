"""A request to stop, of one process or of one among several."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("torch")

from p2r.errors import ConfigError, TrainingError
from p2r.training.engines.local.distributed import World
from p2r.training.stopping import FAILED, FINE, STOPPED, Interrupted, StopRequest, StopRequested


@dataclass(frozen=True)
class Pair(World):
    """Two processes, of which the other one has the fate `other`."""

    size: int = 2
    other: int = FINE
    told: list[Any] = field(default_factory=list[Any])

    def gather(self, own: Sequence[Any]) -> list[Any]:
        self.told.extend(own)
        return [*own, self.other]


async def work() -> str:
    return "done"


async def fail() -> str:
    raise ConfigError("no")


async def wait_for_ever() -> str:
    await asyncio.Event().wait()
    return "never"


async def test_a_request_ends_the_work_under_way_and_is_told_once() -> None:
    said: list[str] = []
    stop = StopRequest(said.append)
    asyncio.get_running_loop().call_later(0.01, stop.make, signal.SIGTERM)
    with pytest.raises(StopRequested):
        await stop.run(wait_for_ever())
    with pytest.raises(StopRequested):
        await stop.run(wait_for_ever())  # what begins after a request is not begun
    assert len(said) == 1 and "asked to end by SIGTERM" in said[0]


async def test_the_innermost_work_is_left_and_what_is_around_it_cleans_up() -> None:
    stop, cleaned = StopRequest(print), list[str]()

    async def clean_up(inner: bool) -> None:
        try:
            await (stop.run(wait_for_ever()) if inner else wait_for_ever())
        except StopRequested:
            cleaned.append("inner")
            raise
        finally:
            cleaned.append("outer")

    for inner, expected in ((True, ["inner", "outer"]), (False, ["outer"])):
        stop.sign = None
        asyncio.get_running_loop().call_later(0.01, stop.make, signal.SIGINT)
        with pytest.raises(StopRequested):
            await stop.run(clean_up(inner))
        assert cleaned == expected
        cleaned.clear()


async def test_a_cancellation_that_nobody_requested_stays_one() -> None:
    task = asyncio.ensure_future(StopRequest(print).run(wait_for_ever()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("own", "other", "told", "expected"),
    [
        (work, FINE, FINE, None),
        (work, STOPPED, FINE, StopRequested),
        (work, FAILED, FINE, TrainingError),
        (fail, FINE, FAILED, ConfigError),
        (fail, STOPPED, FAILED, ConfigError),
    ],
)
async def test_processes_end_together(
    own: Callable[[], Coroutine[Any, Any, str]], other: int, told: int, expected: type[Exception] | None
) -> None:
    world, stop = Pair(other=other), StopRequest(print)
    if expected is None:
        assert await stop.run_together(own(), world) == "done"
    else:
        with pytest.raises(expected):
            await stop.run_together(own(), world)
    assert world.told == [told]


async def test_work_in_which_processes_talk_is_finished_before_it_stops() -> None:
    world, stop = Pair(), StopRequest(print)
    stop.make(signal.SIGINT)
    ended: list[bool] = []

    async def talk() -> None:
        await asyncio.sleep(0)
        ended.append(True)

    with pytest.raises(StopRequested):
        await stop.run_together(talk(), world, talks=True)
    assert ended == [True] and world.told == [STOPPED]
    with pytest.raises(StopRequested):
        await stop.run_together(talk(), World(), talks=True)
    assert ended == [True]  # alone, it is left at once


def test_handlers_are_put_back_and_a_second_signal_interrupts() -> None:
    before = [signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)]
    stop = StopRequest(print)
    with stop.heeding_signals():
        signal.raise_signal(signal.SIGTERM)
        assert stop.sign == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)] == before


def test_other_threads_leave_the_handlers_alone() -> None:
    seen: list[object] = []

    def look() -> None:
        with StopRequest(print).heeding_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_the_exit_code_is_that_of_the_signal() -> None:
    assert [Interrupted(sign, "").exit_code for sign in (signal.SIGINT, signal.SIGTERM)] == [130, 143]
    assert str(Interrupted(signal.SIGTERM, "step 3 is kept")) == "asked to end by SIGTERM; step 3 is kept"


async def test_work_that_keeps_the_loop_busy_can_ask_and_the_request_is_told_once() -> None:
    said: list[str] = []
    stop = StopRequest(said.append)
    stop.check()

    async def keep_busy() -> None:
        stop.make(signal.SIGINT)
        stop.check()

    with pytest.raises(StopRequested):
        await stop.run(keep_busy())
    await asyncio.sleep(0)
    assert said == ["interrupted: stopping; a second signal stops at once, without a checkpoint"]
