"""Lines 24 to 27 of algorithm 1: the reward of a rollout, named terms that are weighted and summed, or zero by a veto.

Paper: equation 3 rewards a right answer and nothing else: the set "paper". The authors' release also gives nothing
for boxes of which two overlap or one has no label: the set "release". Other terms are off unless a recipe names them.

Terms are found out in two goes: those that look at the reply alone before anybody is asked, so that a veto saves the
asking, and those that look at the answer after it. A term that counts and is not known masks the rollout.

Departure from the release: an untagged answer is never guessed from its first capital letter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from p2r.answers.sections import DESCRIPTION, HEADINGS, find_section
from p2r.config import CAPTION_TERM, ActiveRole, JudgeSettings, Phase, Recipe, RewardSettings, applies_to
from p2r.prompts import load_prompt_set
from p2r.training.groups import Rollout, SampledReply
from p2r.training.rewards.built_in import answer_terms, gold_terms
from p2r.training.rewards.captions import find_captions, make_caption_term
from p2r.training.rewards.find import OwnTerm, find_terms
from p2r.training.rewards.rate import Rater, Rating
from p2r.training.rewards.rated import Rated
from p2r.types import Trace

HEADED_TERMS = ("sections", CAPTION_TERM)
"""Terms that look for headings in a reply."""


def make_rewarder(recipe: Recipe, phase: Phase) -> Rewarder:
    """Make what rewards the rollouts of a phase. Raises ConfigError for a reward function that cannot be used."""
    limit = phase.rollout.max_new_tokens.of(phase.rated_role)
    functions = find_terms(phase.reward, recipe.folder)
    if (captions := find_captions(phase)) is not None:
        functions.append(make_caption_term(captions, recipe.model.device))
    return Rewarder(phase.reward, phase.rated_role, functions, limit)


class Rewarder:
    """Rewards the replies of one role.

    functions: those that the settings name, the user's and the one that compares descriptions with images.
    needs_verdict, needs_answer: whether the reward depends on the verdict on an answer, or on an answer.
    """

    def __init__(
        self, settings: RewardSettings, role: ActiveRole, functions: Sequence[OwnTerm], max_new_tokens: int
    ) -> None:
        self._settings, self._max_new_tokens = settings, max_new_tokens
        self._role: ActiveRole = role
        self._early = Rater([term for term in functions if not term.needs_answer])
        self._late = Rater([term for term in functions if term.needs_answer])
        self.needs_verdict = settings.counts("correct")
        self.needs_answer = self.needs_verdict or any(
            term.needs_answer and settings.counts(term.name) for term in functions
        )

    async def rate_replies(self, replies: Sequence[SampledReply]) -> list[SampledReply]:
        """Add the terms that look at the replies alone."""
        ratings = await self._early.rate([self._describe(reply) for reply in replies])
        return [
            replace(reply, terms={**reply.terms, **self._compare(reply), **rating.values}, faults=rating.faults)
            for reply, rating in zip(replies, ratings, strict=True)
        ]

    @property
    def asks_partner(self) -> bool:
        """Tell whether the frozen role is asked for anything that is rewarded."""
        is_judge = self._settings.judge == "partner" and self.needs_verdict
        return is_judge or (self._role == "perceiver" and self.needs_answer)

    def is_vetoed(self, reply: SampledReply) -> bool:
        """Tell whether a reply is worth nothing whatever the answer, so that nobody has to be asked for it."""
        return is_vetoed(reply.terms, self._settings)

    async def reward(self, replies: Sequence[SampledReply], traces: Sequence[Trace | None]) -> list[Rollout]:
        """Line 26: the replies as rollouts with their rewards r_i, which are None where they cannot be told.

        Args:
            traces: the walk that judged each reply; None when there was none.
        """
        own = [_restore_labels(*pair) for pair in zip(replies, traces, strict=True)]
        asked = [
            place
            for place, (reply, trace) in enumerate(zip(replies, own, strict=True))
            if trace is not None and trace.answer is not None and not self.is_vetoed(reply)
        ]
        found = await self._late.rate([self._describe(replies[place], own[place]) for place in asked])
        ratings = dict(zip(asked, found, strict=True))
        return [
            self.make_rollout(reply, trace, ratings.get(place))
            for place, (reply, trace) in enumerate(zip(replies, own, strict=True))
        ]

    def make_rollout(self, reply: SampledReply, trace: Trace | None, rating: Rating | None = None) -> Rollout:
        """Sum up what is known of a reply.

        Args:
            rating: what the functions that look at the answer think of it.
        """
        rating = rating or Rating()
        generated, terms = reply.generated, {**reply.terms, **rating.values}
        if trace is not None and trace.verdict is not None:
            terms["correct"] = float(trace.verdict.correct)
        faults = {} if is_vetoed(terms, self._settings) else {**reply.faults, **rating.faults}
        failure = self._find_failure(trace, faults)
        reward = None
        if not failure:
            reward = total_reward(terms, self._settings, self._role, len(generated.token_ids), self._max_new_tokens)
            failure = "" if reward is not None else "not all terms of its reward are known"
        return Rollout(
            token_ids=generated.token_ids,
            ended=generated.ended,
            text=reply.completion.text,
            trace=trace,
            reward=reward,
            terms=terms,
            failure=failure,
            logprobs=generated.logprobs,
        )

    def find_merit(self, rollout: Rollout) -> float | None:
        """Return what dynamic sampling compares: right or wrong, or the reply's worth where the answer has no weight.

        A reply that is vetoed is worth nothing. How long it is does not count. None where there is no reward.
        """
        if rollout.reward is None:
            return None
        if self._settings.active_terms.get("correct") and not is_vetoed(rollout.terms, self._settings):
            return rollout.terms["correct"]
        settings = self._settings.model_copy(update={"overlong": 0.0})
        return total_reward(rollout.terms, settings, self._role, 0, self._max_new_tokens)

    def _find_failure(self, trace: Trace | None, faults: Mapping[str, str]) -> str:
        """Say why a reward cannot be told; "" when nothing is in its way."""
        if trace is None:
            return "its evidence or its prompt failed"
        if trace.failure is not None and (self.needs_verdict or trace.failure.stage != "judge"):
            return trace.failure.message
        return next((fault for name, fault in faults.items() if self._settings.counts(name)), "")

    def _compare(self, reply: SampledReply) -> dict[str, float]:
        """The terms that compare with what the row says, if they are asked for."""
        named = {*self._settings.active_terms, *self._settings.active_vetoes}
        sample = reply.asked.sample
        if reply.asked.role == "perceiver":
            found = gold_terms(reply.perception, sample)
        else:
            found = answer_terms(reply.completion.text, sample, len(reply.generated.token_ids))
        return {name: value for name, value in found.items() if name in named}

    def _describe(self, reply: SampledReply, trace: Trace | None = None) -> Rated:
        return Rated(
            sample=reply.asked.sample,
            full_image=reply.asked.full_image,
            role=reply.asked.role,
            reply=reply.completion.text,
            boxes=reply.perception.boxes,
            num_tokens=len(reply.generated.token_ids),
            max_new_tokens=self._max_new_tokens,
            answer=trace.answer if trace is not None else None,
            trace=trace,
        )


def find_unasked(phase: Phase) -> str:
    """Say that terms look for a heading that the prompts of a phase do not ask for; "" where they do."""
    counted = [name for name in HEADED_TERMS if phase.reward.counts(name) and applies_to(name, phase.rated_role)]
    if not counted:
        return ""
    prompts = load_prompt_set(phase.rollout.prompts)
    own = "thinking" if phase.role == "answerer" else "reasoner"
    asked = "\n".join(text for name, text in prompts.texts.items() if name in ("system", own) or "answer_" in name)
    wanted = HEADINGS if "sections" in counted else (DESCRIPTION,)
    unasked = next((heading for heading in wanted if find_section(asked, heading) is None), None)
    if unasked is None:
        return ""
    looks = "looks" if len(counted) == 1 else "look"
    return (
        f"{' and '.join(counted)} {looks} for {unasked!r}, which the prompts {prompts.name} do not ask for: only a "
        'model that was taught so writes it; an answerer is asked for it with rollout.prompts = "pebr_r1"'
    )


def describe_reward(phase: Phase) -> str:
    """Say in words what is rewarded in a phase."""
    settings, role = phase.reward, phase.rated_role
    terms = [f"{weight:g} x {name}" for name, weight in settings.active_terms.items() if applies_to(name, role)]
    vetoes = [name for name in settings.active_vetoes if applies_to(name, role)]
    parts = [" + ".join(terms)]
    if settings.overlong:
        parts.append(f"{settings.overlong:g} x the punishment of long replies")
    if vetoes:
        parts.append(f"0 for {' or '.join(vetoes)}")
    if (captions := find_captions(phase)) is not None:
        parts.append(f"descriptions are compared with the image by {captions.model}")
    if settings.counts("correct"):
        judge = settings.judge
        by = (
            f"the model at {judge.url}"
            if isinstance(judge, JudgeSettings)
            else {"partner": "the frozen role"}.get(judge)
        )
        parts.append(f"free answers are judged by {f'{by} where the words differ' if by else 'their words'}")
    return "; ".join(parts)


def total_reward(
    terms: Mapping[str, float], settings: RewardSettings, role: ActiveRole, num_tokens: int, max_new_tokens: int
) -> float | None:
    """The weighted sum of the terms, or 0 by a veto; None when a term that counts is unknown.

    Args:
        terms: those that are known, by name.
        role: terms that its replies do not have do not count.
        num_tokens: of the reply.
        max_new_tokens: the limit that it was sampled with.
    """
    overlong = settings.overlong
    length = overlong * punish_length(num_tokens, max_new_tokens, settings.overlong_buffer) if overlong else 0
    if is_vetoed(terms, settings):
        return 0.0 + length
    weights = {name: weight for name, weight in settings.active_terms.items() if weight and applies_to(name, role)}
    vetoes = [name for name in settings.active_vetoes if applies_to(name, role)]
    if any(name not in terms for name in (*weights, *vetoes)):
        return None
    return sum(weight * terms[name] for name, weight in weights.items()) + length


def is_vetoed(terms: Mapping[str, float], settings: RewardSettings) -> bool:
    """Tell whether a term makes the reward 0 whatever else is known."""
    return any(terms.get(name) for name in settings.active_vetoes)


def punish_length(num_tokens: int, max_new_tokens: int, buffer: float) -> float:
    """DAPO's soft punishment (arXiv 2503.14476, equation 13): 0 up to the buffer, -1 at the limit, a line between."""
    room = buffer * max_new_tokens
    return min(0.0, max(-1.0, (max_new_tokens - room - num_tokens) / room))


def _restore_labels(reply: SampledReply, trace: Trace | None) -> Trace | None:
    """Replies whose boxes are equal share a walk; labels and words are each reply's own."""
    if trace is None or reply.asked.role != "perceiver":
        return trace
    return trace.model_copy(update={"perception": reply.perception})
