"""Boxes in a reply's <box> tags, read and scored as TreeVGR does for TreeBench.

Source: Haochen-Wang409/TreeVGR, inference_treebench.py. A tag counts when it begins with four whole numbers in square
brackets, without blanks and signs; they are pixels of the image. The score is the mean over the targets of the best
IoU, 0 without targets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from p2r.boxes.fit import mean_best_iou
from p2r.types import Box

_TAG = re.compile(r"<box>(.*?)</box>", re.DOTALL)
_NUMBER = r"(\d{1,15})"  # longer ones are far beyond any image, and floats do not tell neighbors apart
_CORNERS = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")


def read_tagged_boxes(reply: str) -> list[tuple[int, int, int, int]]:
    """Return the boxes in a reply's tags, as (x1, y1, x2, y2) in pixels; those without an area do not count."""
    found = (_CORNERS.match(tag.strip()) for tag in _TAG.findall(reply))
    corners = (tuple(map(int, match.groups())) for match in found if match)
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in corners if x1 < x2 and y1 < y2]


def tagged_iou(reply: str, gold: Sequence[Box], image_wh: tuple[int, int]) -> float:
    """Return the mean over gold boxes of the best IoU that a box in the reply's tags reaches, 0 to 1.

    Args:
        gold: per mille.
        image_wh: (width, height) of the image in pixels.
    """
    width, height = image_wh
    boxes = [
        Box(x1=x1 / width * 1000, y1=y1 / height * 1000, x2=x2 / width * 1000, y2=y2 / height * 1000)
        for x1, y1, x2, y2 in read_tagged_boxes(reply)
    ]
    return mean_best_iou(boxes, gold)
