"""Which phases of a run share pre-rollouts, and what those are rewarded by.

With `data.difficulty.keep` a phase trains on rows that are easy or medium, whatever its own reward is: PeBR-R1 trains
perception on easy rows and reasoning on medium ones, both found in one measurement with the warmed-up model. So the
first phase that asks measures, with the checkpoint that it starts from, and later ones read what it has found.
"""

from __future__ import annotations

import json

from p2r.config.recipe import Phase, Recipe
from p2r.config.reward import RewardSettings

ABOUT_STEPS = {"group_size", "prompts_per_step", "prompts_at_once", "dynamic_sampling", "max_rounds"}
"""Settings of `rollout` that say what a step is made of; pre-rollouts do not depend on them."""


def as_measured(phase: Phase) -> Phase:
    """Return a phase with the reward of its pre-rollouts: right answers alone where it keeps rows by them."""
    rule = phase.data.difficulty
    if rule is None or rule.keep is None:
        return phase
    return phase.model_copy(update={"reward": RewardSettings(set="paper", judge=phase.reward.judge)})


def find_measuring_phase(recipe: Recipe, phase: Phase) -> Phase:
    """Return the phase whose pre-rollouts tell which rows a phase keeps: the first that asks the same, or itself."""
    rule = phase.data.difficulty
    if rule is None or rule.keep is None:
        return phase
    asked = _describe(phase)
    return next(each for each in recipe.rewarded_phases if _keeps(each) and _describe(each) == asked)


def _keeps(phase: Phase) -> bool:
    return phase.data.difficulty is not None and phase.data.difficulty.keep is not None


def _describe(phase: Phase) -> str:
    """Return what the pre-rollouts of a phase depend on, apart from the weights and what all phases share."""
    rule = phase.data.difficulty
    # Only needles are drawn by the seed of the data; that of other rows says in which order they come.
    unasked = {"difficulty", "skip_bad", *(() if phase.data.is_generated else ("seed",))}
    parts = [
        phase.kind,
        phase.base,
        rule.num_rollouts if rule is not None else None,
        phase.data.model_dump(mode="json", exclude=unasked),
        phase.rollout.model_dump(mode="json", exclude=ABOUT_STEPS),
        as_measured(phase).reward.model_dump(mode="json"),
    ]
    return json.dumps(parts)
