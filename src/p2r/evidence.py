"""Boxes become evidence: all of them drawn on the image, the first three cut out of it at full resolution.

Paper: section 3.2 and appendix B.2 (three crops). Colors, line width, margin and the skip rules are those of the
authors' release (evaluation/p2r_utils.py); the paper does not state them. Geometry agrees with the release to the
pixel.

A model sees the annotated image sized to its budget. Drawing on a whole 8K image and sizing it again takes many
times longer than the lines are worth. So the sized image that the perceiver saw is copied, and only what the lines
touch is drawn again from full resolution: the same pixels to the bit. Where the lines touch a large part, the whole
image is drawn on and sized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image, ImageDraw

from p2r.dialogue import Budget
from p2r.errors import EmptyCropError, ImageError
from p2r.images.budget import FullImage, cut, fit, is_too_thin
from p2r.images.resample import Rect, agrees_with_pillow, resize_window, touched_range
from p2r.types import Box, EvidenceRecord, Trace

BOX_COLORS = ("red", "green", "blue", "yellow", "orange", "purple", "cyan", "magenta")

MAX_CROPS = 3
"""Most crops that a reasoner is shown (paper, appendix B.2)."""

REDRAW_COST = 4
"""Redrawing a pixel of the sized image alone costs about this many times its share of one whole resize."""


@dataclass(frozen=True)
class Evidence:
    """The images that the reasoner sees.

    full_image: the whole image.
    boxes: all boxes, drawn in this order.
    crops: cut out of the first boxes at full resolution; () when there is no usable box.
    """

    full_image: FullImage
    boxes: tuple[Box, ...]
    crops: tuple[Image.Image, ...]
    record: EvidenceRecord

    @cached_property
    def annotated(self) -> Image.Image | None:
        """The image at full resolution with the boxes drawn, made when first asked for; None without a usable box."""
        return annotate(self.full_image.image, self.boxes) if self.record.annotated else None

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """The annotated image and the crops at full resolution; without a usable box the image alone."""
        return (self.full_image.image,) if self.annotated is None else (self.annotated, *self.crops)

    def sized(self, budget: Budget) -> tuple[Image.Image, ...]:
        """Return `images` as a model with this budget sees them, without drawing on the image at full resolution."""
        if not self.record.annotated:
            return (self.full_image.fitted(budget),)
        return annotate_fitted(self.full_image, self.boxes, budget), *(fit(crop, budget) for crop in self.crops)


def gather(full_image: FullImage, boxes: Sequence[Box], *, limit: int = MAX_CROPS) -> Evidence:
    """Draw `boxes` and cut out the first `limit`.

    A crop that no model can see is skipped. Without a crop there is no evidence: the image is shown as it is.

    Args:
        full_image: not modified.
        boxes: per mille of the image; () gives the image alone.
        limit: most crops.
    """
    return _cut_out(full_image, boxes, plan_crops(full_image.size, boxes, limit=limit))


def regather(full_image: FullImage, trace: Trace) -> Evidence:
    """Return the evidence of a finished walk, cut out by the rectangles that its trace holds.

    The record does not hold the boxes that a tool showed the reasoner; for them, evidence is gathered as for a
    perceiver's boxes.

    Raises:
        ImageError: the trace is about an image of another size.
    """
    record = trace.evidence
    if record is not None and record.image_wh != full_image.size:
        (width, height), (recorded_width, recorded_height) = full_image.size, record.image_wh
        raise ImageError(
            f"the image {trace.image} is {width} x {height} pixels, but the trace is about one of "
            f"{recorded_width} x {recorded_height}",
            hint="use the image that the question was asked about",
        )
    num_perceived = len(trace.perception.boxes) if trace.perception else 0
    if record is None or len(trace.boxes) > num_perceived:
        return gather(full_image, trace.boxes)
    return _cut_out(full_image, trace.boxes, record)


def box_color(index: int) -> str:
    """Return the color in which the box with this index is drawn."""
    return BOX_COLORS[index % len(BOX_COLORS)]


def plan_crops(image_wh: tuple[int, int], boxes: Sequence[Box], *, limit: int = MAX_CROPS) -> EvidenceRecord:
    """Return what `gather` will cut out, without touching a pixel."""
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


def annotate(image: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """Return a copy of `image` with every box outlined, in turning colors and `line_width` pixels wide."""
    annotated = image.copy()
    _draw(annotated, boxes, image.size, (0, 0))
    return annotated


def annotate_fitted(full_image: FullImage, boxes: Sequence[Box], budget: Budget) -> Image.Image:
    """Return `fit(annotate(full_image.image, boxes), budget)` to the bit, without drawing on the whole image."""
    fitted, size = full_image.fitted(budget), full_image.size
    if fitted.size == size:
        return annotate(fitted, boxes)
    rects = [rect for box in boxes for rect in _line_rects(box, size)]
    windows = [window for rect in rects if (window := _touched(rect, size, fitted.size))]
    num_redrawn_px = sum((right - left) * (bottom - top) for left, top, right, bottom in windows)
    if num_redrawn_px * REDRAW_COST > fitted.width * fitted.height or not agrees_with_pillow():
        return fit(annotate(full_image.image, boxes), budget)

    def read_annotated(rect: Rect) -> Image.Image:
        part = cut(full_image.image, rect)
        _draw(part, boxes, size, rect[:2])
        return part

    annotated = fitted.copy()
    for window in windows:
        annotated.paste(resize_window(read_annotated, size, fitted.size, window), window[:2])
    return annotated


def line_width(image_width: int) -> int:
    """Return how wide a box's outline is, in pixels of an image of this width: 0.3% of it, at least 3."""
    return max(3, int(0.003 * image_width))


def crop_rect(
    box: Box, width: int, height: int, *, margin: float | tuple[float, float] = 0.1, max_margin_px: int = 600
) -> Rect:
    """Return the pixels to cut out for `box`, margins included, clipped to a width x height image.

    Args:
        margin: added on each side, as a fraction of the image (not of the box); (x, y) where the two differ.
        max_margin_px: upper bound of the margin, in pixels.

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
        raise EmptyCropError(f"box {box.xyxy} covers no pixel of a {width} x {height} image")
    return left, top, right, bottom


def _cut_out(full_image: FullImage, boxes: Sequence[Box], record: EvidenceRecord) -> Evidence:
    return Evidence(full_image, tuple(boxes), tuple(cut(full_image.image, rect) for rect in record.crops), record)


def _draw(part: Image.Image, boxes: Sequence[Box], size: tuple[int, int], origin: tuple[int, int]) -> None:
    """Outline the boxes on `part`, whose first pixel is `origin` of an image of `size`."""
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
        draw.rectangle(corners, outline=box_color(index), width=line_px)


def _clamp(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


def _line_rects(box: Box, size: tuple[int, int]) -> list[Rect]:
    """List rectangles that hold every pixel that `box` colors: its four sides, or all of it where the sides meet."""
    left, top, right, bottom = box.to_pixels(*size)
    right, bottom, line_px = right + 1, bottom + 1, line_width(size[0])
    if right - left <= 3 * line_px or bottom - top <= 3 * line_px:  # a thin box is colored beyond its own corners
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
    """Return the window of the sized image that depends on `rect` of the full one; None when it lies outside."""
    left, right = touched_range(size[0], new_size[0], rect[0], rect[2])
    top, bottom = touched_range(size[1], new_size[1], rect[1], rect[3])
    return (left, top, right, bottom) if left < right and top < bottom else None
