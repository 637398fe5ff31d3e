"""Lines 5 to 27 of algorithm 1: the active role is sampled, the other one is frozen, the answer decides.

Paper: section 3.3. Perceiver phase: G box sets for each row; the frozen reasoner answers on the evidence of each, and
a right answer is the reward. Reasoner phase: evidence from the frozen perceiver, computed once; G answers on it. The
controls put the same halves together in another way: `joint` samples both roles and rewards both with the one answer,
`answerer` samples answers to the whole image.

Nothing is done twice: an image is decoded and encoded once per row; box sets of a group that show the same pixels,
whatever their labels, are walked once; the frozen role is never asked again for what it has answered. Whatever fails is
tried once more.

Rows are rolled out `prompts_at_once` at a time. A frozen role behind a server answers on the evidence of one lot while
the policy samples the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from p2r.config import Phase, Recipe
from p2r.dialogue import Decoding
from p2r.evidence import gather
from p2r.images.budget import FullImage
from p2r.loop import run_in_thread
from p2r.pipeline import walk_twice
from p2r.prompts import PromptSet
from p2r.roles import EvidenceReasoner, GivenPerceiver, Reasoner, perceiver_prompt, read_perception, reasoner_prompt
from p2r.roles.given import GivenReasoner
from p2r.training.engines.base import Actor, as_completion, seed_rollouts
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.generate import Generated
from p2r.training.failures import FailureGauge, mask_unjudged
from p2r.training.groups import Asked, Group, Rolled, Rollout, RolloutStats, SampledReply
from p2r.training.lockstep import Partner, Walk, finish_all
from p2r.training.memo import EvidenceStore, Memo, MemoReasoner, evidence_key
from p2r.training.rewards.built_in import box_terms, form_terms
from p2r.training.rewards.reward import make_rewarder
from p2r.training.rewards.verifier import open_verifier
from p2r.training.stopping import StopRequest
from p2r.types import Perception, Sample, Trace

Made = TypeVar("Made")

NOWHERE = Perception(source="none", boxes=())
"""The perception of `answerer`: the whole image."""
LOTS_AT_ONCE = 2
"""Lots of rows whose images are held at the same time, with a frozen role elsewhere."""

OpenedRow = tuple[Sample, FullImage]


class Roller:
    """Rolls out one phase, one step at a time.

    actor: samples the active role.
    partner: the frozen role.
    evidence: where the frozen perceiver looks; needed in a reasoner phase.
    failures: counts what fails, for the caller to check. When None, a gauge of its own is checked after each call.
    group_size, purpose: G, and what seeds depend on, of pre-rollouts; by default the phase's own.
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
        failures: FailureGauge | None = None,
        group_size: int | None = None,
        purpose: str | None = None,
    ) -> None:
        self._phase, self._actor, self._partner, self._prompts = phase, actor, partner, prompts
        self._group_size = group_size or phase.rollout.group_size
        self._seed, self._purpose = recipe.seed, purpose or phase.purpose
        self._evidence = evidence
        self.memo = Memo() if memo is None else memo
        decoding = Decoding(max_new_tokens=recipe.partner.max_new_tokens)
        reasoner = EvidenceReasoner(partner.model, prompts, decoding)
        self._reasoner = MemoReasoner(reasoner, self.memo, remembers=recipe.partner.memo)
        self._verifier = open_verifier(phase.reward, partner, prompts, self.memo.judged)
        self._rewarder = make_rewarder(recipe, phase)
        self._failures, self._checks = failures or FailureGauge(recipe.partner.max_error_rate), failures is None
        self._lots = asyncio.Semaphore(LOTS_AT_ONCE if partner.is_elsewhere else 1)
        self._sampling = asyncio.Lock()

    async def roll_out(self, rows: Sequence[Sample], step: int) -> Rolled:
        """Line 6: the groups of all rows of a mini-batch, in their order.

        Raises:
            TooManyErrors: more of the latest rollouts could not be judged than the recipe allows.
            ModelError: the policy cannot sample.
        """
        rolled, memo, size = Rolled(), self.memo, self._phase.rollout.prompts_at_once
        num_asked, num_reused = memo.num_asked, memo.num_reused
        num_judged, num_judge_reused = memo.judged.num_asked, memo.judged.num_reused
        lots = [rows[start : start + size] for start in range(0, len(rows), size)]
        for lot in await finish_all(self._roll_lot(lot, step) for lot in lots):
            rolled.extend(lot)
        if self._checks:
            self._failures.check()
        rolled.stats.num_partner_calls += memo.num_asked - num_asked
        rolled.stats.num_reused += memo.num_reused - num_reused
        rolled.stats.num_judge_calls += memo.judged.num_asked - num_judged
        rolled.stats.num_judge_reused += memo.judged.num_reused - num_judge_reused
        return rolled

    async def roll_out_alive(
        self,
        draw: Callable[[int], Sequence[Sample]],
        num_prompts: int,
        step: int,
        world: World | None = None,
        stop: StopRequest | None = None,
    ) -> Rolled:
        """Dynamic sampling (DAPO): replace groups that teach nothing by those of further rows.

        The processes take turns together, so that they draw the rows that one process would draw.

        Args:
            draw: gives so many further rows, for all processes.
            num_prompts: groups that are wanted, of all processes; fewer come when `max_rounds` rounds, or the rows
                that there are, do not give them.
            world: shares each draw; this process alone when None.
            stop: ends a round in all processes when one of them is asked to stop or fails.
        """
        world, stop = world or World(), stop or StopRequest(lambda _: None)
        rolled, num_alive = Rolled(), 0
        for _ in range(self._phase.rollout.max_rounds):
            rows = draw(num_prompts - num_alive)
            found = await stop.run_together(self.roll_out(world.share(rows), step), world)
            alive = found.keep_alive(self._rewarder.find_merit)
            num_alive += sum(world.gather([sum(group.parent is None for group in alive.groups)]))
            rolled.extend(alive)
            if num_alive >= num_prompts or not rows:
                break
        return rolled

    async def _roll_lot(self, rows: Sequence[Sample], step: int) -> Rolled:
        """Lines 7, 15 and 23: what is sampled depends on the active role."""
        others = {"perceiver": self.sample_box_sets, "joint": self.sample_jointly}
        sample = others.get(self._phase.kind, self.sample_answers)
        async with self._lots:
            stats = RolloutStats(num_rows=len(rows))
            return Rolled(await sample(rows, step, stats), stats)

    async def sample_box_sets(self, rows: Sequence[Sample], step: int, stats: RolloutStats) -> list[Group]:
        """Lines 8 to 14: G box sets for each row, each answered by the frozen reasoner; rewarded by the answers."""
        asked = await self._ask_perceiver(await self._open(rows, stats), stats)  # line 8
        replies = await self._sample(asked, self._group_size, step, stats)  # line 9: B_i
        replies = await self._rate(replies, stats)
        traces = await self._walk(replies, stats)  # lines 10 to 12: Y_i
        rollouts = await self._reward(replies, traces, stats)  # lines 13, 24 to 27
        return self._group(asked, rollouts, stats)

    async def sample_answers(self, rows: Sequence[Sample], step: int, stats: RolloutStats) -> list[Group]:
        """Lines 16 to 22: G answers for each row, on evidence from the frozen perceiver; rewarded themselves."""
        looked = await self._perceive(await self._open(rows, stats), stats)  # line 16: B
        questions = [(sample.id, sample, full_image, perception) for (sample, full_image), perception in looked]
        asked = _present(await self._ask_reasoner(questions, self._group_size, stats))  # lines 17 and 18
        replies = await self._sample(asked, self._group_size, step, stats)  # line 19: Y_i
        replies = await self._rate(replies, stats)
        traces = await self._walk(replies, stats)
        rollouts = await self._reward(replies, traces, stats)  # lines 21, 24 to 27
        return self._group(asked, rollouts, stats)

    async def sample_jointly(self, rows: Sequence[Sample], step: int, stats: RolloutStats) -> list[Group]:
        """The control `joint`: the policy answers once on each of its own box sets, and the answer rewards the two."""
        size = self._group_size
        asked = await self._ask_perceiver(await self._open(rows, stats), stats)
        looks = await self._rate(await self._sample(asked, size, step, stats), stats)
        counting = {k: look for k, look in enumerate(looks) if not self._rewarder.is_vetoed(look)}
        questions = [
            (f"{look.asked.name}/{k % size}", look.asked.sample, look.asked.full_image, look.perception)
            for k, look in counting.items()
        ]
        follow_ups = zip(counting, await self._ask_reasoner(questions, 1, stats), strict=True)
        going = {k: one for k, one in follow_ups if one is not None}
        answers = dict(zip(going, await self._sample(list(going.values()), 1, step, stats), strict=True))
        # A box set with an answer is judged by it, a vetoed one as it is, one whose evidence failed not at all.
        judged = {k: answers.get(k, look) for k, look in enumerate(looks) if k not in counting.keys() - going}
        traces = dict(zip(judged, await self._walk(list(judged.values()), stats), strict=True))
        rollouts = await self._reward(looks, [traces.get(k) for k in range(len(looks))], stats)
        followers: list[Group] = []
        for k, answer in answers.items():
            rollout = replace(
                self._rewarder.make_rollout(answer, traces[k]), reward=rollouts[k].reward, failure=rollouts[k].failure
            )
            stats.count(rollout)
            one = answer.asked
            followers.append(Group(one.sample, "reasoner", one.encoded, (rollout,), parent=(k // size, k % size)))
        return [*self._group(asked, rollouts, stats), *followers]

    async def _open(self, rows: Sequence[Sample], stats: RolloutStats) -> list[OpenedRow]:
        """Decode the image of each row; rows whose image fails are left out."""

        def decode(row: Sample) -> OpenedRow:
            return row, FullImage(row.image.load())

        with stats.timing("prepare"):
            return _present(await self._failures.try_each(rows, decode, self._group_size))

    async def _ask_perceiver(self, rows: Sequence[OpenedRow], stats: RolloutStats) -> list[Asked]:
        """x = (I, T_p(Q)); rows whose prompt fails are left out."""

        def ask(row: OpenedRow) -> Asked:
            sample, full_image = row
            prompt = perceiver_prompt(self._prompts, sample, full_image, self._actor.profile.budget)
            return Asked(sample.id, sample, full_image, prompt, self._actor.encode(prompt))

        with stats.timing("prepare"):
            return _present(await self._failures.try_each(rows, ask, self._group_size))

    async def _perceive(self, rows: Sequence[OpenedRow], stats: RolloutStats) -> list[tuple[OpenedRow, Perception]]:
        """B of the frozen perceiver; rows in which it fails are left out. `answerer` perceives nothing."""
        with stats.timing("perceive"):
            if self._phase.kind == "answerer":
                return [(row, NOWHERE) for row in rows]
            assert self._evidence is not None, "a reasoner phase needs an evidence store"
            traces = await self._evidence.perceive([sample for sample, _ in rows], [image for _, image in rows])
            causes = [trace.failure.message for trace in traces if trace.failure]
            self._failures.count(causes * self._group_size)
            stats.frames.count(trace.perception for trace in traces)
            return [(row, trace.perception) for row, trace in zip(rows, traces, strict=True) if trace.perception]

    async def _ask_reasoner(
        self,
        questions: Sequence[tuple[str, Sample, FullImage, Perception]],
        num_replies: int,
        stats: RolloutStats,
    ) -> list[Asked | None]:
        """x = (I_a, I_c, Q) for each name, sample, image and box set; None where it fails."""

        def ask(question: tuple[str, Sample, FullImage, Perception]) -> Asked:
            name, sample, full_image, perception = question
            evidence = gather(full_image, perception.boxes)
            prompt = reasoner_prompt(self._prompts, sample, evidence, self._actor.profile.budget)
            return Asked(name, sample, full_image, prompt, self._actor.encode(prompt), perception)

        with stats.timing("prepare"):
            return await self._failures.try_each(questions, ask, num_replies)

    async def _sample(
        self, asked: Sequence[Asked], num_replies: int, step: int, stats: RolloutStats
    ) -> list[SampledReply]:
        """Draw `num_replies` replies to each prompt of one role, in order."""
        if not asked:
            return []
        settings, role = self._phase.rollout, asked[0].role
        decoding = Decoding(
            max_new_tokens=settings.max_new_tokens.of(role), temperature=settings.temperature, top_p=settings.top_p
        )
        purpose = f"{self._purpose}/{role}"
        seeds = [seed_rollouts(self._seed, purpose, step, one.name, num_replies) for one in asked]
        async with self._sampling:
            with stats.timing("sample"):
                encoded = [one.encoded for one in asked]
                groups = await run_in_thread(partial(self._actor.sample, encoded, decoding, seeds))
        stats.num_prompt_tokens += sum(len(one.encoded.token_ids) for one in asked)
        replies = [self._read(one, each) for one, group in zip(asked, groups, strict=True) for each in group]
        if role == "perceiver":
            stats.frames.count(reply.perception for reply in replies)
        return replies

    def _read(self, asked: Asked, generated: Generated) -> SampledReply:
        """A reply's boxes, or its answer, and the reward terms of its form."""
        completion = as_completion(self._actor, asked.encoded, generated)
        if asked.perception is not None:
            return SampledReply(asked, generated, completion, asked.perception, form_terms(completion.text))
        perception = read_perception(self._actor.name, completion, asked.prompt, self._actor.profile.frame)
        return SampledReply(asked, generated, completion, perception, box_terms(perception))

    async def _walk(self, replies: Sequence[SampledReply], stats: RolloutStats) -> list[Trace]:
        """Judge each reply by a walk; equal ones are walked once."""
        plans = [self._plan_walk(reply) for reply in replies]
        walks: dict[Hashable, Walk[Trace]] = {}
        for key, walk in plans:
            walks.setdefault(key, walk)
        with stats.timing("judge"):
            traces = dict(zip(walks, await self._partner.run(list(walks.values())), strict=True))
        stats.num_walked += len(replies)
        stats.num_unique += len(walks)
        return [traces[key] for key, _ in plans]

    def _plan_walk(self, reply: SampledReply) -> tuple[Hashable, Walk[Trace]]:
        """The walk that judges a reply, and a key that equal replies to a prompt share.

        An answer is judged as it is. On a box set the frozen reasoner answers, unless a veto makes the answer
        irrelevant, or the reward does not depend on it.
        """
        one = reply.asked
        judge = self._verifier.judge_for(one.sample)
        key: Hashable = (one.name, reply.completion.text)
        reasoner: Reasoner | None = GivenReasoner(reply.completion)
        if one.role == "perceiver":
            unasked = self._rewarder.is_vetoed(reply) or not self._rewarder.needs_answer
            key = (one.name, unasked, evidence_key(one.full_image.size, reply.perception.boxes))
            reasoner, judge = (None, None) if unasked else (self._reasoner, judge)

        async def walk() -> Trace:
            perceiver = GivenPerceiver(reply.perception)
            return await walk_twice(one.sample, perceiver, reasoner, judge, full_image=one.full_image)

        return key, walk

    async def _rate(self, replies: Sequence[SampledReply], stats: RolloutStats) -> list[SampledReply]:
        with stats.timing("rate"):
            return await self._rewarder.rate_replies(replies)

    async def _reward(
        self, replies: Sequence[SampledReply], traces: Sequence[Trace | None], stats: RolloutStats
    ) -> list[Rollout]:
        with stats.timing("rate"):
            rollouts = await self._rewarder.reward(replies, traces)
        # Without a walk there was no prompt, which was counted where it failed.
        self._failures.count(
            rollout.failure for rollout, trace in zip(rollouts, traces, strict=True) if trace is not None
        )
        places = range(0, len(rollouts), self._group_size)
        groups = [mask_unjudged(rollouts[place : place + self._group_size]) for place in places]
        return [stats.count(rollout) for group in groups for rollout in group]

    def _group(self, asked: Sequence[Asked], rollouts: Sequence[Rollout], stats: RolloutStats) -> list[Group]:
        """G rollouts per prompt; rows that did not come to a prompt are counted."""
        size, stats.num_failed_rows = self._group_size, stats.num_rows - len(asked)
        return [
            Group(one.sample, one.role, one.encoded, tuple(rollouts[place * size : (place + 1) * size]))
            for place, one in enumerate(asked)
        ]


def _present(items: Sequence[Made | None]) -> list[Made]:
    return [item for item in items if item is not None]
