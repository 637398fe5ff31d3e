"""Estimators of the field by name: what each changes, in one place. What a recipe says itself always counts.

grpo: the paper and the authors' release. dapo: arXiv 2503.14476 (no KL, clip-higher, dynamic sampling, token-level
loss, overlong shaping). dr-grpo: arXiv 2503.20783 (no division by the standard deviation or by length). gspo:
arXiv 2507.18071 (one ratio a sequence, with its narrow clip range).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, cast

Estimator = Literal["grpo", "dapo", "dr-grpo", "gspo"]
Section: TypeAlias = Mapping[str, object]

PRESETS: Mapping[str, Mapping[str, Section]] = {
    "grpo": {},
    "dapo": {
        "loss": {"kl_coef": 0.0, "clip_low": 0.2, "clip_high": 0.28, "reduction": "token-mean"},
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
        },
    },
}


def apply_preset(given: object) -> object:
    """A recipe's raw sections with its estimator's values where it says nothing. Anything malformed stays as it is."""
    if not isinstance(given, Mapping):
        return given
    recipe = dict(cast("Mapping[str, object]", given))
    loss = recipe.get("loss")
    name = cast("Section", loss).get("estimator") if isinstance(loss, Mapping) else None
    for section, values in PRESETS.get(str(name), {}).items():
        own = recipe.get(section, {})
        if isinstance(own, Mapping):
            recipe[section] = {**values, **cast("Section", own)}
    return recipe
