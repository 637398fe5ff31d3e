"""An image quartered, and its quarters quartered again: where the search of `zoom` can look.

As in ZoomEye, parts are the shape of the image; a long one is cut along its length.
"""

from __future__ import annotations

from p2r.roles.base import WHOLE
from p2r.types import Box


def split(box: Box, image_wh: tuple[int, int]) -> list[Box]:
    """Four equal parts, row by row: side by side or in a pile where the box is at least twice as long as wide."""
    shape = (box.y2 - box.y1) * image_wh[1] / ((box.x2 - box.x1) * image_wh[0])
    columns, rows = (1, 4) if shape >= 2 else (4, 1) if shape <= 0.5 else (2, 2)
    width, height = (box.x2 - box.x1) / columns, (box.y2 - box.y1) / rows
    return [
        Box(
            x1=box.x1 + column * width,
            y1=box.y1 + row * height,
            x2=box.x1 + (column + 1) * width,
            y2=box.y1 + (row + 1) * height,
        )
        for row in range(rows)
        for column in range(columns)
    ]


def count_levels(image_wh: tuple[int, int], *, smallest_px: int, most: int) -> int:
    """How often an image is quartered when parts whose longer side is shorter than `smallest_px` are not."""
    box = WHOLE
    for level in range(most):
        if longer_side_px(box, image_wh) < smallest_px:
            return level
        box = split(box, image_wh)[0]
    return most


def longer_side_px(box: Box, image_wh: tuple[int, int]) -> float:
    """The longer side of a box, in pixels of the image."""
    return max((box.x2 - box.x1) * image_wh[0], (box.y2 - box.y1) * image_wh[1]) / 1000
