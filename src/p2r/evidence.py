"""Boxes become evidence: all of them drawn on the picture, the first three cut out of it at full resolution.

Paper: section 3.2 and appendix B.2 (three crops). Colours, line width, margin and the skip rules are those of the authors'
release (evaluation/p2r_utils.py); the paper does not state them. Geometry agrees with the release to the pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from p2r.errors import EmptyCropError
from p2r.pixels import Picture, fit
from p2r.types import Box, Budget, EvidenceRecord

BOX_COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "cyan", "magenta")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the reasoner sees.

    picture: the whole picture.
    boxes: all boxes, drawn in this order.
    annotated: `picture` with the boxes drawn; None when there is no usable box.
    crops: full-resolution cut-outs of the first boxes.
    """

    picture: Picture
    boxes: tuple[Box, ...]
    annotated: Image.Image | None
    crops: tuple[Image.Image, ...]
    record: EvidenceRecord

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """The annotated picture and the crops; without evidence the picture alone. Full resolution."""
        return (self.picture.image,) if self.annotated is None else (self.annotated, *self.crops)

    def sized(self, budget: Budget) -> tuple[Image.Image, ...]:
        """`images` as a model with this budget sees them."""
        return tuple(fit(image, budget) for image in self.images)


def gather(picture: Picture, boxes: Sequence[Box], *, limit: int = 3) -> Evidence:
    """Draw `boxes` and cut out the first `limit`. A crop that covers no pixel is skipped; with none left there is no evidence.

    Args:
        picture: at full resolution; not modified.
        boxes: per mille of the picture; () gives the picture alone.
        limit: most crops, 3 in the paper.
    """
    rects: list[tuple[int, int, int, int]] = []
    skipped: list[int] = []
    for index, box in enumerate(boxes[:limit]):
        try:
            rects.append(crop_rect(box, *picture.size))
        except EmptyCropError:
            skipped.append(index)
    record = EvidenceRecord(image_wh=picture.size, crops=tuple(rects), skipped=tuple(skipped), annotated=bool(rects))
    crops = tuple(picture.image.crop(rect) for rect in rects)
    return Evidence(picture, tuple(boxes), annotate(picture.image, boxes) if rects else None, crops, record)


def annotate(picture: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """A copy of `picture` with every box outlined; colours in turn, lines max(3, 0.3% of the width) pixels wide."""
    annotated = picture.copy()
    draw = ImageDraw.Draw(annotated)
    line_px = line_width(picture.width)
    for index, box in enumerate(boxes):
        colour = BOX_COLOURS[index % len(BOX_COLOURS)]
        draw.rectangle(box.to_pixels(*picture.size), outline=colour, width=line_px)
    return annotated


def line_width(picture_width: int) -> int:
    return max(3, int(0.003 * picture_width))


def crop_rect(box: Box, width: int, height: int, *, margin: float = 0.1, max_margin_px: int = 600) -> tuple[int, int, int, int]:
    """The pixels to cut out for `box`: (left, top, right, bottom) of a width x height picture, margins included and clipped.

    Args:
        margin: added per side, as a fraction of the picture (not of the box).
        max_margin_px: upper bound on that margin, in pixels.

    Raises:
        EmptyCropError: no whole pixel is covered after clipping.
    """
    pad_x, pad_y = min(margin, max_margin_px / width), min(margin, max_margin_px / height)
    left = int(max(0, box.x1 / 1000 - pad_x) * width)
    top = int(max(0, box.y1 / 1000 - pad_y) * height)
    right = int(min(1, box.x2 / 1000 + pad_x) * width)
    bottom = int(min(1, box.y2 / 1000 + pad_y) * height)
    if left >= right or top >= bottom:
        raise EmptyCropError(f"box {box.xyxy} covers no pixel of a {width} x {height} picture")
    return left, top, right, bottom
