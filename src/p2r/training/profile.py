"""How many pixels a model looks at while it is trained: half of what it looks at later, as in the paper."""

from __future__ import annotations

from p2r.dialogue import ModelProfile
from p2r.models.checkpoint import Checkpoint

PAPER_VISUAL_TOKENS = 2048
"""Most visual tokens of an image in training (paper, appendix C.2)."""


def training_profile(checkpoint: Checkpoint, max_pixels: int | None) -> ModelProfile:
    """The profile of a checkpoint in training.

    Args:
        max_pixels: None for the paper's, or the checkpoint's own where that is lower.

    Raises:
        ConfigError: less than one visual token.
    """
    profile = checkpoint.profile(max_pixels=max_pixels)
    if max_pixels is not None:
        return profile
    budget = profile.budget
    most = min(budget.max_pixels, PAPER_VISUAL_TOKENS * budget.factor**2)
    return profile.model_copy(update={"budget": budget.model_copy(update={"max_pixels": most})})
