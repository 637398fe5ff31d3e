"""What replies are worth: the walk that judges each, and the reward that follows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from p2r.config import Recipe
from p2r.dialogue import Decoding
from p2r.judges import judge_for
from p2r.pipeline import walk_twice
from p2r.prompts import PromptSet
from p2r.roles import EvidenceReasoner, GivenPerceiver, read_perception
from p2r.roles.given import GivenReasoner
from p2r.training.asking import Asked
from p2r.training.engines.base import Actor, as_completion
from p2r.training.engines.local.generate import Generated
from p2r.training.failures import FailureGauge
from p2r.training.groups import Rollout, RolloutStats
from p2r.training.lockstep import Partner, Walk
from p2r.training.memo import Memo, MemoReasoner, evidence_key
from p2r.training.reward import build_reward, judge_perception, judge_reply
from p2r.types import Completion, Judge, Perception, Sample, Trace


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sampled reply, and how it is judged.

    perception: its boxes, or those it answers on.
    walk: judges it. Attempts with the same key are judged by the walk of the first of them.
    """

    asked: Asked
    generated: Generated
    completion: Completion
    perception: Perception
    terms: Mapping[str, float]
    key: Hashable
    walk: Walk[Trace]


class Referee:
    """Judges the replies of one phase.

    actor: who sampled them. partner: who answers on boxes. memo: what that has answered.
    """

    def __init__(
        self,
        recipe: Recipe,
        actor: Actor,
        partner: Partner,
        prompts: PromptSet,
        failures: FailureGauge,
        memo: Memo,
    ) -> None:
        self._recipe, self._actor, self._partner, self._prompts = recipe, actor, partner, prompts
        self._failures = failures
        self._reward = build_reward(recipe.reward)
        decoding = Decoding(max_new_tokens=recipe.partner.max_new_tokens)
        reasoner = EvidenceReasoner(partner.model, prompts, decoding)
        self._reasoner = MemoReasoner(reasoner, memo, remembers=recipe.partner.memo)

    def is_vetoed(self, attempt: Attempt) -> bool:
        """Whether it is worth nothing, whatever the answer."""
        return self._reward.is_vetoed(attempt.terms)

    def attempt(self, asked: Asked, generated: Generated) -> Attempt:
        """A reply, and the walk that will judge it."""
        completion = as_completion(self._actor, asked.encoded, generated)
        if asked.perception is None:
            return self._attempt_boxes(asked, generated, completion)
        return self._attempt_answer(asked, generated, completion, asked.perception)

    def _attempt_boxes(self, asked: Asked, generated: Generated, completion: Completion) -> Attempt:
        """Answered by the frozen reasoner, unless a veto makes the answer count for nothing."""
        perception = read_perception(self._actor.name, completion, asked.prompt, self._actor.profile.frame)
        terms = judge_perception(perception)
        vetoed = self._reward.is_vetoed(terms)
        reasoner, judge = (None, None) if vetoed else (self._reasoner, self._judge_for(asked.sample))

        async def walk() -> Trace:
            return await walk_twice(
                asked.sample, GivenPerceiver(perception), reasoner, judge, full_image=asked.full_image
            )

        key = (asked.name, vetoed, evidence_key(asked.full_image.size, perception.boxes))
        return Attempt(asked, generated, completion, perception, terms, key, walk)

    def _attempt_answer(
        self, asked: Asked, generated: Generated, completion: Completion, perception: Perception
    ) -> Attempt:
        """Judged as it is."""
        judge = self._judge_for(asked.sample)

        async def walk() -> Trace:
            seeing, saying = GivenPerceiver(perception), GivenReasoner(completion)
            return await walk_twice(asked.sample, seeing, saying, judge, full_image=asked.full_image)

        terms, key = judge_reply(completion.text), (asked.name, completion.text)
        return Attempt(asked, generated, completion, perception, terms, key, walk)

    async def judge(self, attempts: Sequence[Attempt], stats: RolloutStats) -> list[Trace]:
        """The trace of each attempt; equal ones are walked once."""
        first: dict[Hashable, Attempt] = {}
        for attempt in attempts:
            first.setdefault(attempt.key, attempt)
        walked = await self._partner.run([attempt.walk for attempt in first.values()])
        traces = dict(zip(first, walked, strict=True))
        self._failures.count(trace.failure.message if trace.failure else "" for trace in traces.values())
        stats.num_walked += len(attempts)
        stats.num_unique += len(first)
        return [traces[attempt.key] for attempt in attempts]

    def settle(self, attempt: Attempt, trace: Trace | None, stats: RolloutStats) -> Rollout:
        """The rollout with its reward, which is None where it could not be judged."""
        generated, completion = attempt.generated, attempt.completion
        num_tokens = len(generated.token_ids)
        terms = dict(attempt.terms)
        if trace is not None and trace.verdict is not None:
            terms["correct"] = float(trace.verdict.correct)
        role = attempt.asked.role
        limit = self._recipe.rollout.max_new_tokens.of(role)
        failed = trace is None or trace.failure is not None
        reward = None if failed else self._reward.total(terms, num_tokens, limit)
        stats.num_rollouts += 1
        stats.num_failed += reward is None
        stats.num_truncated += not generated.ended
        stats.num_tokens += num_tokens
        if trace is not None and role == "perceiver":  # the boxes are the same, the labels and the words are its own
            trace = trace.model_copy(update={"perception": attempt.perception})
        return Rollout(generated.token_ids, generated.ended, completion.text, trace, reward, terms)

    def _judge_for(self, sample: Sample) -> Judge:
        by_model = self._recipe.reward.judge == "partner"
        return judge_for(sample, self._partner.model if by_model else None, self._prompts)
