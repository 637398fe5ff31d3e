"""Groups of rollouts: each prompt is read once, and its G rollouts grow in one row, by G tokens per step.

`Engine.generate` for training. Keys and values of a prompt are computed, stored and read once per group instead of G
times; a rollout sees only its prompt and its own tokens. A group grows in one of a few slots (`slots.Slots`), and the
next prompt is read into a slot as soon as its group has ended. Limits, end tokens and sampling are the engine's. The
frozen role replies in the same way. A rollout's tokens depend on its own seed, not on which prompts or rollouts share
the batch (up to rounding, which is the device's own for each shape).

When no prompt waits any more, ended rollouts leave: once half of the groups, or half of the largest group, have ended.
With fixed shapes they stay.

Background: docs/performance.md.
"""

# torch is typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from operator import itemgetter
from typing import Any

import torch

from p2r.dialogue import Decoding
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Abandoned, Engine, GeneratedTokens, VisionLanguageModel
from p2r.models.local.sampling import Chosen
from p2r.training.engines.local.slots import Slots


@dataclass(frozen=True, slots=True)
class Generated:
    """A rollout's tokens, the end token included; `ended` is False when the token limit cut it off.

    logprobs: of each token in the distribution that it was drawn from; empty when decoding was greedy.
    """

    token_ids: tuple[int, ...]
    ended: bool
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prompt, and a seed for each reply to it. `Decoding.seed` is not read."""

    prompt: EncodedPrompt
    seeds: Sequence[int]


def generate_groups(
    engine: Engine,
    wanted: Iterable[Wanted],
    decoding: Decoding,
    num_at_once: int,
    abandoned: Callable[[], bool] = lambda: False,
    *,
    keep: bool = True,
    fixed_shapes: bool | None = None,
) -> Generator[tuple[int, list[Generated]], None, None]:
    """Draw replies to prompts, and yield each prompt's place with its replies as soon as the last of them has ended.

    Args:
        engine: `attention.install` was called on its model, which may be in training mode.
        wanted: all with equally many seeds. The next one is taken, and waited for, when a slot is free.
        num_at_once: slots: the most prompts whose replies grow at the same time.
        abandoned: called at each layer of a prefill and at each token.
        keep: the engine's sight keeps what it sees, for the update.
        fixed_shapes: every step is the same computation on the same memory. None for what the device likes: a GPU runs
            many small kernels, which can be replayed only so; on a CPU small shapes take less time.

    Raises:
        Abandoned: `abandoned` returned True.
    """
    fixed = engine.model.device.type == "cuda" if fixed_shapes is None else fixed_shapes
    was_training = engine.model.training
    engine.model.eval()  # in training mode, a model that checkpoints its layers drops the cache
    try:
        yield from _generate(engine, _Queue(wanted), decoding, num_at_once, abandoned, keep, fixed)
    finally:
        engine.model.train(was_training)


@torch.inference_mode()
def _generate(
    engine: Engine,
    waiting: _Queue,
    decoding: Decoding,
    num_at_once: int,
    abandoned: Callable[[], bool],
    keep: bool,
    fixed: bool,
) -> Generator[tuple[int, list[Generated]], None, None]:
    first = waiting.look(num_at_once)
    if not first:
        return
    slots = Slots(engine, len(first), len(first[0].seeds), decoding, keep=keep, fixed=fixed)
    growing: dict[int, _Group] = {}  # by slot
    while True:
        while fresh := waiting.take(slots.shape[0] - len(growing)):
            free = [slot for slot in range(slots.shape[0]) if slot not in growing][: len(fresh)]
            limits = [engine.limit(one.prompt, decoding) for _, one in fresh]
            groups = [_Group(place, len(one.seeds), limit) for (place, one), limit in zip(fresh, limits, strict=True)]
            growing.update(zip(free, groups, strict=True))
            chosen = slots.read(free, [one.prompt for _, one in fresh], [one.seeds for _, one in fresh], abandoned)
            yield from _grow(engine, slots, growing, free, chosen)
        if not growing:
            return
        if abandoned():
            raise Abandoned
        if not fixed:
            growing = _leave_out_ended(slots, growing, waiting)
        yield from _grow(engine, slots, growing, range(slots.shape[0]), slots.advance())


def _grow(
    engine: Engine, slots: Slots, growing: dict[int, _Group], which: Sequence[int], chosen: Chosen
) -> Iterator[tuple[int, list[Generated]]]:
    """Add the next token of each rollout in these slots. Groups that have ended leave their slots, and are yielded."""
    tokens_PG = chosen.ids_B.view(len(which), -1).tolist()
    logprobs_PG = tokens_PG if chosen.logprobs_B is None else chosen.logprobs_B.view(len(which), -1).tolist()
    for slot, tokens, logprobs in zip(which, tokens_PG, logprobs_PG, strict=True):
        if (group := growing.get(slot)) is None:
            continue
        group.grow(tokens, None if chosen.logprobs_B is None else logprobs, engine.end_token_ids)
        if not group.num_going:
            del growing[slot]
            slots.end(slot)
            yield group.place, group.finish()


def _leave_out_ended(slots: Slots, growing: dict[int, _Group], waiting: _Queue) -> dict[int, _Group]:
    """Leave out what has ended, if it is half of what a step computes and no prompt will take its place."""
    num_slots, width = slots.shape
    widest = max(group.num_going for group in growing.values())
    if (2 * len(growing) > num_slots and 2 * widest > width) or waiting.look(1):
        return growing
    slots.keep([*growing], [group.narrow(widest) for group in growing.values()])
    return dict(enumerate(growing.values()))


class _Queue:
    """Prompts in the order in which they come, and their places in it; taken only when somebody wants them."""

    def __init__(self, wanted: Iterable[Wanted]) -> None:
        self._coming, self._ready, self._num_taken = iter(wanted), deque[Wanted](), 0

    def look(self, most: int) -> list[Wanted]:
        """The next ones, waited for, or fewer when no more will come."""
        self._ready.extend(islice(self._coming, max(0, most - len(self._ready))))
        return [*islice(self._ready, most)]

    def take(self, most: int) -> list[tuple[int, Wanted]]:
        """The next ones, as `look` would show them, with their places."""
        taken = [*enumerate(self.look(most), start=self._num_taken)]
        self._num_taken += len(taken)
        for _ in taken:
            self._ready.popleft()
        return taken


class _Group:
    """A group that grows. place: of its prompt."""

    def __init__(self, place: int, num_rollouts: int, limit: int) -> None:
        self.place = place
        self._rollouts = [_Growing(limit) for _ in range(num_rollouts)]
        self._columns = self._rollouts  # those that still take part in steps, in the slot's order

    @property
    def num_going(self) -> int:
        return sum(rollout.going for rollout in self._columns)

    def grow(self, tokens: Sequence[int], logprobs: Sequence[float] | None, end_token_ids: frozenset[int]) -> None:
        for column, rollout in enumerate(self._columns):
            if rollout.going:
                rollout.grow(tokens[column], None if logprobs is None else logprobs[column], end_token_ids)

    def narrow(self, width: int) -> list[int]:
        """Keep so many columns and return which: growing ones first, filled up with ended ones."""
        kept = sorted(range(len(self._columns)), key=lambda column: not self._columns[column].going)[:width]
        self._columns = [self._columns[column] for column in kept]
        return kept

    def finish(self) -> list[Generated]:
        return [rollout.finish() for rollout in self._rollouts]


class _Growing:
    """A rollout that grows."""

    def __init__(self, limit: int) -> None:
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.ended = False
        self._limit = limit

    @property
    def going(self) -> bool:
        return not self.ended and len(self.tokens) < self._limit

    def finish(self) -> Generated:
        return Generated(tuple(self.tokens), self.ended, tuple(self.logprobs))

    def grow(self, token: int, logprob: float | None, end_token_ids: frozenset[int]) -> None:
        self.tokens.append(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        self.ended = token in end_token_ids


class FrozenEngine(Engine):
    """An engine that replies to each prompt once, as `Engine` does, from a cache with room ahead."""

    __slots__ = ()

    @classmethod
    def of(cls, engine: Engine, model: VisionLanguageModel) -> FrozenEngine:
        """The engine, with a model of the same kind."""
        parts: dict[str, Any] = {field.name: getattr(engine, field.name) for field in fields(Engine)}
        parts["model"] = model
        return cls(**parts)

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        decoding: Decoding,
        abandoned: Callable[[], bool] = lambda: False,
        first_ids: Sequence[int] = (),
        num_at_once: int | None = None,
        stops: Callable[[Sequence[int]], bool] | None = None,
    ) -> list[GeneratedTokens]:
        if first_ids or stops is not None:
            return Engine.generate(self, prompts, decoding, abandoned, first_ids, num_at_once, stops)
        seeds = [secrets.randbits(62) if decoding.seed is None else decoding.seed for _ in prompts]
        wanted = [Wanted(prompt, [seed]) for prompt, seed in zip(prompts, seeds, strict=True)]
        drawn = generate_groups(self, wanted, decoding, num_at_once or len(wanted), abandoned, keep=False)
        return [
            GeneratedTokens(one.token_ids[: -1 if one.ended else None], one.ended, len(one.token_ids))
            for _, [one] in sorted(drawn, key=itemgetter(0))
        ]
