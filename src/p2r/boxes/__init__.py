"""Read boxes from a perceiver's reply, and measure how well they fit the gold boxes."""

from p2r.boxes.fit import Localization, hits, iou, is_hit, localize, mean_best_iou, target_inside_crop
from p2r.boxes.match import matched_f1, matched_iou
from p2r.boxes.parse import RELEASE, ROBUST, ParseRules, parse_boxes
from p2r.boxes.tagged import read_tagged_boxes, tagged_iou

__all__ = [
    "RELEASE",
    "ROBUST",
    "Localization",
    "ParseRules",
    "hits",
    "iou",
    "is_hit",
    "localize",
    "matched_f1",
    "matched_iou",
    "mean_best_iou",
    "parse_boxes",
    "read_tagged_boxes",
    "tagged_iou",
    "target_inside_crop",
]
