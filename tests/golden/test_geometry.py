"""Crops, drawn boxes and sizes agree with the public code to the pixel."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from p2r.dialogue import Budget
from p2r.errors import EmptyCropError, ImageError
from p2r.evidence import BOX_COLORS, annotate, crop_rect, line_width
from p2r.images.budget import smart_resize
from p2r.types import Box
from tests.golden.rows import hash_pixels, make_background, read_rows

CROPS, DRAWINGS, SIZES = (
    read_rows(name) for name in ("crop_geometry_authors", "draw_geometry_authors", "smart_resize")
)


def make_box(corners: list[float]) -> Box:
    x1, y1, x2, y2 = corners
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


def has_area(row: dict[str, Any]) -> bool:
    """Boxes without area are refused when a reply is parsed, here as in the release, and never reach the geometry."""
    x1, y1, x2, y2 = row["bbox_2d"]
    return x1 < x2 and y1 < y2


@pytest.mark.parametrize("row", [row for row in CROPS if has_area(row)], ids=lambda row: row["id"])
def test_crop_rectangle_is_that_of_the_release(row: dict[str, Any]) -> None:
    width, height = row["image_size"]
    margin = tuple(row["padding"])
    if row["expected"]["error"] or 0 in row["expected"]["crop_size"]:  # an empty crop crashes the release later on
        with pytest.raises(EmptyCropError):
            crop_rect(make_box(row["bbox_2d"]), width, height, margin=margin)
    else:
        rect = crop_rect(make_box(row["bbox_2d"]), width, height, margin=margin)
        assert list(rect) == row["expected"]["crop_box"]
        assert [rect[2] - rect[0], rect[3] - rect[1]] == row["expected"]["crop_size"]


@pytest.mark.parametrize("row", DRAWINGS, ids=lambda row: row["id"])
def test_rectangles_are_those_of_the_release(row: dict[str, Any]) -> None:
    width, height = row["image_size"]
    boxes = [make_box(corners) for corners in row["boxes"]]
    drawn = [
        {
            "xy": [list(box.to_pixels(width, height)[:2]), list(box.to_pixels(width, height)[2:])],
            "outline": BOX_COLORS[index % len(BOX_COLORS)],
            "width": line_width(width),
        }
        for index, box in enumerate(boxes)
    ]
    assert drawn == row["expected"]["rectangles"]
    if row["expected"].get("rgb_sha256"):
        assert hash_pixels(annotate(make_background(width, height), boxes)) == row["expected"]["rgb_sha256"]


@pytest.mark.parametrize("row", SIZES, ids=lambda row: row["id"])
@pytest.mark.parametrize("variant", ["transformers", "qwen_vl_utils"])
def test_size_is_that_of_both_published_variants(
    row: dict[str, Any], variant: Literal["transformers", "qwen_vl_utils"]
) -> None:
    for expected in row["expected"].values():
        budget = Budget(factor=row["factor"], min_pixels=expected["min_pixels"], max_pixels=expected["max_pixels"])
        if expected[variant]["error"]:
            with pytest.raises(ImageError, match="more than 200 times"):
                smart_resize(row["height"], row["width"], budget, variant=variant)
        else:
            size = smart_resize(row["height"], row["width"], budget, variant=variant)
            assert size == (expected[variant]["h"], expected[variant]["w"])
