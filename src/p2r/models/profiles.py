"""What each model family expects: the frame of its boxes, the size of its patches, how many pixels it looks at.

Boxes land in the wrong place, and budgets are silently ignored, when these three are mixed up; so they stand here,
once. Source: the published config.json and preprocessor_config.json of the families; budgets are those of the
authors'     evaluation (16 to 4096 visual tokens an image; absent from the paper's text, appendix B.2 has the
training figures).

A trap: the processor published with Qwen3-VL enlarges images below 65,536 pixels (64 tokens). A server that runs it
would resize small crops a second time, so for servers the budget starts there; locally nothing resizes after us.
"""

from __future__ import annotations

import json
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

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PatchFormat:
    """How a checkpoint wants its pixels: the figures of its preprocessor_config.json; the defaults are Qwen3-VL's."""

    patch_size: int = 16
    merge_size: int = 2
    temporal_patch_size: int = 2
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    rescale_factor: float = 1 / 255

    @property
    def factor(self) -> int:
        """Pixels a side of one visual token (merge_size x merge_size patches)."""
        return self.patch_size * self.merge_size


QWEN3_VL = PatchFormat()
QWEN2_5_VL = PatchFormat(
    patch_size=14, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
)


@dataclass(frozen=True, slots=True)
class Family:
    """A model family.

    names: a pattern that its models' names match, derived models included.
    processor_min_pixels: below this, the processor published with the family enlarges an image.
    """

    frame: Frame
    patches: PatchFormat
    names: str
    processor_min_pixels: int

    def profile(self, name: str) -> ModelProfile:
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


def profile_for(
    source: str | Mapping[str, object], *, max_pixels: int | None = None, for_server: bool = False
) -> ModelProfile:
    """The profile of a model by name, by checkpoint folder or by its config; an unknown one gets Qwen3-VL's and a
    warning.

    Args:
        source: a name ("Qwen/Qwen3-VL-4B-Instruct"), a folder that holds config.json, or the content of config.json.
        max_pixels: overrides the most pixels per image. Without it, a folder whose own processor stops earlier (as the
            nano model's does) keeps its own limit.
        for_server: the model runs behind a server whose processor must not resize again: raises the least pixels
            to that of the checkpoint's own processor where its folder is at hand, else of the family's published one.

    Raises:
        ConfigError: `max_pixels` is less than one visual token.
        ModelError: the folder's JSON cannot be read.
    """
    folder = Path(source) if isinstance(source, str) else None
    own_limits: Limits = (None, None)
    if folder is not None and (folder / "config.json").is_file():
        name = family_of(read_json(folder / "config.json"))
        own_limits = processor_limits(read_preprocessor(folder))
    else:
        name = family_of(source)
    if name is None:
        logger.warning(
            "unknown model family of %s: boxes are read as 0-1000, images sized for 32-pixel tokens, as for Qwen3-VL",
            repr(source) if isinstance(source, str) else f"model_type {source.get('model_type')!r}",
        )
    profile = PROFILES[name] if name else UNKNOWN
    budget = profile.budget
    least = budget.min_pixels
    if for_server:
        least = max(least, own_limits[0] or FAMILIES[name or "qwen3_vl"].processor_min_pixels)
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
    """The family's key in PROFILES, by a model's name or by the `model_type` of its config; None when unknown."""
    if isinstance(source, str):
        return next((key for key, family in FAMILIES.items() if re.search(family.names, source.lower())), None)
    kind = str(source.get("model_type"))
    kind = SAME_FAMILY.get(kind, kind)
    return kind if kind in FAMILIES else None


def patch_format(folder: Path, family: str) -> PatchFormat:
    """The patch format a checkpoint folder states, the family's where it states none.

    Raises:
        ModelError: a figure is malformed, or the processor's patch size is not the model's.
    """
    settings = read_preprocessor(folder)
    base = FAMILIES[family].patches
    try:
        formed = replace(
            base,
            patch_size=int(cast(int, settings.get("patch_size", base.patch_size))),
            merge_size=int(cast(int, settings.get("merge_size", base.merge_size))),
            temporal_patch_size=int(cast(int, settings.get("temporal_patch_size", base.temporal_patch_size))),
            mean=_triple(settings.get("image_mean", base.mean)),
            std=_triple(settings.get("image_std", base.std)),
            rescale_factor=float(cast(float, settings.get("rescale_factor", base.rescale_factor))),
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"the preprocessor settings in {folder} are malformed: {error}") from error
    vision = cast(Mapping[str, object], read_json(folder / "config.json").get("vision_config") or {})
    if vision.get("patch_size", formed.patch_size) != formed.patch_size:
        raise ModelError(
            f"{folder}: the processor makes patches of {formed.patch_size} px, the model takes {vision['patch_size']}"
        )
    return formed


def processor_limits(settings: Mapping[str, object]) -> Limits:
    """Least and most pixels of an image that a checkpoint's own processor leaves alone; None where it does not say."""
    size = settings.get("size")
    edges: Mapping[str, object] = cast("dict[str, object]", size) if isinstance(size, dict) else {}
    least = edges.get("shortest_edge") or settings.get("min_pixels")
    most = edges.get("longest_edge") or settings.get("max_pixels")
    return (least if isinstance(least, int) else None, most if isinstance(most, int) else None)


def read_preprocessor(folder: Path) -> Mapping[str, object]:
    """Image settings of a checkpoint: preprocessor_config.json, or the image part of processor_config.json, or {}."""
    if (folder / "preprocessor_config.json").is_file():
        return read_json(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():
        return cast(Mapping[str, object], read_json(folder / "processor_config.json").get("image_processor") or {})
    return {}


def read_json(path: Path) -> Mapping[str, object]:
    """The JSON object in a checkpoint's file. Raises ModelError when it cannot be read or is no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}", hint="is the checkpoint complete?") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object", hint="is the checkpoint complete?")
    return cast("dict[str, object]", content)


def _triple(values: object) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in cast("list[float]", values))
    return red, green, blue
