"""The parts of an image in which the search of `zoom` looks: its quarters, their quarters, and so on.

As in ZoomEye, parts have the shape of the image; a long part is cut along its length.
"""

from __future__ import annotations

from p2r.roles.base import WHOLE
from p2r.types import Box


def split(box: Box, image_wh: tuple[int, int]) -> list[Box]:
    """Cut a box into four equal parts, row by row; in a line where one side is at least twice as long as the other."""
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
    """Count how often an image is quartered if parts whose longer side is below `smallest_px` are not."""
    box = WHOLE
    for level in range(most):
        if longer_side_px(box, image_wh) < smallest_px:
            return level
        box = split(box, image_wh)[0]
    return most


def longer_side_px(box: Box, image_wh: tuple[int, int]) -> float:
    """Return the longer side of a box, in pixels of the image."""
    return max((box.x2 - box.x1) * image_wh[0], (box.y2 - box.y1) * image_wh[1]) / 1000
