"""What tells the evidence of two box sets apart."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from p2r.evidence import plan_crops
from p2r.training.memo import evidence_key
from p2r.types import Box


def make_box(x1: float) -> Box:
    return Box(x1=x1, y1=300, x2=600, y2=600)


def test_boxes_with_equal_corners_but_other_crops_are_other_evidence() -> None:
    size, near, far = (1003, 1003), make_box(199.5), make_box(200.0)
    assert near.to_pixels(*size) == far.to_pixels(*size)
    assert plan_crops(size, [near]).crops != plan_crops(size, [far]).crops
    assert evidence_key(size, [near]) != evidence_key(size, [far])


def test_labels_are_no_part_of_the_evidence() -> None:
    named = make_box(200.0).model_copy(update={"label": "a sail"})
    assert evidence_key((1003, 1003), [named]) == evidence_key((1003, 1003), [make_box(200.0)])
