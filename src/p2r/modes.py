"""Every way of asking by name: who looks, and who answers.

The walk knows nothing of modes: each is a pair of a perceiver and a reasoner, and "shuffled" besides puts the options
of every question in another order. Paper: Table 3 for a perceiver and a reasoner from different checkpoints.

The reasoners of "annotate-only" and "crop-only" leave away a part of the evidence and keep the wording, so that only
the images differ; the trace still records all that was gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from p2r.benchmarks.options import reorder_options, shuffle_order
from p2r.dialogue import Budget, Model
from p2r.errors import ConfigError
from p2r.prompts import PromptSet
from p2r.roles import (
    EvidenceReasoner,
    ModelPerceiver,
    NoPerceiver,
    OraclePerceiver,
    Perceiver,
    PlainReasoner,
    RandomPerceiver,
    Reasoner,
    ToolReasoner,
    ZoomPerceiver,
)
from p2r.roles.partial import BlindReasoner, PartialReasoner
from p2r.types import Sample

Mode = Literal[
    "direct",
    "thinking",
    "p2r",
    "tools",
    "zoom",
    "oracle",
    "random",
    "none",
    "blind",
    "annotate-only",
    "crop-only",
    "shuffled",
]
MODES: tuple[Mode, ...] = get_args(Mode)
AskMode = Literal["p2r", "direct", "thinking", "tools", "zoom"]
"""Those for a question of one's own; the others compare ways on a benchmark."""
Way = tuple[Perceiver, Reasoner]

CAPTIONS: dict[Mode, str] = {
    "direct": "one look at the whole image, answered at once",
    "thinking": "one look at the whole image, step by step",
    "p2r": "boxes where the model says to look, then crops",
    "tools": "a chat in which the model may zoom in",
    "zoom": "boxes found by a search over parts of the image",
    "oracle": "boxes where the evidence is",
    "random": "as many boxes and as large, anywhere",
    "none": "the reasoner of p2r, without evidence",
    "blind": "the question without the image",
    "annotate-only": "own boxes drawn on the image, no crops",
    "crop-only": "crops of own boxes, without the whole image",
    "shuffled": "as p2r, options in another order",
}
LOOKING: frozenset[Mode] = frozenset(
    {"p2r", "tools", "zoom", "oracle", "random", "annotate-only", "crop-only", "shuffled"}
)
"""Modes in which boxes are part of it; in the others there is nothing to say about hits."""
PERCEIVING: frozenset[Mode] = LOOKING - {"tools"}
"""Modes in which boxes are there before the reasoner is asked."""
UNTAGGED: frozenset[Mode] = frozenset({"direct", "blind"})
"""Modes whose wording asks for the bare answer, without a tag."""
_NEEDING_GOLD: frozenset[Mode] = frozenset({"oracle", "random"})


def read_mode(name: str) -> Mode:
    """Raises ConfigError for a name that is no mode."""
    by_name: dict[str, Mode] = {mode: mode for mode in MODES}
    if name not in by_name:
        raise ConfigError(f"there is no mode {name!r}", hint=f"modes: {', '.join(MODES)}")
    return by_name[name]


def make_way(
    mode: Mode,
    model: Model,
    prompts: PromptSet,
    *,
    perceiver_model: Model | None = None,
    budget: Budget | None = None,
    seed: int = 0,
) -> Way:
    """Who looks and who answers.

    Args:
        perceiver_model: says where to look in place of `model`.
        budget: of pixels, for both; None for each model's own.
        seed: of random boxes.
    """
    looker = ModelPerceiver(perceiver_model or model, prompts, budget=budget)
    reasoner = EvidenceReasoner(model, prompts, budget=budget)
    ways: dict[Mode, Way] = {
        "direct": (NoPerceiver(), PlainReasoner(model, prompts, style="direct", budget=budget)),
        "thinking": (NoPerceiver(), PlainReasoner(model, prompts, style="thinking", budget=budget)),
        "p2r": (looker, reasoner),
        "tools": (NoPerceiver(), ToolReasoner(model, prompts, budget=budget)),
        "zoom": (ZoomPerceiver(perceiver_model or model, prompts, budget=budget), reasoner),
        "oracle": (OraclePerceiver(), reasoner),
        "random": (RandomPerceiver(seed), reasoner),
        "none": (NoPerceiver(), reasoner),
        "blind": (NoPerceiver(), BlindReasoner(model, prompts)),
        "annotate-only": (looker, PartialReasoner(reasoner, "annotated")),
        "crop-only": (looker, PartialReasoner(reasoner, "crops")),
        "shuffled": (looker, reasoner),
    }
    return ways[mode]


def prepare_samples(mode: Mode, samples: Sequence[Sample], seed: int = 0) -> list[Sample]:
    """The samples as this mode asks them.

    Raises:
        ConfigError: the mode needs gold boxes, and a sample has none; or nothing can be shuffled.
    """
    if mode in _NEEDING_GOLD:
        bare = [sample.id for sample in samples if not sample.gold_boxes]
        if bare:
            raise ConfigError(
                f"the mode {mode!r} needs gold boxes, which {len(bare)} of {len(samples)} samples lack "
                f"({', '.join(bare[:3])}{', ...' if len(bare) > 3 else ''})",
                hint="V* joins those of its original release with --boxes; or leave this mode out",
            )
    if mode != "shuffled":
        return list(samples)
    if not any(sample.options for sample in samples):
        raise ConfigError("the mode 'shuffled' needs questions with options", hint="leave this mode out")
    return [
        reorder_options(sample, shuffle_order(len(sample.options), seed, sample.id)) if sample.options else sample
        for sample in samples
    ]
