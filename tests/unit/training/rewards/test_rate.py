"""Reward functions are asked, and what they cannot rate is a fault and never a number."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest
from PIL import Image

from p2r.errors import P2RWarning
from p2r.images.budget import FullImage
from p2r.training.rewards import Rated, batched
from p2r.training.rewards.find import OwnTerm
from p2r.training.rewards.rate import Rater, Rating
from p2r.training.rewards.rated import is_batched
from tests.fakes.training import make_sample

IMAGE = FullImage(Image.new("RGB", (8, 8)))


def rated(reply: str) -> Rated:
    return Rated(make_sample(), IMAGE, "reasoner", reply, (), len(reply), 100)


async def rate(
    function: Callable[..., object], *replies: str, parameters: tuple[str, ...] = ("reply",)
) -> list[Rating]:
    term = OwnTerm("a.py:f", function, parameters, is_batched(function), "")
    return await Rater([term]).rate([rated(reply) for reply in replies])


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (0.25, 0.25),
        (True, 1.0),
        (-2, -2.0),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (Decimal("0.1"), 0.1),
    ],
)
async def test_anything_that_is_a_number_is_one(value: object, number: float) -> None:
    (rating,) = await rate(lambda reply: value, "x")
    assert rating == Rating({"a.py:f": number}, {})


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "cannot tell"),
        (float("nan"), "returned nan, which is not finite"),
        (float("-inf"), "returned -inf, which is not finite"),
        ("0.5", "returned '0.5', which is not a number"),
        (b"1", "which is not a number"),
        ([1.0], "returned [1.0], which is not a number"),
        (1j, "returned 1j, which is not a number"),
        (np.zeros(3), "which is not a number"),
        ({}, "returned {}, which is not a number"),
    ],
)
async def test_anything_else_is_a_fault(value: object, fault: str) -> None:
    (rating,) = await rate(lambda reply: value, "x")
    assert rating.values == {}
    assert rating.faults["a.py:f"].startswith("the reward term a.py:f ") and fault in rating.faults["a.py:f"]


async def test_a_function_that_raises_rates_the_other_replies() -> None:
    def pick(reply: str) -> float:
        return {"good": 1.0}[reply]

    with pytest.warns(P2RWarning, match=r"the reward term a\.py:f raised KeyError in .*: 'bad'") as told:
        good, bad, worse = await rate(pick, "good", "bad", "worse")
    assert good.values == {"a.py:f": 1.0}
    assert "raised KeyError in line " in bad.faults["a.py:f"] and bad.faults["a.py:f"].endswith(" of test_rate.py")
    assert worse.faults == bad.faults and len(told) == 1


async def test_async_functions_are_awaited_side_by_side_and_may_fail() -> None:
    waiting = 0
    all_wait = asyncio.Event()

    async def ask(reply: str) -> float:
        nonlocal waiting
        waiting += 1
        if waiting == 3:
            all_wait.set()
        await all_wait.wait()
        return 1 / len(reply)

    with pytest.warns(P2RWarning, match="division by zero"):
        found = await rate(ask, "ab", "abcd", "")
    assert [rating.values for rating in found] == [{"a.py:f": 0.5}, {"a.py:f": 0.25}, {}]
    assert "raised ZeroDivisionError" in found[2].faults["a.py:f"]


async def test_a_function_runs_in_a_thread_and_never_twice_at_a_time() -> None:
    running, most, threads = 0, 0, set[int]()

    def slow(reply: str) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        threads.add(threading.get_ident())
        running -= 1
        return 1.0

    rater = Rater([OwnTerm("a.py:f", slow, ("reply",), False, "")])
    await asyncio.gather(*(rater.rate([rated("x")] * 20) for _ in range(4)))
    assert most == 1 and threading.get_ident() not in threads


async def test_a_slow_function_is_left_when_nobody_waits_for_it_any_more() -> None:
    begun, go_on, called = threading.Event(), threading.Event(), list[str]()

    def slow(reply: str) -> float:
        called.append(reply)
        begun.set()
        go_on.wait()
        return 1.0

    rater = Rater([OwnTerm("a.py:f", slow, ("reply",), False, "")])
    rating = asyncio.ensure_future(rater.rate([rated("x"), rated("y")]))
    while not begun.is_set():
        await asyncio.sleep(0)
    rating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rating
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "p2r-apart":
            thread.join()
    assert called == ["x"]


async def test_a_batched_function_gets_lists_and_returns_one() -> None:
    seen: list[object] = []

    @batched
    def rank(reply: list[str], num_tokens: list[int]) -> list[float | None]:
        seen.append((reply, num_tokens))
        return [float(num) if num else None for num in num_tokens]

    found = await rate(rank, "ab", "", "abcd", parameters=("reply", "num_tokens"))
    assert seen == [(["ab", "", "abcd"], [2, 0, 4])]
    assert [rating.values.get("a.py:f") for rating in found] == [2.0, None, 4.0]
    assert list(found[1].faults.values()) == ["the reward term a.py:f cannot tell"]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([1.0], "returned 1 value for 2 replies"),
        ([1.0, 2.0, 3.0], "returned 3 values for 2 replies"),
        (1.0, "returned 1.0 and not a list"),
        (None, "returned None and not a list"),
        ("ab", "returned 'ab' and not a list"),
    ],
)
async def test_a_batched_function_that_does_not_rate_each_reply_rates_none(value: object, fault: str) -> None:
    found = await rate(batched(lambda reply: value), "a", "b")
    assert [rating.faults for rating in found] == [{"a.py:f": f"the reward term a.py:f {fault}"}] * 2


async def test_a_batched_function_may_be_async_and_return_an_array() -> None:
    @batched
    async def rank(reply: list[str]) -> object:
        return np.array([len(each) for each in reply])

    assert [rating.values["a.py:f"] for rating in await rate(rank, "a", "bc")] == [1.0, 2.0]


async def test_a_batched_function_that_raises_rates_none() -> None:
    @batched
    def fail(reply: list[str]) -> list[float]:
        raise RuntimeError("no scorer")

    with pytest.warns(P2RWarning, match="no scorer"):
        found = await rate(fail, "a", "b")
    assert all("raised RuntimeError in line" in rating.faults["a.py:f"] for rating in found)


async def test_without_replies_nobody_is_asked() -> None:
    assert await rate(lambda reply: 1 / 0) == []
