"""How well boxes fit the gold boxes: hits and intersection over union.

Paper: section 4.4 calls it a hit when the center of a predicted box lies inside the gold box. It does not say how
several boxes or several gold boxes count, so each reading has its own name here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2r.statistics import mean_of
from p2r.types import Box


def iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0 to 1."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - shared)


def is_hit(box: Box, gold: Box) -> bool:
    """Tell whether the center of `box` lies inside `gold`, its edge included."""
    x, y = box.center
    return gold.x1 <= x <= gold.x2 and gold.y1 <= y <= gold.y2


def hits(boxes: Sequence[Box], gold: Sequence[Box]) -> bool:
    """Tell whether any box hits any gold box: the paper's hit, per sample."""
    return any(is_hit(box, target) for box in boxes for target in gold)


def mean_best_iou(boxes: Sequence[Box], gold: Sequence[Box]) -> float:
    """Return the mean over gold boxes of the best IoU that any box reaches; 0 without boxes or gold boxes."""
    return mean_of(max((iou(box, target) for box in boxes), default=0.0) for target in gold) or 0.0


@dataclass(frozen=True, slots=True)
class Localization:
    """Seven readings of how well the boxes of one sample fit its gold boxes.

    hit_any: some box hits some gold box.
    hit_all: every gold box is hit.
    hit_share_of_gold, hit_share_of_boxes: the share of gold boxes, or of boxes, that take part in a hit, 0 to 1.
    mean_iou_of_gold, mean_iou_of_boxes: mean over gold boxes, or boxes, of the best IoU with one of the others.
    best_iou: the best IoU of all pairs.
    """

    hit_any: bool
    hit_all: bool
    hit_share_of_gold: float
    hit_share_of_boxes: float
    mean_iou_of_gold: float
    mean_iou_of_boxes: float
    best_iou: float


def localize(boxes: Sequence[Box], gold: Sequence[Box]) -> Localization:
    """Compute all readings; each is 0 without boxes or gold boxes."""
    gold_hit = [any(is_hit(box, target) for box in boxes) for target in gold]
    boxes_hit = [any(is_hit(box, target) for target in gold) for box in boxes]
    return Localization(
        hit_any=any(gold_hit),
        hit_all=bool(gold_hit) and all(gold_hit),
        hit_share_of_gold=mean_of(gold_hit) or 0.0,
        hit_share_of_boxes=mean_of(boxes_hit) or 0.0,
        mean_iou_of_gold=mean_best_iou(boxes, gold),
        mean_iou_of_boxes=mean_best_iou(gold, boxes),
        best_iou=max((iou(box, target) for box in boxes for target in gold), default=0.0),
    )


def target_inside_crop(
    gold: Box, crops: Sequence[tuple[int, int, int, int]], image_wh: tuple[int, int], *, tolerance_px: float = 1.0
) -> bool:
    """Tell whether one of the crops holds the whole gold box, so that the reasoner saw all of it at full resolution.

    Args:
        crops: (left, top, right, bottom) in pixels of the full image, as in EvidenceRecord.
        image_wh: (width, height) in pixels of the full image.
        tolerance_px: how far the box may reach beyond a crop, since crops end on whole pixels.
    """
    width, height = image_wh
    x1, y1, x2, y2 = gold.x1 / 1000 * width, gold.y1 / 1000 * height, gold.x2 / 1000 * width, gold.y2 / 1000 * height
    return any(min(x1 - left, y1 - top, right - x2, bottom - y2) >= -tolerance_px for left, top, right, bottom in crops)
