"""The model that judges free answers in training: the frozen role, or one of its own behind a server.

The authors' release sends every free answer to a verifier. Here words that are equal are right without asking, and an
answer that was judged before is not sent again.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from p2r.config import JudgeSettings, Recipe, RewardSettings, as_measured
from p2r.dialogue import Decoding, Model
from p2r.errors import EndpointError, count_nouns
from p2r.judges import judge_for
from p2r.judges.model import DECODING
from p2r.models.server.lookup import list_models
from p2r.models.server.model import EndpointModel
from p2r.prompts import PromptSet
from p2r.training.lockstep import Partner
from p2r.training.memo import MemoModel, Replies
from p2r.types import Judge, Sample


@dataclass(frozen=True, slots=True)
class Verifier:
    """Gives each sample its judge. model: asked about free answers whose words differ; None for nobody."""

    prompts: PromptSet
    model: Model | None = None
    decoding: Decoding = DECODING

    def judge_for(self, sample: Sample) -> Judge:
        return judge_for(sample, self.model, self.prompts, decoding=self.decoding)


def open_verifier(reward: RewardSettings, partner: Partner, prompts: PromptSet, memo: Replies) -> Verifier:
    """Make the verifier that the settings name. Nothing is sent yet. A verdict that does not count needs no model."""
    if reward.judge == "words" or not reward.counts("correct"):
        return Verifier(prompts)
    if reward.judge == "partner":
        return Verifier(prompts, MemoModel(partner.model, memo, shares=False))
    judge = reward.judge
    model = MemoModel(_connect(judge), memo, shares=True)
    return Verifier(prompts, model, Decoding(max_new_tokens=judge.max_new_tokens))


async def check_judges(recipe: Recipe) -> None:
    """Make sure that every judging model is where the recipe says. Raises EndpointError."""
    phases = [each for phase in recipe.rewarded_phases for each in (phase, as_measured(phase))]
    found = [phase.reward.judge for phase in phases if phase.reward.counts("correct")]
    for judge in dict.fromkeys(each for each in found if isinstance(each, JudgeSettings)):
        await asyncio.to_thread(_look_for, judge)


def _look_for(judge: JudgeSettings) -> None:
    url, name = judge.address
    try:
        _, names = list_models(url, os.environ.get("OPENAI_API_KEY", ""))
    except EndpointError as error:
        raise EndpointError(
            f"the judge of free answers, reward.judge.url = {url}, cannot be asked: {error.message}",
            hint='serve a judging model there; or set reward.judge = "words" to judge without one',
        ) from error
    if (name and name not in names) or (not name and len(names) != 1):
        found = f"no model {name!r}" if name else count_nouns(len(names), "model")
        raise EndpointError(
            f"the judge of free answers, {url}, has {found}",
            hint=f"set reward.judge.model to one of {', '.join(names[:20])}",
        )


def _connect(judge: JudgeSettings) -> EndpointModel:
    spec = "#".join(filter(None, judge.address))
    return EndpointModel.connect(spec, concurrency=judge.concurrency, timeout_s=judge.timeout_s)
