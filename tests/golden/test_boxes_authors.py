"""Boxes agree with the public code: kept boxes, IoU, pixels, and our seven readings of localization."""

from __future__ import annotations

from math import isfinite
from typing import Any

import pytest

from p2r.boxes import RELEASE, iou, localize, parse_boxes
from p2r.types import Box
from tests.golden.rows import read_rows

REPLIES = read_rows("bbox_parse_authors")
OPERATIONS = read_rows("box_ops_authors")
LOCALIZATIONS = read_rows("localization_reference")


def make_box(corners: list[float]) -> Box:
    x1, y1, x2, y2 = corners
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


def is_box(corners: list[float]) -> bool:
    return corners[0] < corners[2] and corners[1] < corners[3]


def is_in_frame(corners: list[float]) -> bool:
    """Tell whether corners are per mille, or reach beyond the image by a slip only."""
    return min(corners) >= -20 and 1.02 < max(corners) <= 1020


def expected_boxes(row: dict[str, Any]) -> list[list[float]]:
    return row["expected"]["boxes"] or []


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["id"])
def test_release_rules_keep_exactly_the_boxes_of_the_release(row: dict[str, Any]) -> None:
    boxes, parse = parse_boxes(row["text"], rules=RELEASE)
    usable = [corners for corners in expected_boxes(row) if all(map(isfinite, corners))]
    assert [list(box.xyxy) for box in boxes] == usable
    if row["expected"]["error"] or len(usable) < len(expected_boxes(row)):
        assert parse.num_invalid and parse.reason


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["id"])
def test_release_rules_keep_the_labels_of_the_release(row: dict[str, Any]) -> None:
    boxes, _ = parse_boxes(row["text"], rules=RELEASE)
    if len(boxes) == len(row["expected"]["objects"] or []):
        assert [box.label for box in boxes] == [str(found.get("label", "")) for found in row["expected"]["objects"]]


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["id"])
def test_robust_rules_lose_no_box_of_the_release_that_is_in_its_frame(row: dict[str, Any]) -> None:
    boxes, _ = parse_boxes(row["text"])
    corners = {box.xyxy for box in boxes}
    for found in expected_boxes(row):
        clipped = tuple(min(max(value, 0), 1000) for value in found)
        if is_in_frame(found) and is_box(list(clipped)):
            assert clipped in corners


def test_robust_rules_read_clearly_more_of_the_broken_replies() -> None:
    broken = [row for row in REPLIES if row["kind"] in ("malformed", "truncated", "random")]
    by_release = [list(box.xyxy) for row in broken for box in parse_boxes(row["text"], rules=RELEASE)[0]]
    by_robust = sum(len(parse_boxes(row["text"])[0]) for row in broken)
    assert by_robust >= 1.2 * sum(map(is_in_frame, by_release))


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["id"])
def test_robust_rules_invent_no_corner(row: dict[str, Any]) -> None:
    """Every corner stands in the reply, or is the image's edge."""
    for box in parse_boxes(row["text"])[0]:
        for value in box.xyxy:
            assert value in (0, 1000) or f"{value:g}" in row["text"] or repr(value) in row["text"]


def select(op: str) -> list[dict[str, Any]]:
    return [row for row in OPERATIONS if row["op"] == op and all(map(is_box, boxes_of(row)))]


def boxes_of(row: dict[str, Any]) -> list[list[float]]:
    return [value for value in row["args"] if isinstance(value, list)]


@pytest.mark.parametrize("row", select("compute_iou"), ids=lambda row: row["id"])
def test_iou_agrees(row: dict[str, Any]) -> None:
    a, b = map(make_box, row["args"])
    assert iou(a, b) == pytest.approx(row["expected"], abs=1e-15)


@pytest.mark.parametrize("row", select("norm_bbox_to_abs"), ids=lambda row: row["id"])
def test_pixels_agree(row: dict[str, Any]) -> None:
    corners, width, height = row["args"]
    assert list(make_box(corners).to_pixels(width, height)) == row["expected"]


@pytest.mark.parametrize("row", LOCALIZATIONS, ids=lambda row: row["id"])
def test_localization_agrees_in_all_seven_readings(row: dict[str, Any]) -> None:
    width, height = row["image_size"]
    gold = [
        make_box([x / width * 1000, y / height * 1000, (x + w) / width * 1000, (y + h) / height * 1000])
        for x, y, w, h in row["gt_xywh"]
    ]
    found = localize([make_box(corners) for corners in row["pred_bbox_2d"]], gold)
    expected = row["expected"]
    assert found.hit_any == bool(expected["any_box_hits_any_gt"])
    assert found.hit_all == bool(expected["all_gt_hit"])
    assert found.hit_share_of_gold == pytest.approx(expected["fraction_of_gt_hit"])
    assert found.hit_share_of_boxes == pytest.approx(expected["fraction_of_pred_boxes_hitting"])
    assert found.mean_iou_of_gold == pytest.approx(expected["mean_over_gt_of_best_iou"], abs=1e-12)
    assert found.mean_iou_of_boxes == pytest.approx(expected["mean_over_pred_of_best_iou"], abs=1e-12)
    assert found.best_iou == pytest.approx(expected["best_iou"], abs=1e-12)
