"""Operations that a phase takes at most, without a model: two for each weight and token of a forward pass.

As if every prompt and every reply were as long as it can get, and the frozen role rated every reply. Not counted:
attention scores, activations that are computed again, and pre-rollouts. See `p2r.training.watch.flops` for the
operations of an update that was made.
"""

from __future__ import annotations

from p2r.config import OTHER_ROLE, ActiveRole, Phase, Recipe
from p2r.training.plan.counts import PhaseCounts

FORWARD = 2.0
"""Operations of a forward pass, for each weight and token: a product and a sum."""


def sum_updates(forward: float, backward: float, *, num_updates: int, has_reference: bool) -> float:
    """Operations of all updates on one batch. has_reference: the KL term has a forward pass of its own."""
    return num_updates * (forward + backward) + (forward if has_reference else 0.0)


def estimate_flops(recipe: Recipe, phase: Phase, counts: PhaseCounts, num_weights: int) -> float:
    """Operations of a phase at most, the frozen role's in this process among them. num_weights: of the model."""
    per_row = _sft_tokens(phase) if phase.kind == "sft" else sum(_role_tokens(phase, role) for role in phase.roles)
    forward = FORWARD * num_weights * per_row
    # The gradients of activations, and as much again for those of the weights, unless only adapters learn.
    backward = forward * (1.0 if recipe.model.lora is not None else 2.0)
    is_sft = phase.kind == "sft"
    learning = sum_updates(
        forward,
        backward,
        num_updates=1 if is_sft else phase.optimizer.updates_per_batch,
        has_reference=not is_sft and phase.loss.needs_reference,
    )
    sampling = 0.0 if is_sft else forward + FORWARD * num_weights * _frozen_tokens(recipe, phase)
    return counts.num_steps * phase.prompts_per_step * (sampling + learning)


def _sft_tokens(phase: Phase) -> int:
    return phase.sft.max_tokens


def _role_tokens(phase: Phase, role: ActiveRole) -> int:
    """Tokens of a row: its prompt, which its replies share, and the replies."""
    return phase.data.max_prompt_tokens.of(role) + phase.rollout.group_size * phase.rollout.max_new_tokens.of(role)


def _frozen_tokens(recipe: Recipe, phase: Phase) -> int:
    """Tokens of the frozen role for a row; 0 without one, or where a server is asked."""
    if phase.kind not in ("perceiver", "reasoner") or recipe.partner.kind == "endpoint":
        return 0
    other = OTHER_ROLE[phase.kind]
    num_asked = phase.rollout.group_size if phase.kind == "perceiver" else 1
    return num_asked * (phase.data.max_prompt_tokens.of(other) + recipe.partner.max_new_tokens)
