"""From rows to judged groups: the active role is sampled, the other one is frozen, the answer decides.

Paper: section 3.3, algorithm 1. Perceiver phase: G box sets a row; the frozen reasoner answers on the evidence of each,
and a right answer is the reward. Reasoner phase: evidence from the frozen perceiver, computed once; G answers on it.
The controls that the literature asks for are the same halves put together otherwise: `joint` samples both roles and
rewards both with the one answer; `single-stage` samples answers to the whole image.

Everything is done once: an image is decoded and encoded once a row; box sets of a group that show the same pixels
(whatever their labels) are walked once; nothing that the frozen role has answered is asked again.

Failed is not wrong: what fails twice has the reward None and is masked out of its group. A row whose image, evidence
or prompt fails has no group at all. Both are counted, and too many of them stop the run.

Rows are rolled out `prompts_at_once` at a time. A frozen role behind a server answers on the evidence of one lot while
the policy samples the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from p2r.config import Phase, Recipe
from p2r.prompts import PromptSet
from p2r.training.asking import Asked, Asker, Looked, Opened
from p2r.training.engines.base import Actor
from p2r.training.evidence_store import EvidenceStore
from p2r.training.failures import FailureGauge
from p2r.training.groups import Group, Rolled, Rollout, RolloutStats
from p2r.training.judging import Attempt, Referee
from p2r.training.lockstep import Partner, finish_all
from p2r.training.memo import Memo
from p2r.types import Perception, Sample

Item = TypeVar("Item")

NOWHERE = Perception(source="none", boxes=())
"""What `single-stage` perceives: the whole image."""
LOTS_AT_ONCE = 2
"""Of rows, whose images are held; with a frozen role elsewhere."""


class Roller:
    """Rolls out one phase, one step at a time.

    actor: samples the active role.
    partner: the frozen role.
    evidence: where the frozen perceiver looks; needed in a reasoner phase.
    group_size: in place of the recipe's. purpose: what seeds depend on, in place of the phase's name. Both are for
        pre-rollouts.
    """

    def __init__(
        self,
        recipe: Recipe,
        phase: Phase,
        actor: Actor,
        partner: Partner,
        prompts: PromptSet,
        *,
        memo: Memo | None = None,
        evidence: EvidenceStore | None = None,
        group_size: int | None = None,
        purpose: str | None = None,
    ) -> None:
        self._recipe, self._phase, self._evidence = recipe, phase, evidence
        self._group_size = group_size or recipe.rollout.group_size
        self._failures = FailureGauge(recipe.partner.max_error_rate)
        self.memo = Memo() if memo is None else memo
        self._lots = asyncio.Semaphore(LOTS_AT_ONCE if partner.is_elsewhere else 1)
        self._sampling = asyncio.Lock()
        self._asker = Asker(recipe, actor, prompts, self._failures, purpose=purpose or phase.name)
        self._referee = Referee(recipe, actor, partner, prompts, self._failures, self.memo)

    async def roll_out(self, rows: Sequence[Sample], step: int) -> Rolled:
        """The groups of these rows, in their order.

        Raises:
            TooManyErrors: more of the latest answers could not be judged than the recipe allows.
            ModelError: the policy cannot sample.
        """
        rolled, memo, size = Rolled(), self.memo, self._recipe.rollout.prompts_at_once
        num_asked, num_reused = memo.num_asked, memo.num_reused
        lots = [rows[start : start + size] for start in range(0, len(rows), size)]
        for lot in await finish_all(self._roll_lot(lot, step) for lot in lots):
            rolled.extend(lot)
        self._failures.check()
        rolled.stats.num_partner_calls += memo.num_asked - num_asked
        rolled.stats.num_reused += memo.num_reused - num_reused
        return rolled

    async def roll_out_alive(
        self, draw: Callable[[int], Sequence[Sample]], num_prompts: int, step: int, *, max_rounds: int
    ) -> Rolled:
        """Dynamic sampling (DAPO): groups that teach something, drawing further rows in place of those that do not.

        Args:
            draw: gives so many further rows.
            num_prompts: how many groups are wanted; fewer come when `max_rounds` rounds do not give them.
        """
        rolled, num_alive = Rolled(), 0
        for _ in range(max_rounds):
            found = await self.roll_out(draw(num_prompts - num_alive), step)
            alive = found.find_alive()
            num_alive += len(alive)
            rolled.extend(found.keep(alive))
            if num_alive >= num_prompts:
                break
        return rolled

    async def _roll_lot(self, rows: Sequence[Sample], step: int) -> Rolled:
        async with self._lots:
            return await self._roll(rows, step)

    async def _roll(self, rows: Sequence[Sample], step: int) -> Rolled:
        stats, kind = RolloutStats(num_rows=len(rows)), self._phase.kind
        with stats.timing("prepare"):
            opened = _present(await self._asker.open_rows(rows))
        if kind in ("perceiver", "joint"):
            with stats.timing("prepare"):
                asked = _present(await self._asker.ask_where(opened))
        else:
            with stats.timing("perceive"):
                looked = await self._look(opened) if kind == "reasoner" else [_look_at(one, NOWHERE) for one in opened]
            with stats.timing("prepare"):
                asked = _present(await self._asker.ask_what(looked))
        stats.num_failed_rows = len(rows) - len(asked)
        if kind == "joint":
            return await self._roll_jointly(asked, step, stats)
        attempts = await self._sample(asked, self._group_size, step, stats)
        with stats.timing("judge"):
            traces = await self._referee.judge(attempts, stats)
        rollouts = [self._referee.settle(*pair, stats) for pair in zip(attempts, traces, strict=True)]
        return Rolled(_group(asked, rollouts, self._group_size), stats)

    async def _roll_jointly(self, asked: Sequence[Asked], step: int, stats: RolloutStats) -> Rolled:
        """Each box set of a group is answered once by the policy itself, and the answer rewards the two."""
        referee, size = self._referee, self._group_size
        looks = await self._sample(asked, size, step, stats)
        counting = {place: look for place, look in enumerate(looks) if not referee.is_vetoed(look)}
        with stats.timing("prepare"):
            answering = await self._asker.ask_what(
                [
                    Looked(
                        f"{look.asked.name}/{place % size}", look.asked.sample, look.asked.full_image, look.perception
                    )
                    for place, look in counting.items()
                ]
            )
        going = {place: one for place, one in zip(counting, answering, strict=True) if one is not None}
        answers = dict(zip(going, await self._sample(list(going.values()), 1, step, stats), strict=True))
        # A box set with an answer is judged by it; a vetoed one as it is; one whose evidence failed not at all.
        judged = {
            place: answers.get(place, look) for place, look in enumerate(looks) if place not in counting.keys() - going
        }
        with stats.timing("judge"):
            traces = dict(zip(judged, await referee.judge(list(judged.values()), stats), strict=True))
        rollouts = [referee.settle(look, traces.get(place), stats) for place, look in enumerate(looks)]
        follow = [
            Group(
                answer.asked.sample,
                "reasoner",
                answer.asked.encoded,
                (replace(referee.settle(answer, traces[place], stats), reward=rollouts[place].reward),),
                parent=(place // size, place % size),
            )
            for place, answer in answers.items()
        ]
        return Rolled([*_group(asked, rollouts, size), *follow], stats)

    async def _look(self, opened: Sequence[Opened]) -> list[Looked]:
        """Where the frozen perceiver looks; rows in which that fails are left out and counted."""
        assert self._evidence is not None, "a reasoner phase needs an evidence store"
        traces = await self._evidence.perceive([one.sample for one in opened], [one.full_image for one in opened])
        self._failures.count(trace.failure.message if trace.failure else "" for trace in traces)
        return [_look_at(one, trace.perception) for one, trace in zip(opened, traces, strict=True) if trace.perception]

    async def _sample(self, asked: Sequence[Asked], num_rollouts: int, step: int, stats: RolloutStats) -> list[Attempt]:
        """`num_rollouts` attempts at each, in order."""
        async with self._sampling:
            with stats.timing("sample"):
                sampled = await self._asker.sample(asked, num_rollouts, step)
        stats.num_prompt_tokens += sum(len(one.encoded.token_ids) for one in asked)
        return [self._referee.attempt(one, generated) for one, generated in sampled]


def _group(asked: Sequence[Asked], rollouts: Sequence[Rollout], size: int) -> list[Group]:
    return [
        Group(one.sample, one.role, one.encoded, tuple(rollouts[place * size : (place + 1) * size]))
        for place, one in enumerate(asked)
    ]


def _look_at(opened: Opened, perception: Perception) -> Looked:
    return Looked(opened.sample.id, opened.sample, opened.full_image, perception)


def _present(items: Sequence[Item | None]) -> list[Item]:
    return [item for item in items if item is not None]
