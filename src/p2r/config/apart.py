"""Settings that keep the two roles of one model apart while one of them learns: where they have a meaning.

Plain PRA-GRPO has none of them, as in the paper. A server that samples is kept apart from one whose weights stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2r.config.recipe import Phase, Recipe


def check_apart(recipe: Recipe) -> None:
    """Make sure that there is a role at rest wherever one is to be kept. Raises ValueError."""
    if recipe.model.has_adapters_per_role:
        _check_adapters(recipe)
    for phase in recipe.rewarded_phases:
        if phase.loss.resting_kl_coef:
            _check_resting_kl(recipe, phase)
        _check_servers(recipe, phase)
    if recipe.loss.resting_kl_coef and not recipe.rewarded_phases:
        raise ValueError(
            "loss.resting_kl_coef keeps one role while replies of the other are rewarded, and the recipe has "
            "supervised phases alone: leave it out"
        )


def _check_adapters(recipe: Recipe) -> None:
    what = "model.lora.per_role gives the perceiver and the reasoner an adapter each, on model.source"
    if recipe.control != "none":
        raise ValueError(f"{what}, and the control {recipe.control} trains one policy: leave one of them out")
    for place, each in enumerate(recipe.schedule):
        if each.role == "answerer":
            raise ValueError(f"{what}, and schedule.{place} trains an answerer: leave one of them out")
        if each.source is not None:
            raise ValueError(f"{what}, and schedule.{place}.source is another base: leave one of them out")
    if any(phase.loss.resting_kl_coef for phase in recipe.rewarded_phases):
        raise ValueError(
            f"{what}, so that a phase leaves the other role as it is, and loss.resting_kl_coef has nothing to keep: "
            "leave one of them out"
        )


def _check_resting_kl(recipe: Recipe, phase: Phase) -> None:
    if phase.kind not in ("perceiver", "reasoner"):
        whose = f"the control {recipe.control}" if recipe.control != "none" else f"the phase {phase.name}"
        why = "trains both" if phase.kind == "joint" else "has no other role"
        raise ValueError(
            f"loss.resting_kl_coef keeps the role that a phase does not train, and {whose} {why}: set it to 0 there"
        )
    if not recipe.partner.has_own_weights:
        raise ValueError(
            "loss.resting_kl_coef keeps the other role as the trained weights play it, and partner.url may be "
            'another model: give partner.kind = "local", or a partner.launch with {checkpoint} in it'
        )


def _check_servers(recipe: Recipe, phase: Phase) -> None:
    """Make sure that no server is given the policy's weights in which others are expected."""
    judge = phase.reward.judge
    others = {"partner.url": recipe.partner.url, "reward.judge.url": None if isinstance(judge, str) else judge.url}
    for name, url in others.items():
        if url and phase.rollout.url and find_server(url) == find_server(phase.rollout.url):
            raise ValueError(
                f"rollout.url and {name} are one server, which is given the weights that learn: give it another port"
            )


def find_server(url: str) -> str:
    """Return the address of a server without its API's path and its model's name."""
    return url.partition("#")[0].rstrip("/").removesuffix("/v1")
