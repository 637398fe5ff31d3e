"""What each model family expects: the frame of its boxes, the size of its patches, how many pixels it looks at.

When these three are mixed up, boxes land in the wrong place and budgets are silently ignored, so they are stated once,
here. Source: the published config.json and preprocessor_config.json of the families. Budgets are those of the authors'
evaluation (16 to 4096 visual tokens an image; not in the paper's text, whose appendix B.2 has the training settings).

A trap: the processor published with Qwen3-VL enlarges images below 65,536 pixels (64 tokens). A server that runs it
would resize small crops a second time, so budgets for servers start there; a local model resizes nothing.

Qwen3.5 and Qwen3.6 (both `qwen3_5` in config.json) see as Qwen3-VL does: patches of 16 pixels, the same processor.
Nothing that their makers published was found to state their frame. A user took it for granted that Qwen3.5 writes 0 to
1000, and the makers said that its successor still does (GitHub, QwenLM/Qwen3.8-Flash-Next, issue 4, 2026-08-27). Their
chat template begins with a thought unless `enable_thinking` is false, in the smallest sizes only where it is true.
Qwen2-VL writes boxes from 0 to 1000, as its users report (GitHub, QwenLM/Qwen3-VL, issue 189), in patches of 14 pixels.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from p2r.dialogue import UNKNOWN_FAMILY, Budget, ModelProfile
from p2r.errors import ConfigError, ModelError, excerpt
from p2r.types import Frame

MIN_TOKENS, MAX_TOKENS = 16, 4096
"""Visual tokens per image in the authors' evaluation."""

FamilyName = Literal["qwen3_vl", "qwen3_5", "qwen2_5_vl", "qwen2_vl"]
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
    thinks: its chat template may begin a reply with a thought; `enable_thinking` in the template says whether.
    """

    frame: Frame
    patches: PatchFormat
    names: str
    processor_min_pixels: int
    thinks: bool = False

    def profile(self, name: str) -> ModelProfile:
        """Make the profile of the family, with the budget of the authors' evaluation."""
        area = self.patches.factor**2
        budget = Budget(factor=self.patches.factor, min_pixels=MIN_TOKENS * area, max_pixels=MAX_TOKENS * area)
        return ModelProfile(family=name, frame=self.frame, budget=budget)


_SIZE = r"(?:[-_.]?\d{1,3}b)?"
_OTHER_QWEN = r"qwen[-_.]?(?:2|3[-_.][56](?![\db]))"
_MADE_FROM_QWEN3_VL = r"(?:\bp2r\b|perceive[-_ ]to[-_ ]reason|\bzwz[-_][248]b)"
_OF_QWEN3_VL = (  # p2r-qwen2.5-vl-7b says itself what it was made from
    rf"qwen[-_.]?3{_SIZE}[-_.]?vl",
    rf"^(?!.*{_OTHER_QWEN}).*{_MADE_FROM_QWEN3_VL}",
)
_OF_QWEN2_5_VL = (
    rf"qwen[-_.]?2[-_.]?5{_SIZE}[-_.]?vl",
    r"deepeyes",
    r"mini[-_]?o3",
    r"\bthyme(?![a-z])",
    r"pixel[-_]?reasoner",
    r"\bmonet(?![a-z])",
    r"ui[-_]?tars[-_]?1[-_.]5",
    r"treevgr",
    r"chain[-_]?of[-_]?focus",
    r"vlm[-_]r1",
    r"\bzwz[-_]7b",
)
_OF_QWEN3_5 = (r"qwen[-_.]?3[-_.][56](?![\db])",)
_OF_QWEN2_VL = (rf"qwen[-_.]?2{_SIZE}[-_.]?vl",)
_OWN_FRAMES: Mapping[str, Frame] = {r"mini[-_]?o3|pixel[-_]?reasoner": "unit", r"\bthyme(?![a-z])": "file_pixels"}
"""Checkpoints that were trained to write boxes in another frame than the models that they were made from."""
FAMILIES: Mapping[FamilyName, Family] = {
    "qwen3_vl": Family("per_mille", QWEN3_VL, "|".join(_OF_QWEN3_VL), 64 * 32 * 32),
    "qwen3_5": Family("per_mille", QWEN3_VL, "|".join(_OF_QWEN3_5), 64 * 32 * 32, thinks=True),
    "qwen2_5_vl": Family("pixels", QWEN2_5_VL, "|".join(_OF_QWEN2_5_VL), 4 * 28 * 28),
    "qwen2_vl": Family("per_mille", QWEN2_5_VL, "|".join(_OF_QWEN2_VL), 4 * 28 * 28),
}
THINKING: frozenset[str] = frozenset(name for name, family in FAMILIES.items() if family.thinks)
SAME_FAMILY = {"qwen3_vl_moe": "qwen3_vl", "qwen3_5_moe": "qwen3_5"}
PROFILES: Mapping[str, ModelProfile] = {name: family.profile(name) for name, family in FAMILIES.items()}
UNKNOWN = FAMILIES["qwen3_vl"].profile(UNKNOWN_FAMILY)


def profile_for(
    name: str,
    *,
    family: FamilyName | None = None,
    frame: Frame | None = None,
    max_pixels: int | None = None,
    for_server: bool = False,
) -> ModelProfile:
    """Return the profile of a model by its name ("Qwen/Qwen3-VL-4B-Instruct").

    An unknown name gets Qwen3-VL's budget and a warning, unless the family or the frame is stated; without these, no
    mode that reads its boxes can be asked (`ModelProfile.knows_frame`). Mini-o3 and PixelReasoner write boxes from 0 to
    1, and Thyme in pixels of the file. For a checkpoint use `Checkpoint.profile`.

    Args:
        family: the model's family, whatever its name.
        frame, max_pixels, for_server: as in `limit_profile`.

    Raises:
        ConfigError: there is no such family or frame, or `max_pixels` is less than one visual token.
    """
    found = family or family_of(name)
    if frame is None:
        last = name.lower().rsplit("/", 1)[-1]
        frame = next((own for names, own in _OWN_FRAMES.items() if re.search(names, last)), None)
    if found is None and frame is None:
        logger.warning(
            "unknown model family of %r: images are sized for 32-pixel tokens, as for Qwen3-VL; state what it is by "
            "`profile`, or its `family`",
            name,
        )
    return limit_profile(found, frame=frame, max_pixels=max_pixels, for_server=for_server)


def limit_profile(
    family: FamilyName | None,
    own_limits: Limits = (None, None),
    *,
    frame: Frame | None = None,
    max_pixels: int | None = None,
    for_server: bool = False,
) -> ModelProfile:
    """Return a family's profile with a budget that fits the model.

    Args:
        family: a key of FAMILIES; None for an unknown family.
        own_limits: of the checkpoint's own processor. A most that is smaller (as nano's is) lowers the budget's most.
        frame: the frame in which the model writes boxes, in place of the family's.
        max_pixels: most pixels per image, in place of the budget's and the checkpoint's.
        for_server: the model runs behind a server whose processor must not resize again. Raises the budget's least to
            that of the checkpoint's own processor, where it is known, else of the family's published processor; not
            above a stated `max_pixels`, which says that the server takes smaller images.

    Raises:
        ConfigError: there is no such family or frame, or `max_pixels` is less than one visual token.
    """
    check_family(family, frame)
    profile = PROFILES[family] if family else UNKNOWN
    budget = profile.budget
    least, is_stated = budget.min_pixels, max_pixels is not None
    if max_pixels is None:
        max_pixels = min(budget.max_pixels, own_limits[1] or budget.max_pixels)
    if for_server:
        of_processor = own_limits[0] or FAMILIES[family or "qwen3_vl"].processor_min_pixels
        least = max(least, of_processor if of_processor <= max_pixels else 0)
    if max_pixels < budget.factor**2:
        raise ConfigError(
            f"`max_pixels` {max_pixels} is less than one visual token ({budget.factor} x {budget.factor} pixels)",
            hint=f"between {MIN_TOKENS * budget.factor**2} and {MAX_TOKENS * budget.factor**2} is usual for this model",
        )
    limits = {"max_pixels": max_pixels, "min_pixels": min(least, max_pixels)}
    stated = {} if frame is None else {"frame": frame, "frame_is_stated": True}
    stated |= {"most_is_stated": is_stated}
    return profile.model_copy(update={"budget": budget.model_copy(update=limits), **stated})


def check_family(family: object, frame: object) -> None:
    """Make sure that a family and a frame are known, or not stated. Raises ConfigError."""
    if family is not None and family not in FAMILIES:
        raise ConfigError(f"there is no model family {excerpt(family)}", hint=f"`family` is {' or '.join(FAMILIES)}")
    if frame is not None and frame not in get_args(Frame):
        raise ConfigError(f"there is no frame {excerpt(frame)}", hint=f"`frame` is one of {', '.join(get_args(Frame))}")


def family_of(source: str | Mapping[str, object]) -> FamilyName | None:
    """Return a family's key in FAMILIES, by a model's name or by the `model_type` of its config; None when unknown."""
    if isinstance(source, str):
        parts = reversed(source.lower().split("/"))  # the last says most: in p2r/qwen2.5-vl, p2r may be a project
        return next((key for part in parts for key in FAMILIES if re.search(FAMILIES[key].names, part)), None)
    kind = str(source.get("model_type"))
    kind = SAME_FAMILY.get(kind, kind)
    return next((key for key in FAMILIES if key == kind), None)


def patch_format(preprocessor: Mapping[str, object], family: FamilyName, place: Path) -> PatchFormat:
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
