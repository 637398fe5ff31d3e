"""One call of the policy for prompts that come lot by lot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from p2r.dialogue import Decoding
from p2r.errors import ModelError
from p2r.models.local.encoding import EncodedPrompt
from p2r.training.draw import Draw
from p2r.training.engines.local.generate import Generated, Wanted
from p2r.training.lockstep import finish_all

DECODING = Decoding(max_new_tokens=4)


@dataclass
class Slow:
    """Ends groups from the last to the first, when all prompts have come, unless told to hand one over at once."""

    at_once: bool = False
    calls: list[int] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)

    def sample(
        self, wanted: Iterable[Wanted], decoding: Decoding, num_at_once: int, abandoned: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Generated]]]:
        self.calls.append(num_at_once)
        late: list[tuple[int, list[Generated]]] = []
        try:
            for place, one in enumerate(wanted):
                if one.seeds == [13]:
                    raise ModelError("the policy cannot sample")
                group = [Generated((*one.prompt.token_ids, seed), True) for seed in one.seeds]
                if self.at_once:
                    yield place, group
                else:
                    late.append((place, group))
            yield from reversed(late)
        finally:
            self.left.set()


def want(number: int, *seeds: int) -> Wanted:
    return Wanted(EncodedPrompt((number,), (), (), ()), list(seeds))


def start(actor: Slow) -> Draw:
    policy: Any = actor
    return Draw(policy, DECODING, 3)


async def test_each_prompt_gets_its_own_replies_whatever_ends_first() -> None:
    actor = Slow()
    draw = start(actor)
    with draw.adding() as add:
        first, nothing = add([want(1, 5, 6), want(2, 7)]), add([])
        await asyncio.sleep(0)
        second = add([want(3, 8)])
    await draw.run()
    assert nothing == []
    tokens = [[reply.token_ids for reply in group.result()] for group in (*first, *second)]
    assert tokens == [[(1, 5), (1, 6)], [(2, 7)], [(3, 8)]]
    assert actor.calls == [3]


async def test_what_has_ended_is_there_before_later_prompts_come() -> None:
    draw, order = start(Slow(at_once=True)), list[str]()

    async def add_slowly() -> None:
        with draw.adding() as add:
            order.append(str((await add([want(1, 5)])[0])[0].token_ids))
            add([want(2, 6)])
            order.append("second")

    await finish_all([add_slowly(), draw.run()])
    assert order == ["(1, 5)", "second"]


async def test_prompts_are_wanted_while_fewer_wait_than_may_grow() -> None:
    draw = start(Slow())
    with draw.adding() as add:
        add([want(1, 5), want(2, 6)])
        await draw.until_wanted()
        add([want(3, 7), want(4, 8)])
        waiting = asyncio.ensure_future(draw.until_wanted())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        running = asyncio.ensure_future(draw.run())
        await waiting
    await running


async def test_a_policy_that_fails_ends_whoever_waits() -> None:
    draw = start(Slow())

    async def add_two() -> None:
        with draw.adding() as add:
            await add([want(1, 5), want(2, 13)])[0]

    with pytest.raises(ModelError, match="cannot sample"):
        await finish_all([add_two(), draw.run()])


async def test_prompts_that_fail_to_come_do_not_keep_the_policy_waiting() -> None:
    actor = Slow()
    draw = start(actor)

    async def fail() -> None:
        with draw.adding() as add:
            add([want(1, 5)])
            await asyncio.sleep(0.01)
            raise ModelError("no prompt")

    with pytest.raises(ModelError, match="no prompt"):
        await finish_all([fail(), draw.run()])
    assert actor.left.is_set()


async def test_a_draw_that_is_cancelled_leaves_nothing_running() -> None:
    actor = Slow()
    draw = start(actor)

    async def wait_for_ever() -> None:
        with draw.adding() as add:
            await add([want(1, 5)])[0]

    task = asyncio.ensure_future(finish_all([wait_for_ever(), draw.run()]))
    while not actor.calls:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(actor.left.wait, 30)
