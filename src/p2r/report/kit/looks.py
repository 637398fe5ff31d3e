"""What there was to see of a question: the image as the model saw it, with its boxes, and its crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from p2r.dialogue import Budget
from p2r.evidence import BOX_COLORS, Evidence, gather
from p2r.images.budget import FullImage, fit
from p2r.report.kit.embed import Embedded, embed
from p2r.types import Box, EvidenceRecord, ImageSource


@dataclass(frozen=True, slots=True)
class Detail:
    """How large images are inside the page.

    image_px, crop_px: longest side of the whole image and of a crop.
    has_before: whether the image and its parts are also shown as one look shows them.
    quality, before_quality: of WebP.
    """

    image_px: int
    crop_px: int
    has_before: bool
    quality: int
    before_quality: int = 92


FULL_DETAIL = Detail(720, 480, True, 80)


@dataclass(frozen=True, slots=True)
class BoxView:
    """A box on an image, in per cent of its width and height. `run`: whose, by its place; None for a gold box."""

    left: float
    top: float
    width: float
    height: float
    label: str
    color: str
    run: int | None


@dataclass(frozen=True, slots=True)
class CropView:
    """The same part of the image in one look and in the second: cut from the sized image, and at full resolution.

    before: None when the budget is not known.
    width, height: of that part, in pixels of the full image.
    """

    before: Embedded | None
    after: Embedded
    width: int
    height: int
    color: str
    label: str


@dataclass(frozen=True, slots=True)
class Sight:
    """Where one run looked. `run`: its place; `has_crops`: whether its crops are shown, or its boxes alone."""

    run: int
    name: str
    boxes: tuple[Box, ...]
    has_crops: bool = True


@dataclass(frozen=True, slots=True)
class SightView:
    """The crops of one run, and its boxes in words."""

    run: int
    name: str
    boxes_text: str
    crops: tuple[CropView, ...]
    crops_text: str


@dataclass(frozen=True, slots=True)
class Looks:
    """What there was to see. Images that are not shrunk for the page have the size the model saw.

    seen: the whole image at the budget; None when that is not known, or would look like `full`.
    boxes: the gold ones, and those of every run that looked.
    sights: of runs whose crops are shown; the first is shown first.
    """

    seen: Embedded | None
    full: Embedded
    boxes: tuple[BoxView, ...]
    has_gold: bool
    sights: tuple[SightView, ...]

    @property
    def num_bytes(self) -> int:
        """Of all images, as written in the page."""
        crops = [crop for sight in self.sights for crop in sight.crops]
        shown = [self.seen, self.full, *(crop.before for crop in crops), *(crop.after for crop in crops)]
        return sum(len(full_image.uri) for full_image in shown if full_image is not None)


@dataclass(frozen=True, slots=True)
class Scene:
    """An image, decoded, with the evidence of runs that looked at it.

    seen: at the budget; None when that is not known.
    """

    full_image: FullImage
    seen: Image.Image | None
    budget: Budget | None
    sights: tuple[Sight, ...]
    evidence: tuple[Evidence, ...]


def load_scene(source: ImageSource, sights: Sequence[Sight], budget: Budget | None) -> Scene:
    """Look again where runs looked. Raises ImageError when the image cannot be loaded."""
    full_image = FullImage(source.load())
    evidence = tuple(gather(full_image, sight.boxes) for sight in sights if sight.has_crops)
    return Scene(full_image, full_image.fitted(budget) if budget else None, budget, tuple(sights), evidence)


def view_looks(scene: Scene, gold: Sequence[Box] = (), *, detail: Detail = FULL_DETAIL) -> Looks:
    """The image at the budget, with its boxes, and its crops."""
    full_image, seen = scene.full_image, scene.seen
    before = seen if detail.has_before and seen is not None and seen.size != full_image.size else None
    cropped = [sight for sight in scene.sights if sight.has_crops]
    return Looks(
        seen=_embed_seen(before, detail.image_px, detail)
        if before is not None and max(before.size) <= detail.image_px
        else None,
        full=embed(full_image.image, max_side_px=detail.image_px, quality=detail.quality),
        boxes=(
            *(view_box(box, "", "", None) for box in gold),
            *(
                view_box(box, box.label, color_of(index), sight.run)
                for sight in scene.sights
                for index, box in enumerate(sight.boxes)
            ),
        ),
        has_gold=bool(gold),
        sights=tuple(
            _view_sight(scene, sight, evidence, before, detail)
            for sight, evidence in zip(cropped, scene.evidence, strict=True)
        ),
    )


def _view_sight(
    scene: Scene, sight: Sight, evidence: Evidence, before: Image.Image | None, detail: Detail
) -> SightView:
    cropped = find_cropped(evidence.record)
    return SightView(
        run=sight.run,
        name=sight.name,
        boxes_text=_count(len(sight.boxes), "box", "boxes"),
        crops=tuple(
            CropView(
                before=_embed_seen(_cut_sized(before, rect, scene.full_image.size), detail.crop_px, detail)
                if before
                else None,
                after=_embed_seen(fit(crop, scene.budget) if scene.budget else crop, detail.crop_px, detail),
                width=crop.width,
                height=crop.height,
                color=color_of(index),
                label=sight.boxes[index].label,
            )
            for index, crop, rect in zip(cropped, evidence.crops, evidence.record.crops, strict=True)
        ),
        crops_text=", ".join(f"{crop.width} × {crop.height}" for crop in evidence.crops),
    )


def find_cropped(record: EvidenceRecord) -> list[int]:
    """The boxes that became crops, by their places."""
    return [index for index in range(len(record.crops) + len(record.skipped)) if index not in record.skipped]


def color_of(index: int) -> str:
    """The color the box with this index is drawn in for the model."""
    return BOX_COLORS[index % len(BOX_COLORS)]


def view_box(box: Box, label: str, color: str, run: int | None) -> BoxView:
    left, top, right, bottom = (round(min(max(value / 10, 0), 100), 2) for value in box.xyxy)
    return BoxView(left, top, round(right - left, 2), round(bottom - top, 2), label, color, run)


def _cut_sized(sized: Image.Image, rect: tuple[int, int, int, int], full_wh: tuple[int, int]) -> Image.Image:
    """The part of the sized image that shows what `rect` covers in the full one; at least one pixel."""
    scale_x, scale_y = sized.width / full_wh[0], sized.height / full_wh[1]
    left, top = math.floor(rect[0] * scale_x), math.floor(rect[1] * scale_y)
    right, bottom = math.ceil(rect[2] * scale_x), math.ceil(rect[3] * scale_y)
    return sized.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _embed_seen(image: Image.Image, max_side_px: int, detail: Detail) -> Embedded:
    quality = detail.before_quality if detail.has_before else detail.quality
    return embed(image, max_side_px=max_side_px, quality=quality)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
