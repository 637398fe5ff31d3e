"""Gold boxes in a row: those of your own questions, in a stated frame, and those of published rows, in pixels.

Your own are [x1, y1, x2, y2], or {"box": [...], "label": "sail"}. No boxes ([]) say that there is none to find; a row
without the field, that it is not known.
"""

from __future__ import annotations

from typing import cast

from pydantic import TypeAdapter, ValidationError

from p2r.benchmarks.annotations.gold_boxes import box_from_pixels, cut_slip, make_box
from p2r.benchmarks.files.rows import Row, is_empty, parse_struct
from p2r.errors import DataError, excerpt, explain_fault
from p2r.images.load import read_size
from p2r.types import Box, Frozen, ImageSource

Corners = tuple[float, float, float, float]


class LabeledBox(Frozen):
    box: Corners
    label: str = ""


_BOXES = TypeAdapter(tuple[Corners | LabeledBox, ...])


def stated_boxes(row: Row) -> list[object] | None:
    """Return the boxes as the row writes them; None where it says nothing. Raises DataError unless they are a list."""
    value = parse_struct(row.values.get("boxes"))
    if is_empty(value):
        return None
    if not isinstance(value, list):
        raise row.fail("boxes", f"{excerpt(value)} is not a list of boxes")
    return cast("list[object]", value)


def read_boxes(row: Row, image: ImageSource) -> tuple[Box, ...]:
    """Return the boxes per mille. Raises DataError, and ImageError for pixels of an image that cannot be read."""
    value = stated_boxes(row)
    if not value:
        return ()
    frame = row.text("box_frame") if row.has("box_frame") else None
    if frame not in ("pixels", "per_mille"):
        raise row.fail(
            "box_frame",
            "missing" if frame is None else f"{frame!r} is not one of pixels, per_mille",
            'boxes need "box_frame": "pixels" or "box_frame": "per_mille"',
        )
    try:
        boxes = _BOXES.validate_python(value)
    except ValidationError as error:
        raise row.fail("boxes", explain_fault(error.errors()[0])) from error
    named = [item if isinstance(item, LabeledBox) else LabeledBox(box=item) for item in boxes]
    try:
        if frame == "per_mille":
            return tuple(make_box(item.box, item.label) for item in named)
        image_wh = read_size(image)
        return tuple(box_from_pixels(item.box, image_wh, item.label) for item in named)
    except DataError as error:
        raise row.fail("boxes", error.message, error.hint) from error


_PIXELS = TypeAdapter(tuple[Corners, ...])


def read_pixel_boxes(row: Row, name: str, image: ImageSource, slip_share: float) -> tuple[Box, ...]:
    """Return the boxes of a field per mille: one [x1, y1, x2, y2] in pixels or a list of them, also as text.

    () where the field is missing, empty or an empty list.

    Args:
        slip_share: a box may reach this share of the image's longer side beyond the edge, where it is cut.

    Raises:
        DataError: something else, or a box that is not a rectangle inside the image.
        ImageError: the image cannot be read.
    """
    value = parse_struct(row.values.get(name))
    if is_empty(value):
        return ()
    listed = cast("list[object]", value) if isinstance(value, list) else []
    if listed and not isinstance(listed[0], list):
        value = [listed]
    try:
        boxes = _PIXELS.validate_python(value)
    except ValidationError as error:
        raise row.fail(name, f"{excerpt(row.values[name])} is not a list of [x1, y1, x2, y2] in pixels") from error
    image_wh = read_size(image)
    slip = slip_share * max(image_wh)
    try:
        return tuple(box_from_pixels(cut_slip(box, image_wh, slip), image_wh) for box in boxes)
    except DataError as error:
        raise row.fail(name, error.message, error.hint) from error
