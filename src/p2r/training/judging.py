"""From sampled replies to rollouts with rewards: lines 10 to 13, 20, 21 and 24 to 27 of algorithm 1."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from p2r.config import Phase, Recipe
from p2r.dialogue import Decoding
from p2r.pipeline import walk_twice
from p2r.prompts import PromptSet
from p2r.roles import EvidenceReasoner, GivenPerceiver, Reasoner
from p2r.roles.given import GivenReasoner
from p2r.training.failures import FailureGauge, mask_unjudged
from p2r.training.groups import Rollout, RolloutStats, SampledReply
from p2r.training.lockstep import Partner, Walk
from p2r.training.memo import Memo, MemoReasoner, evidence_key
from p2r.training.rewards.reward import make_rewarder
from p2r.training.rewards.verifier import open_verifier
from p2r.types import Trace


class Judging:
    """Judges the replies of one phase.

    partner: the frozen role, which answers on box sets.
    memo: what it has said already.
    """

    def __init__(
        self,
        recipe: Recipe,
        phase: Phase,
        partner: Partner,
        prompts: PromptSet,
        memo: Memo,
        failures: FailureGauge,
        group_size: int,
    ) -> None:
        self._partner, self._failures, self._group_size = partner, failures, group_size
        decoding = Decoding(max_new_tokens=recipe.partner.max_new_tokens)
        reasoner = EvidenceReasoner(partner.model, prompts, decoding)
        self._reasoner = MemoReasoner(reasoner, memo, remembers=recipe.partner.memo)
        self._verifier = open_verifier(phase.reward, partner, prompts, memo.judged)
        self.rewarder = make_rewarder(recipe, phase)

    async def judge(self, replies: Sequence[SampledReply], stats: RolloutStats) -> list[Rollout]:
        """The rollouts of whole groups, one group after the other: replies rated, judged and rewarded."""
        replies = await self.rate(replies, stats)
        return await self.reward(replies, await self.walk(replies, stats), stats)

    async def rate(self, replies: Sequence[SampledReply], stats: RolloutStats) -> list[SampledReply]:
        """Ask reward functions about the replies alone, before anything is judged; they may veto some."""
        with stats.timing("rate"):
            return await self.rewarder.rate_replies(replies)

    async def walk(self, replies: Sequence[SampledReply], stats: RolloutStats) -> list[Trace]:
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

    async def reward(
        self, replies: Sequence[SampledReply], traces: Sequence[Trace | None], stats: RolloutStats
    ) -> list[Rollout]:
        """The rollouts of whole groups, one group after the other. A trace is None where there was no walk."""
        with stats.timing("rate"):
            rollouts = await self.rewarder.reward(replies, traces)
        # Without a walk there was no prompt, which was counted where it failed.
        self._failures.count(
            rollout.failure for rollout, trace in zip(rollouts, traces, strict=True) if trace is not None
        )
        places = range(0, len(rollouts), self._group_size)
        groups = [mask_unjudged(rollouts[place : place + self._group_size]) for place in places]
        return [stats.count(rollout) for group in groups for rollout in group]

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
            unasked = self.rewarder.is_vetoed(reply) or not self.rewarder.needs_answer
            key = (one.name, unasked, evidence_key(one.full_image.size, reply.perception.boxes))
            reasoner, judge = (None, None) if unasked else (self._reasoner, judge)

        async def walk() -> Trace:
            perceiver = GivenPerceiver(reply.perception)
            return await walk_twice(one.sample, perceiver, reasoner, judge, full_image=one.full_image)

        return key, walk
