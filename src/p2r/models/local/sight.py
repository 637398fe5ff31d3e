"""What a vision tower makes of images: a few at a time, and of each only once while the tower does not learn.

A tower's activations are many times larger than its features. A few images at a time leave them in the processor's
cache (a third of the time on a CPU) and take little memory.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# The models of transformers are only partly typed.

from __future__ import annotations

import weakref
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from p2r.models.local.backend import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
from p2r.models.local.patches import normalize
from p2r.models.profiles import PatchFormat

VisionLanguageModel = (
    Qwen3VLForConditionalGeneration | Qwen2_5_VLForConditionalGeneration | Qwen2VLForConditionalGeneration
)
"""The models that can be trained; a Qwen3.5, which cannot, has the same interface."""
Bytes: TypeAlias = NDArray[np.uint8]
Features: TypeAlias = tuple[torch.Tensor, ...]
"""The features of one image: the tower's output, then that of each layer in between; a row for each visual token."""

PATCHES_AT_ONCE = {"cpu": 2**11, "cuda": 2**16}
"""Patches that go through the tower together, by device."""


@dataclass(frozen=True, slots=True)
class Images:
    """Images as a tower takes them.

    patches: bytes of `patchify`, for each image.
    grids: (1, rows, columns) in patches, for each image.
    """

    patches: Sequence[Bytes]
    grids: Sequence[tuple[int, int, int]]
    patch_format: PatchFormat


class Sight:
    """Looks at images through the vision tower of one model, without gradients.

    While the tower does not learn, features that were asked for with `keep` serve as long as the image's patches exist.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Bytes], Features]] = {}

    @contextmanager
    def shown_to(
        self, model: VisionLanguageModel, images: Images, *, keep: bool = False, at_once: int | None = None
    ) -> Generator[dict[str, torch.Tensor], None, None]:
        """Have the model's forward pass find the features in place of the tower's; yields what it takes for images.

        Args:
            keep: the same images are to be shown again.
            at_once: the most patches that go through the tower together; by default as many as the device likes.
        """
        if not images.patches:
            yield {}
            return
        inner = model.model
        tower = inner.get_image_features

        def look(*_: object, **__: object) -> SimpleNamespace:
            features = self._look(partial(tower, return_dict=True), model, images, keep=keep, at_once=at_once)
            end, *between = zip(*features, strict=True)
            return SimpleNamespace(pooler_output=end, deepstack_features=between)

        # Newer versions of transformers take them as an argument, which older ones pass over in silence.
        inner.get_image_features = look  # pyright: ignore[reportAttributeAccessIssue]
        try:
            grids = torch.tensor(images.grids, device=model.device)
            yield {"pixel_values": torch.empty(0, device=model.device), "image_grid_thw": grids}
        finally:
            del inner.get_image_features

    def forget(self, images: Images) -> None:
        """Free the memory of these images' features; the next pass runs the tower again."""
        for patches in images.patches:
            self._known.pop(id(patches), None)

    def _look(
        self, tower: partial[object], model: VisionLanguageModel, images: Images, *, keep: bool, at_once: int | None
    ) -> list[Features]:
        found = {id(patches): known[1] for patches in images.patches if (known := self._known.get(id(patches)))}
        new = {id(patches): (patches, grid) for patches, grid in zip(images.patches, images.grids, strict=True)}
        keep = keep and not learns_to_see(model)
        missing = [image for place, image in new.items() if place not in found]
        most = at_once or PATCHES_AT_ONCE.get(model.device.type, PATCHES_AT_ONCE["cuda"])
        for some in _split(missing, most):
            with torch.no_grad():
                seen = _run_tower(tower, model, some, images.patch_format)
            for (patches, _), features in zip(some, seen, strict=True):
                found[id(patches)] = features
                if keep:
                    self._known[id(patches)] = (weakref.ref(patches, partial(self._drop, id(patches))), features)
        return [found[id(patches)] for patches in images.patches]

    def _drop(self, place: int, _: object) -> None:
        self._known.pop(place, None)


def learns_to_see(model: VisionLanguageModel) -> bool:
    """Tell whether the vision tower is trained."""
    return any(weight.requires_grad for weight in model.model.visual.parameters())


def _split(
    images: Sequence[tuple[Bytes, tuple[int, int, int]]], most: int
) -> Generator[list[tuple[Bytes, tuple[int, int, int]]], None, None]:
    """In their order, at most so many patches together, but one image at least."""
    some: list[tuple[Bytes, tuple[int, int, int]]] = []
    for image in images:
        if some and sum(len(patches) for patches, _ in some) + len(image[0]) > most:
            yield some
            some = []
        some.append(image)
    if some:
        yield some


def _run_tower(
    tower: partial[object],
    model: VisionLanguageModel,
    images: Sequence[tuple[Bytes, tuple[int, int, int]]],
    patch_format: PatchFormat,
) -> list[Features]:
    frames: int = model.model.visual.patch_embed.temporal_patch_size  # pyright: ignore[reportAssignmentType]
    pixels = normalize(
        [patches for patches, _ in images], patch_format, device=model.device, dtype=model.dtype, frames=frames
    )
    output = tower(pixels, torch.tensor([grid for _, grid in images], device=model.device))
    levels = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]  # pyright: ignore
    return list(zip(*levels, strict=True))
