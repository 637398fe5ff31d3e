"""Where the weights of a phase come from.

One model plays both roles, and a phase starts from what the phase before left. With `model.lora.per_role` a phase
starts from what the last phase of its own role left, and the role that rests is as its own last phase left it. Before
the first phase of a role that is `model.source`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from p2r.config import OTHER_ROLE, Phase, Recipe


@dataclass(frozen=True, slots=True)
class Start:
    """The checkpoints, by folder, name or hub id, that a phase starts from.

    active: that of the role that learns.
    resting: that of the other role; None where the same weights play both.
    """

    active: str
    resting: str | None = None


def find_start(recipe: Recipe, phase: Phase, folder: Path) -> Start:
    """Tell where a phase of a run starts from. folder: that of the run."""
    earlier = recipe.phases()[: phase.index]
    if not recipe.model.has_adapters_per_role:
        return Start(phase.source or _name(earlier, recipe, folder))
    own, others = ([each for each in earlier if each.role == role] for role in (phase.role, OTHER_ROLE[phase.role]))
    return Start(_name(own, recipe, folder), _name(others, recipe, folder))


def _name(earlier: list[Phase] | tuple[Phase, ...], recipe: Recipe, folder: Path) -> str:
    """The checkpoint that the last of these phases leaves; the recipe's without any."""
    return str(folder / earlier[-1].name) if earlier else recipe.model.source
