"""Estimators of the field by name, and the settings that each one stands for. What a recipe says itself always counts.

grpo: the paper and the authors' release. dapo: arXiv 2503.14476 (no KL, clip-higher, dynamic sampling, token-level
loss, overlong shaping). dr-grpo: arXiv 2503.20783 (no division by the standard deviation or by length). gspo:
arXiv 2507.18071 (one ratio per sequence, with its narrow clip range). cispo: arXiv 2506.13585 (no KL, ratios as weights
that are clipped from above alone; the paper leaves open where, so 5 is ScaleRL's, arXiv 2510.13786).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, cast

Estimator = Literal["grpo", "dapo", "dr-grpo", "gspo", "cispo"]
Section: TypeAlias = Mapping[str, object]

GRPO: Mapping[str, Section] = {
    "loss": {
        "objective": "clipped",
        "kl_coef": 0.01,
        "clip_low": 0.2,
        "clip_high": 0.2,
        "dual_clip": 3.0,
        "reduction": "token-mean",
        "ratio": "token",
    },
    "rollout": {"dynamic_sampling": False},
    "reward": {"overlong": 0.0},
    "advantage": {"std": "sample"},
}
"""The defaults of every setting that some estimator changes, so that a phase can return to them."""

CHANGES: Mapping[str, Mapping[str, Section]] = {
    "grpo": {},
    "dapo": {
        "loss": {"kl_coef": 0.0, "clip_high": 0.28},
        "rollout": {"dynamic_sampling": True},
        "reward": {"overlong": 1.0},
    },
    "dr-grpo": {
        "loss": {"kl_coef": 0.0, "reduction": "dr-grpo"},
        "advantage": {"std": "none"},
    },
    "gspo": {
        "loss": {
            "kl_coef": 0.0,
            "ratio": "sequence",
            "reduction": "sequence-mean",
            "clip_low": 3e-4,
            "clip_high": 4e-4,
            "dual_clip": 0.0,
        },
    },
    "cispo": {
        "loss": {"objective": "cispo", "kl_coef": 0.0, "clip_low": 1.0, "clip_high": 4.0},
    },
}
"""The settings in which each estimator differs from GRPO."""

DEFAULT_SOURCE = "needles"
OF_THE_SOURCE = ("source", "made_by", "split", "images", "num_rows")
"""Settings of `data` that say which rows of a source there are, and nothing about those of another source."""


def fill_in_recipe(given: object) -> object:
    """Complete the raw tables of a recipe before they are checked. Malformed parts stay as they are.

    A recipe gets its estimator's settings wherever it has none of its own. A table of a phase of the schedule becomes
    a whole one: its own settings, then those of another estimator that the phase names, then the recipe's table. Of the
    recipe's data, a phase with another source takes over only what does not belong to the recipe's source.
    """
    if not isinstance(given, Mapping):
        return given
    recipe = _apply_preset(cast("Section", given))
    schedule = recipe.get("schedule")
    if isinstance(schedule, (list, tuple)):
        phases = cast("list[object] | tuple[object, ...]", schedule)
        recipe["schedule"] = [_fill_in_phase(phase, recipe) for phase in phases]
    return recipe


def _fill_in_phase(phase: object, recipe: Section) -> object:
    if not isinstance(phase, Mapping):
        return phase
    tables = cast("Section", phase)
    # A saved phase names the estimator of its recipe, which must not take back what the recipe sets beside it.
    is_recipes = _estimator_of(tables) == (_estimator_of(recipe) or "grpo")
    own = dict(tables) if is_recipes else _apply_preset(tables)
    return {name: _merge(_inherit(name, recipe.get(name), value), value) for name, value in own.items()}


def _inherit(name: str, below: object, own: object) -> object:
    """Return what a phase takes over from a table of the recipe: with rows of its own, nothing about the recipe's."""
    if name != "data" or not (isinstance(below, Mapping) and isinstance(own, Mapping)):
        return cast("object", below)
    recipes, phases = cast("Section", below), cast("Section", own)
    before = recipes.get("source", DEFAULT_SOURCE)
    if phases.get("source", before) == before:
        return recipes
    return {key: value for key, value in recipes.items() if key not in OF_THE_SOURCE}


def _apply_preset(tables: Section) -> dict[str, object]:
    filled, name = dict(tables), _estimator_of(tables)
    if name is None or name not in CHANGES:
        return filled
    changes = CHANGES[name]
    for section, defaults in GRPO.items():
        own = filled.get(section, {})
        if isinstance(own, Mapping):
            filled[section] = {**defaults, **changes.get(section, {}), **cast("Section", own)}
    return filled


def _estimator_of(tables: Section) -> str | None:
    loss = tables.get("loss")
    name = cast("Section", loss).get("estimator") if isinstance(loss, Mapping) else None
    return name if isinstance(name, str) else None


def _merge(below: object, above: object) -> object:
    """`above` over `below`, table by table; a list of reward terms is one setting."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    under, over = cast("Section", below), cast("Section", above)
    return {
        **under,
        **{name: value if name == "terms" else _merge(under.get(name), value) for name, value in over.items()},
    }
