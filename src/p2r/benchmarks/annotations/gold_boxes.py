"""Make gold boxes, per mille, from corners in pixels or per mille."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from p2r.errors import DataError
from p2r.types import Box

SLIP_PX = 1.0
"""A box in pixels may reach this far beyond the image: by rounding, or by counting its last pixel from 1."""


def box_from_pixels(corners: Sequence[float], image_wh: tuple[int, int], label: str = "") -> Box:
    """Convert (x1, y1, x2, y2) in pixels of an image of (width, height) to a box per mille.

    Raises:
        DataError: not a rectangle inside the image.
    """
    width, height = image_wh
    x1, y1, x2, y2 = cut_slip(corners, image_wh, SLIP_PX)
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise DataError(
            f"the box {list(corners)} (x1, y1, x2, y2) is not a rectangle inside the {width} x {height} image",
            hint="boxes in pixels count from the top left corner; per mille run from 0 to 1000",
        )
    return make_box((x1 / width * 1000, y1 / height * 1000, x2 / width * 1000, y2 / height * 1000), label)


def make_box(corners: Sequence[float], label: str = "") -> Box:
    """Make a box from (x1, y1, x2, y2) per mille. Raises DataError unless it is a rectangle inside the image."""
    x1, y1, x2, y2 = corners
    try:
        box = Box(x1=x1, y1=y1, x2=x2, y2=y2, label=label)
    except ValidationError as error:
        raise DataError(f"the box {list(corners)} is not a rectangle", hint="write x1 < x2 and y1 < y2") from error
    if min(corners) < 0 or max(corners) > 1000 + 1e-6:
        raise DataError(
            f"the box {list(corners)} reaches beyond the image, 0 to 1000 per mille",
            hint="are these pixels? then say so",
        )
    return box


def cut_slip(corners: Sequence[float], size: tuple[float, float], slip: float) -> tuple[float, float, float, float]:
    """Cut (x1, y1, x2, y2) at the edges if it reaches beyond them by at most `slip`; else return it as it is."""
    (width, height), (x1, y1, x2, y2) = size, corners
    is_slip = x1 >= -slip and y1 >= -slip and x2 <= width + slip and y2 <= height + slip
    return clip_to_image(corners, size) if is_slip else (x1, y1, x2, y2)


def clip_to_image(corners: Sequence[float], image_wh: tuple[float, float]) -> tuple[float, float, float, float]:
    """Cut (x1, y1, x2, y2), in pixels, at the image's edges."""
    (width, height), (x1, y1, x2, y2) = image_wh, corners
    return max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
