"""The resting role: the one that a phase does not train, and that the same weights play all the same.

One model plays both roles, so that what trains one moves the other. Measured with nano-base, a perceiver phase of 40
steps raised the accuracy with own boxes from .67 to .83, and the reasoner phase after it took that back to .76. Not in
the paper: `loss.resting_kl_coef` keeps the resting role where it was when the phase began; see `loss`.

What it would say is known. In a perceiver phase the frozen copy answers on the box sets, in a reasoner phase it has
named the boxes that answers look at. One reply of it is kept for each row of a step: the answer on the first box set
that got one, or the boxes. More would cost more than the update itself, since prompts of the reasoner are long.

A reply is kept as the tokens of its text. They are those that the copy drew, unless it spelled the text in another way
than the tokenizer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from p2r.config import Recipe
from p2r.dialogue import Budget, Prompt
from p2r.errors import ConfigError
from p2r.evidence import gather
from p2r.loop import run_short
from p2r.models.local.encoding import PromptEncoder
from p2r.prompts import PromptSet, find_special_token
from p2r.roles import perceiver_prompt, reasoner_prompt
from p2r.training.groups import Asked, RestingReply, Rollout
from p2r.training.rewards.reward import make_rewarder
from p2r.types import Completion


def check_resting(recipe: Recipe) -> None:
    """Make sure that the resting role replies in each phase that is to keep it.

    Raises:
        ConfigError: a perceiver phase's reward depends on no answer.
    """
    for phase in recipe.rewarded_phases:
        if phase.loss.resting_kl_coef and phase.kind == "perceiver" and not make_rewarder(recipe, phase).needs_answer:
            raise ConfigError(
                f"loss.resting_kl_coef keeps the reasoner where it was by its answers, and the reward of phase "
                f"{phase.name} asks for no answer",
                hint="loss.resting_kl_coef = 0 for this phase, or give reward.terms.correct a weight there",
            )


class RestingRole:
    """Finds the replies of the resting role that are to be kept.

    budget: of the images in its prompts.
    """

    def __init__(self, encoder: PromptEncoder, prompts: PromptSet, budget: Budget) -> None:
        self._encoder, self._prompts, self._budget = encoder, prompts, budget

    async def find_all(
        self, asked: Sequence[Asked], rollouts: Sequence[Sequence[Rollout]]
    ) -> list[RestingReply | None]:
        """A reply for each prompt of the active role; None where there is none.

        Args:
            rollouts: those of each prompt, with the walks that judged them.
        """
        pairs = zip(asked, rollouts, strict=True)
        return list(await asyncio.gather(*(run_short(partial(self._find, *pair)) for pair in pairs)))

    def _find(self, asked: Asked, rollouts: Sequence[Rollout]) -> RestingReply | None:
        found = self._look_back(asked) if asked.role == "reasoner" else self._find_answer(asked, rollouts)
        return None if found is None else self._encode(*found)

    def _look_back(self, asked: Asked) -> tuple[Prompt, Completion] | None:
        """The boxes that the answers look at, if a model has named them, and the prompt for them."""
        completion = asked.perception and asked.perception.completion
        if completion is None:
            return None
        return perceiver_prompt(self._prompts, asked.sample, asked.full_image, self._budget), completion

    def _find_answer(self, asked: Asked, rollouts: Sequence[Rollout]) -> tuple[Prompt, Completion] | None:
        """The answer on the first box set that got one, and the prompt for it."""
        for trace in (rollout.trace for rollout in rollouts):
            if trace is not None and trace.reasoning is not None:
                evidence = gather(asked.full_image, trace.boxes)
                return reasoner_prompt(self._prompts, asked.sample, evidence, self._budget), trace.reasoning
        return None

    def _encode(self, prompt: Prompt, reply: Completion) -> RestingReply | None:
        if find_special_token(reply.text):  # a server may write one out, and it would stand for something else
            return None
        end = self._encoder.end_token_ids[:1] if reply.finish_reason == "stop" else ()
        token_ids = (*self._encoder.tokenize(reply.text), *end)
        return RestingReply(self._encoder.encode(prompt), token_ids) if token_ids else None
