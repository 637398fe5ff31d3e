"""What each model family expects: the frame of its boxes, the size of its patches, how many pixels it looks at.

When these three are mixed up, boxes land in the wrong place and budgets are silently ignored, so they are stated once,
here. Source: the published config.json and preprocessor_config.json of the families. Budgets are those of the authors'
evaluation (16 to 4096 visual tokens an image; not in the paper's text, whose appendix B.2 has the training settings).

A trap: the processor published with Qwen3-VL enlarges images below 65,536 pixels (64 tokens). A server that runs it
would resize small crops a second time, so budgets for servers start there; a local model resizes nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, cast

from p2r.dialogue import Budget, ModelProfile
from p2r.errors import ConfigError, ModelError
from p2r.types import Frame

MIN_TOKENS, MAX_TOKENS = 16, 4096
"""Visual tokens per image in the authors' evaluation."""

Limits: TypeAlias = tuple[int | None, int | None]
"""Least and most pixels of an image; None where nothing is said."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PatchFormat:
    """The way in which a checkpoint takes pixels: its preprocessor_config.json. The defaults are Qwen3-VL's."""

    patch_size: int = 16
    merge_size: int = 2
    temporal_patch_size: int = 2
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    rescale_factor: float = 1 / 255

    @property
    def factor(self) -> int:
        """Side of one visual token (merge_size x merge_size patches) in pixels."""
        return self.patch_size * self.merge_size


QWEN3_VL = PatchFormat()
QWEN2_5_VL = PatchFormat(
    patch_size=14, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
)


@dataclass(frozen=True, slots=True)
class Family:
    """A model family.

    names: a pattern that matches the names of its models and of models derived from them.
    processor_min_pixels: the processor published with the family enlarges images below this size.
    """

    frame: Frame
    patches: PatchFormat
    names: str
    processor_min_pixels: int

    def profile(self, name: str) -> ModelProfile:
        """Make the profile of the family, with the budget of the authors' evaluation."""
        area = self.patches.factor**2
        budget = Budget(factor=self.patches.factor, min_pixels=MIN_TOKENS * area, max_pixels=MAX_TOKENS * area)
        return ModelProfile(family=name, frame=self.frame, budget=budget)


FAMILIES: Mapping[str, Family] = {
    "qwen3_vl": Family("per_mille", QWEN3_VL, r"qwen[-_.]?3[-_.]?vl|\bp2r\b|perceive[-_ ]to[-_ ]reason", 64 * 32 * 32),
    "qwen2_5_vl": Family("absolute", QWEN2_5_VL, r"qwen[-_.]?2[-_.]5[-_.]?vl|deepeyes|mini[-_]?o3", 4 * 28 * 28),
}
SAME_FAMILY = {"qwen3_vl_moe": "qwen3_vl"}
PROFILES: Mapping[str, ModelProfile] = {name: family.profile(name) for name, family in FAMILIES.items()}
UNKNOWN = FAMILIES["qwen3_vl"].profile("unknown")


def profile_for(name: str, *, max_pixels: int | None = None, for_server: bool = False) -> ModelProfile:
    """Return the profile of a model by its name ("Qwen/Qwen3-VL-4B-Instruct").

    An unknown name gets Qwen3-VL's profile and a warning. For a checkpoint use `Checkpoint.profile`.

    Args:
        max_pixels, for_server: as in `limit_profile`.

    Raises:
        ConfigError: `max_pixels` is less than one visual token.
    """
    family = family_of(name)
    if family is None:
        logger.warning(
            "unknown model family of %r: boxes are read as 0-1000, images sized for 32-pixel tokens, as for Qwen3-VL",
            name,
        )
    return limit_profile(family, max_pixels=max_pixels, for_server=for_server)


def limit_profile(
    family: str | None, own_limits: Limits = (None, None), *, max_pixels: int | None = None, for_server: bool = False
) -> ModelProfile:
    """Return a family's profile with a budget that fits the model.

    Args:
        family: a key of FAMILIES; None for an unknown family.
        own_limits: of the checkpoint's own processor. A most that is smaller (as nano's is) lowers the budget's most.
        max_pixels: most pixels per image, in place of the budget's and the checkpoint's.
        for_server: the model runs behind a server whose processor must not resize again. Raises the budget's least to
            that of the checkpoint's own processor, where it is known, else of the family's published processor.

    Raises:
        ConfigError: `max_pixels` is less than one visual token.
    """
    profile = PROFILES[family] if family else UNKNOWN
    budget = profile.budget
    least = budget.min_pixels
    if for_server:
        least = max(least, own_limits[0] or FAMILIES[family or "qwen3_vl"].processor_min_pixels)
    if max_pixels is None:
        max_pixels = min(budget.max_pixels, own_limits[1] or budget.max_pixels)
    if max_pixels < budget.factor**2:
        raise ConfigError(
            f"max_pixels {max_pixels} is less than one visual token ({budget.factor} x {budget.factor} pixels)",
            hint=f"between {MIN_TOKENS * budget.factor**2} and {MAX_TOKENS * budget.factor**2} is usual for this model",
        )
    limits = {"max_pixels": max_pixels, "min_pixels": min(least, max_pixels)}
    return profile.model_copy(update={"budget": budget.model_copy(update=limits)})


def family_of(source: str | Mapping[str, object]) -> str | None:
    """Return a family's key in FAMILIES, by a model's name or by the `model_type` of its config; None when unknown."""
    if isinstance(source, str):
        return next((key for key, family in FAMILIES.items() if re.search(family.names, source.lower())), None)
    kind = str(source.get("model_type"))
    kind = SAME_FAMILY.get(kind, kind)
    return kind if kind in FAMILIES else None


def patch_format(preprocessor: Mapping[str, object], family: str, place: Path) -> PatchFormat:
    """Return the patch format that a checkpoint's preprocessor settings state; the family's where they state none.

    Args:
        place: the checkpoint's folder, for messages.

    Raises:
        ModelError: a setting is malformed.
    """
    base = FAMILIES[family].patches
    try:
        return replace(
            base,
            patch_size=int(cast(int, preprocessor.get("patch_size", base.patch_size))),
            merge_size=int(cast(int, preprocessor.get("merge_size", base.merge_size))),
            temporal_patch_size=int(cast(int, preprocessor.get("temporal_patch_size", base.temporal_patch_size))),
            mean=_triple(preprocessor.get("image_mean", base.mean)),
            std=_triple(preprocessor.get("image_std", base.std)),
            rescale_factor=float(cast(float, preprocessor.get("rescale_factor", base.rescale_factor))),
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"the preprocessor settings in {place} are malformed: {error}") from error


def processor_limits(preprocessor: Mapping[str, object]) -> Limits:
    """Return the sizes between which a checkpoint's own processor leaves an image as it is."""
    size = preprocessor.get("size")
    edges: Mapping[str, object] = cast("dict[str, object]", size) if isinstance(size, dict) else {}
    least = edges.get("shortest_edge") or preprocessor.get("min_pixels")
    most = edges.get("longest_edge") or preprocessor.get("max_pixels")
    return (least if isinstance(least, int) else None, most if isinstance(most, int) else None)


def _triple(values: object) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in cast("list[float]", values))
    return red, green, blue
