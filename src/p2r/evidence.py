"""Boxes become evidence: all of them drawn on the picture, the first three cut out of it at full resolution.

Paper: section 3.2 and appendix B.2 (three crops). Colours, line width, margin and the skip rules are those of the
authors' release (evaluation/p2r_utils.py); the paper does not state them. Geometry agrees with the release to the
pixel.

A model sees the annotated picture sized to its budget. Drawing on a whole 8K picture and sizing it again takes many
times longer than the lines are worth. So the sized picture that the perceiver saw is copied, and only what the lines
touch is made anew from full resolution: the same pixels to the bit. Where the lines touch a large part, the plain way
is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image, ImageDraw

from p2r.errors import EmptyCropError
from p2r.pixels import Picture, cut, fit, is_too_thin
from p2r.resample import Rect, agrees_with_pillow, resize_window, touched_range
from p2r.types import Box, Budget, EvidenceRecord

BOX_COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "cyan", "magenta")

# Making a pixel of the sized picture anew costs about this many times what it costs within one whole resize.
REDRAW_COST = 4


@dataclass(frozen=True)
class Evidence:
    """What the reasoner sees.

    picture: the whole picture.
    boxes: all boxes, drawn in this order.
    crops: full-resolution cut-outs of the first boxes; () when there is no usable box.
    """

    picture: Picture
    boxes: tuple[Box, ...]
    crops: tuple[Image.Image, ...]
    record: EvidenceRecord

    @cached_property
    def annotated(self) -> Image.Image | None:
        """`picture` at full resolution with the boxes drawn, made when first asked for; None without a usable box."""
        return annotate(self.picture.image, self.boxes) if self.record.annotated else None

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """The annotated picture and the crops; without evidence the picture alone. Full resolution."""
        return (self.picture.image,) if self.annotated is None else (self.annotated, *self.crops)

    def sized(self, budget: Budget) -> tuple[Image.Image, ...]:
        """`images` as a model with this budget sees them. No annotated picture at full resolution is made for it."""
        if not self.record.annotated:
            return (self.picture.fitted(budget),)
        return annotate_fitted(self.picture, self.boxes, budget), *(fit(crop, budget) for crop in self.crops)


def gather(picture: Picture, boxes: Sequence[Box], *, limit: int = 3) -> Evidence:
    """Draw `boxes` and cut out the first `limit`. A crop no model can see is skipped; with none left, no evidence.

    Args:
        picture: at full resolution; not modified.
        boxes: per mille of the picture; () gives the picture alone.
        limit: most crops, 3 in the paper.
    """
    record = plan_crops(picture.size, boxes, limit=limit)
    return Evidence(picture, tuple(boxes), tuple(cut(picture.image, rect) for rect in record.crops), record)


def plan_crops(image_wh: tuple[int, int], boxes: Sequence[Box], *, limit: int = 3) -> EvidenceRecord:
    """What `gather` will cut out, without touching a pixel."""
    rects: list[Rect] = []
    skipped: list[int] = []
    for index, box in enumerate(boxes[:limit]):
        try:
            rect = crop_rect(box, *image_wh)
        except EmptyCropError:
            skipped.append(index)
            continue
        if is_too_thin(rect[2] - rect[0], rect[3] - rect[1]):
            skipped.append(index)
        else:
            rects.append(rect)
    return EvidenceRecord(image_wh=image_wh, crops=tuple(rects), skipped=tuple(skipped), annotated=bool(rects))


def annotate(picture: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """A copy of `picture` with every box outlined; colours in turn, lines max(3, 0.3% of the width) pixels wide."""
    annotated = picture.copy()
    _draw(annotated, boxes, picture.size, (0, 0))
    return annotated


def annotate_fitted(picture: Picture, boxes: Sequence[Box], budget: Budget) -> Image.Image:
    """`fit(annotate(picture.image, boxes), budget)` to the bit, without drawing on and sizing the whole picture."""
    fitted, size = picture.fitted(budget), picture.size
    if fitted.size == size:
        return annotate(fitted, boxes)
    rects = [rect for box in boxes for rect in _line_rects(box, size)]
    windows = [window for rect in rects if (window := _touched(rect, size, fitted.size))]
    num_redrawn_px = sum((right - left) * (bottom - top) for left, top, right, bottom in windows)
    if num_redrawn_px * REDRAW_COST > fitted.width * fitted.height or not agrees_with_pillow():
        return fit(annotate(picture.image, boxes), budget)

    def read_annotated(rect: Rect) -> Image.Image:
        part = cut(picture.image, rect)
        _draw(part, boxes, size, rect[:2])
        return part

    annotated = fitted.copy()
    for window in windows:
        annotated.paste(resize_window(read_annotated, size, fitted.size, window), window[:2])
    return annotated


def line_width(picture_width: int) -> int:
    return max(3, int(0.003 * picture_width))


def crop_rect(
    box: Box, width: int, height: int, *, margin: float | tuple[float, float] = 0.1, max_margin_px: int = 600
) -> Rect:
    """The pixels to cut out for `box`, margins included, clipped to a width x height picture.

    Args:
        margin: added per side, as a fraction of the picture (not of the box); (x, y) where they differ.
        max_margin_px: upper bound on that margin, in pixels.

    Raises:
        EmptyCropError: no whole pixel is covered after clipping.
    """
    margin_x, margin_y = margin if isinstance(margin, tuple) else (margin, margin)
    pad_x, pad_y = min(margin_x, max_margin_px / width), min(margin_y, max_margin_px / height)
    left = int(max(0, box.x1 / 1000 - pad_x) * width)
    top = int(max(0, box.y1 / 1000 - pad_y) * height)
    right = int(min(1, box.x2 / 1000 + pad_x) * width)
    bottom = int(min(1, box.y2 / 1000 + pad_y) * height)
    if left >= right or top >= bottom:
        raise EmptyCropError(f"box {box.xyxy} covers no pixel of a {width} x {height} picture")
    return left, top, right, bottom


def _draw(part: Image.Image, boxes: Sequence[Box], size: tuple[int, int], origin: tuple[int, int]) -> None:
    """Outline the boxes on `part`, which begins at `origin` of a picture of `size`."""
    draw, line_px = ImageDraw.Draw(part), line_width(size[0])
    reach_px = 2 * line_px  # a side that far outside cannot be seen; without the limit Pillow walks along all of it
    for index, box in enumerate(boxes):
        left, top, right, bottom = box.to_pixels(*size)
        corners = (
            _clamp(left - origin[0], -reach_px, part.width + reach_px),
            _clamp(top - origin[1], -reach_px, part.height + reach_px),
            _clamp(right - origin[0], -reach_px, part.width + reach_px),
            _clamp(bottom - origin[1], -reach_px, part.height + reach_px),
        )
        draw.rectangle(corners, outline=BOX_COLOURS[index % len(BOX_COLOURS)], width=line_px)


def _clamp(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


def _line_rects(box: Box, size: tuple[int, int]) -> list[Rect]:
    """Rectangles that hold every pixel that `box` colours: its four sides, or all of it where the sides meet."""
    left, top, right, bottom = box.to_pixels(*size)
    right, bottom, line_px = right + 1, bottom + 1, line_width(size[0])
    if right - left <= 3 * line_px or bottom - top <= 3 * line_px:  # a thin box is coloured beyond its own corners
        widest = (min(left, right - line_px), max(right, left + line_px))
        tallest = (min(top, bottom - line_px), max(bottom, top + line_px + 1))
        return [(widest[0], tallest[0], widest[1], tallest[1])]
    return [
        (left, top, right, top + line_px),
        (left, bottom - line_px, right, bottom),
        (left, top + line_px, left + line_px, bottom - line_px),
        (right - line_px, top + line_px, right, bottom - line_px),
    ]


def _touched(rect: Rect, size: tuple[int, int], new_size: tuple[int, int]) -> Rect | None:
    """The window of the sized picture that depends on `rect` of the full one; None when it lies outside."""
    left, right = touched_range(size[0], new_size[0], rect[0], rect[2])
    top, bottom = touched_range(size[1], new_size[1], rect[1], rect[3])
    return (left, top, right, bottom) if left < right and top < bottom else None
