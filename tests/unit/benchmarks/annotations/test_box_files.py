"""COCO and Label Studio files of several exporters: the right boxes for each image, or a sentence; never others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.benchmarks.annotations.box_files import read_box_file
from p2r.benchmarks.base import Benchmark
from p2r.errors import DataError

ORIENTATION = 0x0112
Json = dict[str, object]


def write_image(path: Path, image_wh: tuple[int, int] = (400, 300), orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.new("RGB", image_wh, "gray").save(path, exif=exif)
    return path


def coco(*boxes: list[float], name: str = "scan.jpg", image_wh: tuple[float, float] = (400, 300)) -> Json:
    return {
        "images": [{"id": 1, "file_name": name, "width": image_wh[0], "height": image_wh[1]}],
        "annotations": [{"id": k, "image_id": 1, "category_id": 1, "bbox": box} for k, box in enumerate(boxes)],
        "categories": [{"id": 1, "name": "block"}],
    }


def rectangle(x: float, y: float, width: float, height: float, **more: object) -> Json:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": ["block"]}
    return {"type": "rectanglelabels", "original_width": 400, "original_height": 300, "value": value} | more


def task(*annotations: Json, image: str = "/data/upload/1/0a1b2c3d-scan.jpg") -> Json:
    return {"id": 1, "data": {"image": image}, "annotations": list(annotations)}


def join(folder: Path, content: object, *, images: list[str] | None = None, skip_bad: int = 0) -> Benchmark:
    """Load a question for each image with boxes from a file."""
    names = images or ["scan.jpg"]
    for name in names:
        if not (folder / name).exists():
            write_image(folder / name)
    rows = [json.dumps({"image": name, "question": "What colour is the block?", "target": "red"}) for name in names]
    (folder / "q.jsonl").write_text("\n".join(rows))
    (folder / "boxes.json").write_text(json.dumps(content))
    return load_benchmark(folder / "q.jsonl", boxes=folder / "boxes.json", skip_bad=skip_bad)


def corners(benchmark: Benchmark, index: int = 0) -> list[tuple[float, ...]]:
    return [tuple(round(side, 3) for side in box.xyxy) for box in benchmark[index].gold_boxes]


def test_the_same_scan_has_the_same_box_as_tiff_and_as_jpeg(tmp_path: Path) -> None:
    for name in ("scan.jpg", "scan.tif", "scan.png", "scan.webp"):
        write_image(tmp_path / name, orientation=6)
        row = {
            "image": name,
            "question": "What?",
            "target": "red",
            "boxes": [[40, 40, 260, 360]],
            "box_frame": "pixels",
        }
        (tmp_path / "q.jsonl").write_text(json.dumps(row))
        benchmark = load_benchmark(tmp_path / "q.jsonl")
        assert corners(benchmark) == [(133.333, 100.0, 866.667, 900.0)]
        assert check_benchmark(benchmark).passed


@pytest.mark.parametrize("name", ["scan.jpg", "scan.tif"])
def test_boxes_drawn_on_the_image_as_stored_are_refused(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, orientation=6)
    with pytest.raises(DataError, match="drawn on 400 x 300 pixels, and the upright image has 300 x 400") as error:
        join(tmp_path, coco([300, 40, 60, 60], name=name), images=[name])
    assert "the image was turned" in error.value.hint and "skip_bad=1" in error.value.hint
    upright = join(tmp_path, coco([200, 300, 60, 60], name=name, image_wh=(300, 400)), images=[name])
    assert corners(upright) == [(666.667, 750.0, 866.667, 900.0)] and upright.differences == ()


@pytest.mark.parametrize("image_wh", [(800, 600), (4000, 3000), (200, 150), (133, 100), (1067, 800)])
def test_boxes_drawn_on_a_scaled_copy_are_scaled_and_reported(tmp_path: Path, image_wh: tuple[int, int]) -> None:
    width, height = image_wh
    joined = join(tmp_path, coco([0, 0, width / 2, height / 4], image_wh=image_wh))
    assert corners(joined) == [(0, 0, 500, 250)]
    assert joined.differences == (
        f"1 image has another size in {tmp_path / 'boxes.json'}; boxes are scaled: scan.jpg "
        f"({width} x {height} pixels, and the upright image has 400 x 300)",
    )


@pytest.mark.parametrize("image_wh", [(640, 640), (402, 300), (400, 298), (4000, 3050)])
def test_boxes_drawn_on_another_shape_are_refused(tmp_path: Path, image_wh: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"drawn on {image_wh[0]} x {image_wh[1]} pixels") as error:
        join(tmp_path, coco([0, 0, 10, 10], image_wh=image_wh))
    assert "is it the same image?" in error.value.hint
    assert join(tmp_path, coco(image_wh=image_wh)).differences == ()  # without boxes nothing can be wrong


def test_the_size_in_a_label_studio_file_is_compared_too(tmp_path: Path) -> None:
    turned = rectangle(10, 10, 20, 20, original_width=300, original_height=400)
    with pytest.raises(DataError, match="drawn on 300 x 400 pixels, and the upright image has 400 x 300"):
        join(tmp_path, [task({"result": [turned]})])
    bare = {key: value for key, value in turned.items() if not key.startswith("original")}
    assert corners(join(tmp_path, [task({"result": [bare]})])) == [(100, 100, 300, 300)]


def test_whole_sizes_may_be_written_with_a_point(tmp_path: Path) -> None:
    assert corners(join(tmp_path, coco([0, 0, 100, 150], image_wh=(400.0, 300.0)))) == [(0, 0, 250, 500)]


def test_ids_may_be_numbers_in_one_place_and_texts_in_the_other(tmp_path: Path) -> None:
    content = coco([0, 0, 100, 150])
    content["images"] = [{"id": "1", "file_name": "scan.jpg", "width": 400, "height": 300}]
    assert corners(join(tmp_path, content)) == [(0, 0, 250, 500)]


@pytest.mark.parametrize("box", [[10, 10, 0, 30], [10, 10, 30, 0], [10, 10, 0.0, 0.0]])
def test_a_box_without_an_area_is_left_out_and_reported(tmp_path: Path, box: list[float]) -> None:
    joined = join(tmp_path, coco([0, 0, 100, 150], box))
    assert corners(joined) == [(0, 0, 250, 500)]
    assert joined.differences == (f"1 box has no area in {tmp_path / 'boxes.json'}, left out: scan.jpg",)
    results = [rectangle(0, 0, 25, 50), rectangle(10, 10, box[2], box[3])]
    joined = join(tmp_path, [task({"result": results})])
    assert corners(joined) == [(0, 0, 250, 500)] and "has no area" in joined.differences[0]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([300, 200, 100.02, 100], (750, 666.667, 1000, 1000)),
        ([-0.02, 0, 100.02, 150], (0, 0, 250, 500)),
        ([0, 0, 401, 301], (0, 0, 1000, 1000)),
    ],
)
def test_a_slip_of_a_pixel_beyond_the_edge_is_forgiven(
    tmp_path: Path, box: list[float], expected: tuple[float, ...]
) -> None:
    joined = join(tmp_path, coco(box))
    assert corners(joined) == [expected] and joined.differences == ()


@pytest.mark.parametrize(
    "box", [[300, 200, 102, 100], [-2, 0, 10, 10], [10, 10, -5, 5], [500, 10, 5, 5], ["1", 0, 1, 1]]
)
def test_a_bad_box_fails_the_row_of_its_image_and_no_other(tmp_path: Path, box: list[float]) -> None:
    content = coco(box)
    content["images"] = [
        {"id": 1, "file_name": "scan.jpg", "width": 400, "height": 300},
        {"id": 2, "file_name": "b.jpg", "width": 400, "height": 300},
    ]
    with pytest.raises(DataError, match=r"line 1: .*boxes\.json, image 'scan\.jpg': "):
        join(tmp_path, content, images=["scan.jpg", "b.jpg"])
    joined = join(tmp_path, content, images=["scan.jpg", "b.jpg"], skip_bad=1)
    assert [sample.id for sample in joined] == ["2"] and "scan.jpg" in joined.left_out[0].reason


def test_an_image_without_a_size_is_refused_with_what_to_add(tmp_path: Path) -> None:
    content = coco([0, 0, 10, 10])
    content["images"] = [{"id": 1, "file_name": "scan.jpg"}]
    with pytest.raises(DataError, match="is not an image with id, file_name, width and height") as caught:
        join(tmp_path, content)
    assert "add its width and height" in caught.value.hint


def test_a_rectangle_drawn_over_the_edge_is_cut_and_one_far_beyond_is_refused(tmp_path: Path) -> None:
    joined = join(tmp_path, [task({"result": [rectangle(-0.3, 50, 50, 50.0000001)]})])
    assert corners(joined) == [(0, 500, 497, 1000)]
    with pytest.raises(DataError, match="reaches beyond the image"):
        join(tmp_path, [task({"result": [rectangle(50, 50, 80, 10)]})])


@pytest.mark.parametrize(
    "change", [{"value": {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 12}}, {"image_rotation": 90}]
)
def test_turned_rectangles_and_images_are_refused_by_row(tmp_path: Path, change: Json) -> None:
    tasks = [
        task({"result": [rectangle(1, 1, 5, 5, **change)]}),
        task({"result": [rectangle(0, 0, 25, 50)]}, image="b.jpg"),
    ]
    with pytest.raises(DataError, match=r"rotated rectangle|was turned by 90 degrees"):
        join(tmp_path, tasks, images=["scan.jpg", "b.jpg"])
    assert corners(join(tmp_path, tasks, images=["scan.jpg", "b.jpg"], skip_bad=1)) == [(0, 0, 250, 500)]


OLD, NEW, OTHER = rectangle(0, 0, 10, 10), rectangle(0, 0, 25, 50), rectangle(50, 50, 10, 10)


@pytest.mark.parametrize(
    ("annotations", "num_remarks"),
    [
        ([{"id": 1, "was_cancelled": True, "result": [OLD]}, {"id": 2, "result": [NEW]}], 0),
        ([{"id": 2, "result": [NEW]}, {"id": 3, "was_cancelled": True, "result": [OTHER]}], 0),
        ([{"id": 1, "result": [NEW], "ground_truth": True}, {"id": 2, "result": [OTHER]}], 0),
        ([{"id": 1, "result": [OLD]}, {"id": 2, "result": [NEW], "parent_annotation": 1}], 0),
        ([{"id": 9, "result": [NEW], "parent_annotation": 4}, {"id": 4, "result": [OLD]}], 0),
        ([{"id": 1, "result": [OLD]}, {"id": 2, "result": [NEW]}], 1),
        (
            [
                {"id": 7, "result": [OLD], "updated_at": "2026-03-01T10:00:00Z"},
                {"id": 2, "result": [NEW], "updated_at": "2026-03-02T09:00:00Z"},
            ],
            1,
        ),
        (
            [
                {"id": 1, "ground_truth": True, "was_cancelled": True, "result": [OLD]},
                {"id": 2, "result": [NEW]},
            ],
            0,
        ),
    ],
)
def test_one_annotation_of_a_task_counts(tmp_path: Path, annotations: list[Json], num_remarks: int) -> None:
    joined = join(tmp_path, [task(*annotations)])
    assert corners(joined) == [(0, 0, 250, 500)]
    assert len(joined.differences) == num_remarks
    if num_remarks:
        assert "several annotations, of which the newest is used" in joined.differences[0]


def test_a_skipped_task_has_no_boxes(tmp_path: Path) -> None:
    joined = join(tmp_path, [task({"was_cancelled": True, "result": [OLD]})])
    assert corners(joined) == []
    assert joined.differences[0].startswith("1 task of ")
    assert "with only canceled annotations, drafts, predictions or old completions" in joined.differences[0]


@pytest.mark.parametrize("key", ["predictions", "drafts", "completions"])
def test_what_was_never_submitted_is_no_box_and_is_reported(tmp_path: Path, key: str) -> None:
    joined = join(tmp_path, [task() | {key: [{"result": [OLD]}]}])
    assert corners(joined) == []
    assert "1 task of" in joined.differences[0] and "give no boxes" in joined.differences[0]
    assert join(tmp_path, [task() | {key: []}]).differences == ()
    assert join(tmp_path, [task({"result": [NEW]}) | {key: [{"result": [OLD]}]}]).differences == ()


def test_shapes_that_are_not_rectangles_are_reported(tmp_path: Path) -> None:
    polygon = {"type": "polygonlabels", "value": {"points": [[0, 0], [1, 1], [2, 0]]}}
    joined = join(tmp_path, [task({"result": [{"type": "choices", "value": {}}, NEW, polygon]})])
    assert corners(joined) == [(0, 0, 250, 500)]
    assert joined.differences == (
        f"1 image of {tmp_path / 'boxes.json'} with shapes that are not rectangles: /data/upload/1/0a1b2c3d-scan.jpg",
    )


@pytest.mark.parametrize(
    ("own", "listed"),
    [
        ("scan.jpg", "images/train/scan.jpg"),
        ("scan.jpg", "images\\train\\scan.jpg"),
        ("my scan.jpg", "my%20scan.jpg"),
        ("图.jpg", "/data/upload/2/0a1b2c3d-%E5%9B%BE.jpg"),
        ("my scan.jpg", "/data/upload/2/0a1b2c3d-my_scan.jpg"),
        ("scan (2).jpg", "/data/upload/2/0a1b2c3d-scan_2.jpg"),
        ("scan.jpg", "https://bucket.s3.amazonaws.com/a/scan.jpg?X-Amz-Date=2026&X-Amz-Signature=00"),
        ("scan.jpg", "/data/local-files/?d=a/scan.jpg"),
        ("my scan.jpg", "/data/local-files/?d=a%2Fmy%20scan.jpg"),
        ("Scan.JPG", "scan.jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("100%.jpg", "100%.jpg"),
        ("what?.jpg", "what?.jpg"),
    ],
)
def test_an_image_is_found_however_its_name_is_spelled(tmp_path: Path, own: str, listed: str) -> None:
    for content in (coco([0, 0, 100, 150], name=listed), [task({"result": [NEW]}, image=listed)]):
        joined = join(tmp_path, content, images=[own])
        assert corners(joined) == [(0, 0, 250, 500)] and joined.differences == ()


def test_the_nearest_spelling_counts(tmp_path: Path) -> None:
    content = coco([0, 0, 100, 150], name="a_b.jpg")
    content["images"] = [
        {"id": 2, "file_name": "a b.jpg", "width": 400, "height": 300},
        {"id": 1, "file_name": "a_b.jpg", "width": 400, "height": 300},
    ]
    joined = join(tmp_path, content, images=["a_b.jpg", "a b.jpg"])
    assert [corners(joined, index) for index in (0, 1)] == [[(0, 0, 250, 500)], []]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    content = coco([0, 0, 100, 150], name="train/scan.jpg")
    content["images"] = [
        {"id": number, "file_name": f"{folder}/scan.jpg", "width": 400, "height": 300}
        for number, folder in enumerate(("train", "val"), start=1)
    ]
    with pytest.raises(DataError, match=r"several images named 'scan\.jpg': train/scan\.jpg, val/scan\.jpg"):
        join(tmp_path, content)
    assert corners(join(tmp_path, content, images=["train/scan.jpg"])) == [(0, 0, 250, 500)]


def test_images_and_questions_without_each_other_are_reported(tmp_path: Path) -> None:
    joined = join(tmp_path, coco([0, 0, 9, 9], name="other.jpg"))
    assert joined.differences == (
        f"1 question has an image that {tmp_path / 'boxes.json'} does not list: scan.jpg",
        f"1 image in {tmp_path / 'boxes.json'} without a question: other.jpg",
    )


def test_an_image_that_is_listed_without_boxes_is_not_reported(tmp_path: Path) -> None:
    assert join(tmp_path, coco()).differences == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{broken", "is not JSON"),
        ("version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        ("7", "neither COCO nor Label Studio"),
        ("{}", "neither COCO nor Label Studio"),
        ('[{"image": "a.jpg", "label": []}]', "task 1: lacks data.image"),
        ('[{"data": {"img": "a.jpg"}, "annotations": []}]', "task 1: lacks data.image"),
        ('{"images": [{"id": 1, "file_name": "a", "width": 0, "height": 9}], "annotations": []}', "is not an image"),
        ('{"images": [], "annotations": [{"image_id": 4, "bbox": [0, 0, 1, 1]}]}', "not a box of one of the images"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_box_file(tmp_path / "boxes.json")
