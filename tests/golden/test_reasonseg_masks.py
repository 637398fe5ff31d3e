"""ReasonSeg's masks and boxes agree with the public code to the pixel, without OpenCV."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from p2r.benchmarks.annotations.polygons import draw_polygon
from p2r.benchmarks.reasonseg import IGNORE, TARGET, box_around, draw_mask, read_annotation
from tests.golden.rows import read_rows

ROWS = read_rows("reasonseg_masks")


def list_box(mask: NDArray[np.bool_]) -> list[int] | None:
    box = box_around(mask)
    return None if box is None else list(box)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_masks_and_boxes_agree(row: dict[str, Any]) -> None:
    annotation, expected = read_annotation(json.dumps(row["annotation"])), row["expected"]
    mask = draw_mask(annotation, (row["width"], row["height"]))
    assert list(annotation.texts) == expected["text"] and annotation.is_sentence == expected["is_sentence"]
    assert int((mask == TARGET).sum()) == expected["target_area"]
    assert int((mask == IGNORE).sum()) == expected["ignore_area"]
    assert list_box(mask == TARGET) == expected["target_box_inclusive"]
    assert list_box(mask > 0) == expected["lisa_nonzero_box_inclusive"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_the_hugging_face_conversion_merges_what_is_to_be_ignored(row: dict[str, Any]) -> None:
    mask = draw_mask(read_annotation(json.dumps(row["annotation"])), (row["width"], row["height"])) > 0
    assert int(mask.sum()) == row["expected"]["segzero_hf_mask_area"]
    assert list_box(mask) == row["expected"]["segzero_hf_box_inclusive"]


@pytest.mark.parametrize("row", read_rows("polygons_opencv"), ids=lambda row: row["id"])
def test_polygons_agree_with_opencv_also_outside_the_image(row: dict[str, Any]) -> None:
    mask = np.zeros((row["height"], row["width"]), np.uint8)
    draw_polygon(mask, [(x, y) for x, y in row["points"]], 1)
    assert int(mask.sum()) == row["expected"]["area"]
    assert hashlib.sha256(mask.tobytes()).hexdigest()[:16] == row["expected"]["sha256"]
