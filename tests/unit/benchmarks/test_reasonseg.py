"""ReasonSeg from polygons and from masks, and that the two are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.benchmarks.annotations.polygons import draw_polygon
from p2r.errors import DataError
from tests.fakes.benchmark_files import make_bytes, write_parquet, write_reasonseg


def test_the_box_covers_the_pixels_of_the_target_only(tmp_path: Path) -> None:
    benchmark = load_benchmark(f"reasonseg:{write_reasonseg(tmp_path / 'ReasonSeg' / 'val').parent}", split="val")
    sample = benchmark[0]
    assert (sample.id, sample.question) == ("1_a", "something to sit on")
    assert sample.gold_boxes[0].xyxy == pytest.approx((10 / 80 * 1000, 10 / 60 * 1000, 41 / 80 * 1000, 31 / 60 * 1000))
    assert benchmark.scored_by == "box"
    assert benchmark.differences == ("2 samples instead of 200",)
    assert "target polygons" in benchmark.notes[0]


def test_an_annotation_in_cp1252_is_read(tmp_path: Path) -> None:
    benchmark = load_benchmark(f"reasonseg:{write_reasonseg(tmp_path / 'val')}")
    assert benchmark[1].question == "the café’s sign"


def test_a_gold_box_scores_one(tmp_path: Path) -> None:
    report = check_benchmark(load_benchmark(f"reasonseg:{write_reasonseg(tmp_path / 'val')}"))
    assert report.passed and (report.num_answers, report.num_boxes) == (2, 2)


def write_converted(path: Path, **change: object) -> Path:
    mask = np.zeros((60, 80), bool)
    mask[10:31, 10:41] = mask[10:51, 50:71] = True
    row = {
        "image": {"bytes": make_bytes(1), "path": None},
        "mask": mask.tolist(),
        "text": "something to sit on",
        "image_id": "1_a",
        "ann_id": "0",
        "img_height": 60,
        "img_width": 80,
    }
    return write_parquet(path, [row | change])


def test_the_conversion_says_that_its_boxes_hold_the_areas_to_ignore(tmp_path: Path) -> None:
    (tmp_path / "ReasonSeg_test" / "data").mkdir(parents=True)
    write_converted(tmp_path / "ReasonSeg_test" / "data" / "test-00000-of-00001.parquet")
    benchmark = load_benchmark(tmp_path / "ReasonSeg_test")
    assert benchmark[0].gold_boxes[0].x2 == pytest.approx(71 / 80 * 1000)
    assert "areas to ignore as well" in benchmark.notes[0]
    assert benchmark.differences == ("1 sample instead of 779",)
    assert check_benchmark(benchmark).passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": [[False] * 80] * 60}, "no target area"),
        ({"mask": [[True] * 80] * 59}, "80 x 59 pixels for an image of 80 x 60"),
        ({"mask": [[True] * 80, [True]]}, "not a mask"),
        ({"text": ""}, "field 'text'"),
    ],
)
def test_a_bad_row_of_the_conversion_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_converted(tmp_path / "val.parquet", **change)
    with pytest.raises(DataError, match=rf"val\.parquet, row 1: .*{message}"):
        load_benchmark(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": [{"label": "target", "points": []}]}, "not a polygon"),
        ({"shapes": [{"label": "target", "points": [[1, "x"]]}]}, "not a point"),
        ({"shapes": []}, "no target area"),
        ({"text": []}, "lacks 'text'"),
        ({"text": [" "]}, "field 'text': empty"),
    ],
)
def test_a_bad_annotation_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_reasonseg(tmp_path / "val") / "1_a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=rf"1_a\.json: .*{message}"):
        load_benchmark(tmp_path / "val")


def test_which_split_has_to_be_said(tmp_path: Path) -> None:
    write_reasonseg(tmp_path / "r" / "val")
    write_reasonseg(tmp_path / "r" / "test")
    with pytest.raises(DataError, match="holds the splits val, test"):
        load_benchmark(f"reasonseg:{tmp_path / 'r'}")


def test_a_polygon_outside_the_image_leaves_no_pixel() -> None:
    mask = np.zeros((5, 5), np.uint8)
    draw_polygon(mask, [(-9, -9), (-2, -9), (-2, -2)], 1)
    assert not mask.any()


def test_a_polygon_inside_another_of_the_same_path_is_a_hole() -> None:
    mask = np.zeros((9, 9), np.uint8)
    draw_polygon(mask, [(0, 0), (8, 0), (8, 8), (0, 8), (0, 0), (3, 3), (3, 5), (5, 5), (5, 3), (3, 3)], 1)
    assert mask[4, 4] == 0 and mask[1, 7] == 1
