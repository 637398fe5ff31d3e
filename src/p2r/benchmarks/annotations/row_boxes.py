"""Gold boxes in a row of your own questions: [x1, y1, x2, y2], or {"box": [...], "label": "sail"}, in a stated frame.

No boxes ([]) say that there is none to find; a row without the field, that it is not known.
"""

from __future__ import annotations

from typing import cast

from pydantic import TypeAdapter, ValidationError

from p2r.benchmarks.annotations.gold_boxes import box_from_pixels, make_box
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
