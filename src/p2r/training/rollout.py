"""Lines 5 to 27 of algorithm 1: the active role is sampled, the other one is frozen, the answer decides.

Paper: section 3.3. Perceiver phase: G box sets for each row; the frozen reasoner answers on the evidence of each, and
a right answer is the reward. Reasoner phase: evidence from the frozen perceiver, computed once; G answers on it. The
controls put the same halves together in another way: `joint` samples both roles and rewards both with the one answer,
`answerer` samples answers to the whole image.

Nothing is done twice: an image is decoded and encoded once per row; box sets of a group that show the same pixels,
whatever their labels, are walked once; the frozen role is never asked again for what it has answered. Whatever fails is
tried once more.

Rows are prepared and judged in lots of `prompts_at_once`, and all lots of a step are sampled in one call, which grows
so many groups at a time. A frozen role behind a server perceives for later lots, and answers on earlier ones, while the
policy samples, and few lots hold images. One in this process does so before and after, as it may be the policy's own;
meanwhile only some images stay decoded (`Holding`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, TypeVar

from p2r.config import ActiveRole, Phase, Recipe
from p2r.dialogue import Decoding
from p2r.prompts import PromptSet
from p2r.roles import read_perception
from p2r.training.asking import Asking, EvidenceSource, Holding
from p2r.training.draw import Draw, Replies
from p2r.training.engines.base import Actor, Speaker, as_completion, seed_rollouts
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.generate import Generated, Wanted
from p2r.training.failures import FailureGauge
from p2r.training.groups import Asked, Group, Rolled, Rollout, RolloutStats, SampledReply
from p2r.training.judging import Judging
from p2r.training.lockstep import Partner, finish_all
from p2r.training.memo import Memo
from p2r.training.resting import RestingRole
from p2r.training.rewards.built_in import box_terms, form_terms
from p2r.training.stopping import StopRequest
from p2r.types import Sample

Made = TypeVar("Made")
Prepared: TypeAlias = "asyncio.Future[tuple[list[Asked], list[Replies]]]"
"""The prompts of a lot, and the replies to each."""


class Counted(Protocol):
    """Something that counts what becomes of it."""

    @property
    def stats(self) -> RolloutStats: ...


Given = TypeVar("Given", bound=Counted)


@dataclass(frozen=True, slots=True)
class Lot:
    """Rows that are prepared together and judged together."""

    rows: Sequence[Sample]
    stats: RolloutStats


@dataclass(slots=True)
class Look:
    """The box sets of a lot's rows, in `joint`.

    followed: a prompt for the answer on each box set that gets one, by the box set's place.
    failed: places of box sets whose evidence failed.
    """

    stats: RolloutStats
    asked: Sequence[Asked]
    replies: Sequence[SampledReply]
    followed: dict[int, Asked] = field(default_factory=dict[int, Asked])
    failed: set[int] = field(default_factory=set[int])


class Roller:
    """Rolls out one phase, one step at a time.

    actor: samples the active role.
    partner: the frozen role.
    evidence: where the frozen perceiver looks; needed in a reasoner phase.
    failures: counts what fails, for the caller to check. When None, a gauge of its own is checked after each call.
    group_size, purpose: G, and what seeds depend on, of pre-rollouts; by default the phase's own.
    resting: finds the replies of the resting role that are to be kept; None to keep none.
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
        evidence: EvidenceSource | None = None,
        failures: FailureGauge | None = None,
        group_size: int | None = None,
        purpose: str | None = None,
        resting: RestingRole | None = None,
    ) -> None:
        self._resting = resting
        self._phase, self._actor, self._is_elsewhere = phase, actor, partner.is_elsewhere
        self._group_size = size = group_size or phase.rollout.group_size
        self._seed, self._purpose = recipe.seed, purpose or phase.purpose
        self.memo = Memo() if memo is None else memo
        self._failures, self._checks = failures or FailureGauge(recipe.partner.max_error_rate), failures is None
        self._asking = Asking(phase, actor, prompts, evidence, self._failures, size)
        self._judging = Judging(recipe, phase, partner, prompts, self.memo, self._failures, size)

    async def roll_out(self, rows: Sequence[Sample], step: int) -> Rolled:
        """Line 6: the groups of all rows of a mini-batch, in their order.

        Raises:
            TooManyErrors: more of the latest rollouts could not be judged than the recipe allows.
            ModelError: the policy cannot sample.
        """
        rolled, memo, size = Rolled(), self.memo, self._phase.rollout.prompts_at_once
        num_asked, num_reused = memo.num_asked, memo.num_reused
        num_judged, num_judge_reused = memo.judged.num_asked, memo.judged.num_reused
        some = [rows[start : start + size] for start in range(0, len(rows), size)]
        lots = [Lot(each, RolloutStats(num_rows=len(each))) for each in some]
        others = {"perceiver": self.sample_box_sets, "joint": self.sample_jointly}
        sample = others.get(self._phase.kind, self.sample_answers)  # lines 7, 15 and 23
        for lot, groups in zip(lots, await sample(lots, step), strict=True):
            rolled.extend(Rolled(groups, lot.stats))
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
            alive = found.keep_alive(self._judging.rewarder.find_merit)
            num_alive += sum(world.gather([sum(group.parent is None for group in alive.groups)]))
            rolled.extend(alive)
            if num_alive >= num_prompts or not rows:
                break
        return rolled

    async def sample_box_sets(self, lots: Sequence[Lot], step: int) -> list[list[Group]]:
        """Lines 8 to 14: G box sets for each row, each answered by the frozen reasoner; rewarded by the answers."""

        async def ask(lot: Lot) -> list[Asked]:
            return await self._asking.for_boxes(lot.rows, lot.stats)  # line 8

        return await self._sample(lots, ask, self._judge, "perceiver", self._group_size, step)  # line 9: B_i

    async def sample_answers(self, lots: Sequence[Lot], step: int) -> list[list[Group]]:
        """Lines 16 to 22: G answers for each row, on evidence from the frozen perceiver; rewarded themselves."""

        async def ask(lot: Lot) -> list[Asked]:
            return await self._asking.for_answers(lot.rows, lot.stats)  # lines 16 to 18

        return await self._sample(lots, ask, self._judge, "reasoner", self._group_size, step)  # line 19: Y_i

    async def sample_jointly(self, lots: Sequence[Lot], step: int) -> list[list[Group]]:
        """The control `joint`: the policy answers once on each of its own box sets, and the answer rewards the two."""

        async def ask(lot: Lot) -> list[Asked]:
            return await self._asking.for_boxes(lot.rows, lot.stats)

        async def look(lot: Lot, asked: Sequence[Asked], replies: Sequence[SampledReply]) -> Look:
            return Look(lot.stats, asked, await self._judging.rate(replies, lot.stats))

        looks = await self._sample(lots, ask, look, "perceiver", self._group_size, step)
        return await self._sample(looks, self._follow, self._judge_both, "reasoner", 1, step)

    async def _follow(self, look: Look) -> list[Asked]:
        """Ask for an answer on each box set without a veto."""
        size = self._group_size
        counting = {k: each for k, each in enumerate(look.replies) if not self._judging.rewarder.is_vetoed(each)}
        questions = [
            (f"{each.asked.name}/{k % size}", each.asked.sample, each.asked.full_image, each.perception)
            for k, each in counting.items()
        ]
        follow_ups = zip(counting, await self._asking.on_boxes(questions, 1, look.stats), strict=True)
        look.followed = {k: one for k, one in follow_ups if one is not None}
        look.failed = {*counting.keys() - look.followed.keys()}
        return list(look.followed.values())

    async def _judge_both(self, look: Look, _: Sequence[Asked], replies: Sequence[SampledReply]) -> list[Group]:
        """A box set with an answer is judged by it, a vetoed one as it is, one whose evidence failed not at all."""
        stats, size = look.stats, self._group_size
        answers = dict(zip(look.followed, replies, strict=True))
        judged = {k: answers.get(k, each) for k, each in enumerate(look.replies) if k not in look.failed}
        traces = dict(zip(judged, await self._judging.walk(list(judged.values()), stats), strict=True))
        rollouts = await self._judging.reward(look.replies, [traces.get(k) for k in range(len(look.replies))], stats)
        followers: list[Group] = []
        for k, answer in answers.items():
            own = self._judging.rewarder.make_rollout(answer, traces[k])
            rollout = stats.count(replace(own, reward=rollouts[k].reward, failure=rollouts[k].failure))
            one = answer.asked
            followers.append(Group(one.sample, "reasoner", one.encoded, (rollout,), parent=(k // size, k % size)))
        for one in look.asked:
            one.full_image.free()  # while other lots are judged, which were asked together
        return [*self._group(look.asked, rollouts, stats), *followers]

    async def _judge(self, lot: Lot, asked: Sequence[Asked], replies: Sequence[SampledReply]) -> list[Group]:
        """Lines 10 to 13, 20 to 21 and 24 to 27."""
        groups = self._group(asked, await self._judging.judge(replies, lot.stats), lot.stats)
        if self._resting is None:
            return groups
        with lot.stats.timing("resting"):
            kept = await self._resting.find_all(asked, [group.rollouts for group in groups])
        return [replace(group, resting=reply) for group, reply in zip(groups, kept, strict=True)]

    async def _sample(
        self,
        lots: Sequence[Given],
        ask: Callable[[Given], Awaitable[list[Asked]]],
        finish: Callable[[Given, Sequence[Asked], Sequence[SampledReply]], Awaitable[Made]],
        role: ActiveRole,
        num_replies: int,
        step: int,
    ) -> list[Made]:
        """Draw replies to each prompt of one role, in one call for all lots, and return what `finish` makes of each."""
        if not lots:
            return []
        settings, made = self._phase.rollout, list[Made]()
        decoding = Decoding(
            max_new_tokens=settings.max_new_tokens.of(role), temperature=settings.temperature, top_p=settings.top_p
        )
        draw = Draw(self._actor, decoding, settings.prompts_at_once * self._group_size // num_replies)
        prepared: list[Prepared] = [asyncio.get_running_loop().create_future() for _ in lots]

        async def ask_all() -> None:
            holding = Holding()
            with draw.adding() as add:
                for lot, waiting in zip(lots, prepared, strict=True):
                    if self._is_elsewhere:
                        await draw.until_wanted()
                    asked = await ask(lot)
                    lot.stats.num_prompt_tokens += sum(len(one.encoded.token_ids) for one in asked)
                    if not self._is_elsewhere:
                        holding.hold(asked)
                    waiting.set_result((asked, add([self._want(one, role, num_replies, step) for one in asked])))

        async def sample_all() -> None:
            with lots[0].stats.timing("sample"):
                await draw.run()

        async def finish_one(lot: Given, waiting: Prepared) -> Made:
            shared, groups = await waiting
            asked = [*shared]
            shared.clear()  # so that a lot's images are freed when it has been judged, before the others are
            drawn = zip(asked, groups, strict=True)
            replies = [read_reply(self._actor, one, each) for one, group in drawn for each in await group]
            if role == "perceiver":
                lot.stats.frames.count(reply.perception for reply in replies)
            return await finish(lot, asked, replies)

        async def finish_all_lots() -> None:
            works = (finish_one(lot, waiting) for lot, waiting in zip(lots, prepared, strict=True))
            made.extend(await finish_all(works) if self._is_elsewhere else [await work for work in works])

        stages = (ask_all, sample_all, finish_all_lots)
        if self._is_elsewhere:
            await finish_all(stage() for stage in stages)
        else:
            for stage in stages:
                await stage()
        return made

    def _want(self, asked: Asked, role: ActiveRole, num_replies: int, step: int) -> Wanted:
        seeds = seed_rollouts(self._seed, f"{self._purpose}/{role}", step, asked.name, num_replies)
        return Wanted(asked.encoded, seeds)

    def _group(self, asked: Sequence[Asked], rollouts: Sequence[Rollout], stats: RolloutStats) -> list[Group]:
        """G rollouts per prompt; rows that did not come to a prompt are counted."""
        size, stats.num_failed_rows = self._group_size, stats.num_rows - len(asked)
        return [
            Group(one.sample, one.role, one.encoded, tuple(rollouts[place * size : (place + 1) * size]))
            for place, one in enumerate(asked)
        ]


def read_reply(actor: Speaker, asked: Asked, generated: Generated) -> SampledReply:
    """A reply's boxes, or its answer, and the reward terms of its form. actor: who gave it."""
    completion = as_completion(actor, asked.encoded, generated)
    if asked.perception is not None:
        return SampledReply(asked, generated, completion, asked.perception, form_terms(completion.text))
    perception = read_perception(actor.name, completion, asked.seen_wh, actor.profile.frame)
    return SampledReply(asked, generated, completion, perception, box_terms(perception))
