"""Steps, rollouts and generated tokens of a phase, from its settings and the number of its rows."""

from __future__ import annotations

from dataclasses import dataclass

from p2r.config import Phase, Recipe, find_measuring_phase


@dataclass(frozen=True, slots=True)
class PhaseCounts:
    """The amount of work in a phase.

    rollouts_per_step: of the policy; the control `joint` samples both roles of half as many rows.
    num_before: pre-rollouts, which tell on which rows to train.
    num_tokens: those that the rollouts of its steps generate at most.
    """

    num_steps: int
    rollouts_per_step: int
    num_before: int
    num_tokens: int

    @property
    def num_rollouts(self) -> int:
        """Rollouts of its steps."""
        return self.num_steps * self.rollouts_per_step


def needs_rows(phase: Phase) -> bool:
    """Tell whether its counts depend on the number of its rows."""
    return phase.steps is None or phase.data.difficulty is not None


def count_phase(recipe: Recipe, phase: Phase, num_rows: int) -> PhaseCounts:
    """Count what a phase takes. num_rows: of any number where `needs_rows` is False."""
    steps = phase.count_steps(num_rows)
    per_step = phase.prompts_per_step * phase.rollout.group_size * len(phase.roles)
    tokens = [phase.rollout.max_new_tokens.of(role) for role in phase.roles]
    rule = phase.data.difficulty
    measures = rule is not None and phase.roles and find_measuring_phase(recipe, phase).index == phase.index
    return PhaseCounts(
        num_steps=steps,
        rollouts_per_step=per_step,
        num_before=num_rows * rule.num_rollouts if rule is not None and measures else 0,
        num_tokens=steps * per_step * sum(tokens) // max(1, len(tokens)),
    )
