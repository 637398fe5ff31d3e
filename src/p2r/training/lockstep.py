"""Many walks, one frozen model, and the same batches every time.

Rounding depends on which prompts share a batch, and it can decide a near tie between two tokens. If calls were batched
as they happen to arrive, a resumed run would differ from an uninterrupted one. So walks are started in rounds of a
fixed size, run until each of them waits for the model or has ended, and are then answered together. A server batches
as it likes, so walks are sent to it freely.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from p2r.dialogue import Decoding, Model, ModelProfile, Prompt
from p2r.errors import P2RError
from p2r.loop import run_in_thread
from p2r.types import Completion

Result = TypeVar("Result")
Walk = Callable[[], Awaitable[Result]]

_index: ContextVar[int] = ContextVar("index of the walk that asks")


class Partner(Protocol):
    """The frozen role, as something that answers, and that runs the walks that ask it."""

    @property
    def model(self) -> Model:
        """The model that roles ask, only within `run`."""
        ...

    @property
    def is_elsewhere(self) -> bool:
        """True if it answers while this process does other work, so that several `run` may be under way."""
        ...

    async def run(self, walks: Sequence[Walk[Result]]) -> list[Result]:
        """Run walks to their ends and return their results in order. An exception ends all of them and is raised."""
        ...


class Guard(Protocol):
    """Awaits work, and raises a P2RError in its place when it is of no use to wait any longer."""

    async def __call__(self, work: Awaitable[Result]) -> Result: ...


class BatchModel(Protocol):
    """A model that replies to many prompts at once, always in the same way to the same prompts."""

    @property
    def name(self) -> str: ...

    @property
    def profile(self) -> ModelProfile: ...

    def complete_all(
        self, prompts: Sequence[Prompt], decoding: Decoding, abandoned: Callable[[], bool]
    ) -> Sequence[Completion | P2RError]:
        """Reply to each prompt. Once `abandoned` returns True, nobody wants the replies."""
        ...


class FreePartner:
    """A model that batches and bounds its calls itself: a server.

    num_at_once: the most walks under way, each of which holds its images.
    guard: awaits the walks, and leaves them when they cannot be answered any more; None to just await them.
    """

    is_elsewhere = True

    def __init__(self, model: Model, *, num_at_once: int, guard: Guard | None = None) -> None:
        self._model, self._guard = model, guard
        self._slots = asyncio.Semaphore(num_at_once)

    @property
    def model(self) -> Model:
        return self._model

    async def run(self, walks: Sequence[Walk[Result]]) -> list[Result]:
        async def run_one(walk: Walk[Result]) -> Result:
            async with self._slots:
                return await walk()

        work = finish_all([run_one(walk) for walk in walks])
        return await (work if self._guard is None else self._guard(work))


class LockstepPartner:
    """A local model, whose batches depend only on the walks.

    num_at_once: walks in a round.
    """

    is_elsewhere = False

    def __init__(self, model: BatchModel, *, num_at_once: int = 64) -> None:
        self._model = model
        self._num_at_once = num_at_once
        self._waiting: list[_Call] = []
        self._num_running = 0
        self._nobody_runs = asyncio.Event()

    @property
    def model(self) -> Model:
        return self

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def profile(self) -> ModelProfile:
        return self._model.profile

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Wait for the reply of the next batch. Raises what the model raises for this prompt."""
        return await self.ask(self._model, prompt, decoding)

    async def ask(self, model: BatchModel, prompt: Prompt, decoding: Decoding) -> Completion:
        """Wait for the reply of the next batch of some local model, which may be another one than `model`."""
        call = _Call(_index.get(), model, prompt, decoding, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._leave()
        return await call.reply

    def beside(self, model: BatchModel) -> Model:
        """Another local model that the walks may ask, in batches of its own."""
        return _Beside(self, model)

    async def run(self, walks: Sequence[Walk[Result]]) -> list[Result]:
        results: list[Result] = []
        for start in range(0, len(walks), self._num_at_once):
            results += await self._run_round(walks[start : start + self._num_at_once])
        return results

    async def _run_round(self, walks: Sequence[Walk[Result]]) -> list[Result]:
        async def run_one(index: int, walk: Walk[Result]) -> Result:
            _index.set(index)
            try:
                return await walk()
            finally:
                self._leave()

        self._waiting, self._num_running, self._nobody_runs = [], len(walks), asyncio.Event()
        tasks = [asyncio.ensure_future(run_one(index, walk)) for index, walk in enumerate(walks)]
        try:
            while await self._nobody_runs.wait() and self._waiting:
                await self._answer()
        except BaseException:
            await _cancel(tasks)
            raise
        return await finish_all(tasks)

    def _leave(self) -> None:
        """Note that a walk waits for the model, or has ended."""
        self._num_running -= 1
        if self._num_running == 0:
            self._nobody_runs.set()

    async def _answer(self) -> None:
        """Answer all waiting walks, in one batch for each model and decoding."""
        calls, self._waiting = sorted(self._waiting, key=lambda call: call.index), []
        self._num_running = len(calls)
        self._nobody_runs.clear()
        for key in dict.fromkeys(call.key for call in calls):
            asked = [call for call in calls if call.key == key]
            model, decoding = asked[0].model, asked[0].decoding
            replies = await run_in_thread(partial(model.complete_all, [call.prompt for call in asked], decoding))
            for call, reply in zip(asked, replies, strict=True):
                if isinstance(reply, P2RError):
                    call.reply.set_exception(reply)
                else:
                    call.reply.set_result(reply)


@dataclass(frozen=True, slots=True)
class _Call:
    """A prompt that waits for its reply. index: of its walk in the round."""

    index: int
    model: BatchModel
    prompt: Prompt
    decoding: Decoding
    reply: asyncio.Future[Completion]

    @property
    def key(self) -> tuple[int, Decoding]:
        """Calls with the same one share a batch."""
        return id(self.model), self.decoding


@dataclass(frozen=True, slots=True)
class _Beside:
    """A model that is asked in the rounds of a partner that plays another role."""

    partner: LockstepPartner
    batches: BatchModel

    @property
    def name(self) -> str:
        return self.batches.name

    @property
    def profile(self) -> ModelProfile:
        return self.batches.profile

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        return await self.partner.ask(self.batches, prompt, decoding)


async def finish_all(work: Iterable[Awaitable[Result]]) -> list[Result]:
    """Return all results, or raise the first exception, with nothing left running."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        await _cancel(tasks)
        raise


async def _cancel(tasks: Sequence[asyncio.Future[Result]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
