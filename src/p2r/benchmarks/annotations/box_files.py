"""Read and write boxes in COCO and Label Studio files.

COCO: one object with `images`, `annotations` ([x, y, width, height] in pixels) and `categories`. Label Studio: a list
of tasks with rectangles in per cent of the image. Boxes are found by their image's file name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from p2r.benchmarks.annotations.gold_boxes import box_from_pixels, make_box
from p2r.errors import DataError, excerpt
from p2r.images.load import read_size
from p2r.types import Box, Sample

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


class BoxFile:
    """Boxes by the file name of their image. Records which images were asked for."""

    def __init__(self, path: Path, boxes: dict[str, tuple[Box, ...]]) -> None:
        self.path, self.boxes = path, boxes
        self._used: set[str] = set()

    def find(self, image: str) -> tuple[Box, ...]:
        """Return an image's boxes, found by its whole path or else by its last part; () when there are none.

        Raises:
            DataError: several images of the file have that last part.
        """
        if image not in self.boxes:
            name = image.replace("\\", "/").rsplit("/", 1)[-1]
            found = [key for key in self.boxes if key.rsplit("/", 1)[-1] == name] or [
                key for key in self.boxes if _UPLOAD_PREFIX.sub("", key.rsplit("/", 1)[-1]) == name
            ]
            if len(found) > 1:
                raise DataError(f"{self.path} has several images named {name!r}: {', '.join(found[:5])}")
            if not found:
                return ()
            image = found[0]
        self._used.add(image)
        return self.boxes[image]

    def unused(self) -> list[str]:
        """Return the images with boxes that were not asked for."""
        return [name for name, boxes in self.boxes.items() if boxes and name not in self._used]


def read_box_file(path: Path) -> BoxFile:
    """Read a COCO or Label Studio file; the outermost bracket tells which it is.

    Raises:
        DataError: no such file, neither format, or an invalid box.
    """
    try:
        found: JsonValue = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", hint="it should be a COCO or Label Studio JSON file"
        ) from error
    match found:
        case {"images": [*images], "annotations": [*annotations], **rest}:
            names = _read_categories(path, rest.get("categories", []))
            return BoxFile(path, _read_coco(path, images, annotations, names))
        case [*tasks]:
            return BoxFile(path, _read_tasks(path, tasks))
        case _:
            raise DataError(
                f"{path} is neither COCO nor Label Studio",
                hint="COCO has 'images' and 'annotations'; Label Studio's JSON export is a list of tasks",
            )


def write_coco(samples: Iterable[Sample], path: Path) -> int:
    """Write gold boxes as COCO. Images keep their names (`uri`); labels become categories.

    Returns:
        The number of boxes written.
    """
    images: dict[str, dict[str, object]] = {}
    annotations: list[dict[str, object]] = []
    categories: dict[str, int] = {}
    for sample in samples:
        size = read_size(sample.image)
        image = images.setdefault(
            sample.image.uri,
            {"id": len(images) + 1, "file_name": sample.image.uri, "width": size[0], "height": size[1]},
        )
        for box in sample.gold_boxes:
            x1, y1, x2, y2 = _to_pixels(box, size)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": categories.setdefault(box.label or "evidence", len(categories) + 1),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    named = [{"id": number, "name": name} for name, number in categories.items()]
    path.write_text(
        json.dumps({"images": [*images.values()], "annotations": annotations, "categories": named}, indent=1)
    )
    return len(annotations)


def write_label_studio(samples: Iterable[Sample], path: Path) -> int:
    """Write gold boxes as Label Studio tasks to import. One task per sample, with the question beside the image.

    Returns:
        The number of boxes written.
    """
    tasks: list[dict[str, object]] = []
    count = 0
    for sample in samples:
        width, height = read_size(sample.image)
        results = [
            {
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "value": {
                    "x": box.x1 / 10,
                    "y": box.y1 / 10,
                    "width": (box.x2 - box.x1) / 10,
                    "height": (box.y2 - box.y1) / 10,
                    "rotation": 0,
                    "rectanglelabels": [box.label or "evidence"],
                },
            }
            for box in sample.gold_boxes
        ]
        count += len(results)
        data = {"image": sample.image.uri, "question": sample.question, "id": sample.id}
        tasks.append({"data": data, "annotations": [{"result": results}]})
    path.write_text(json.dumps(tasks, indent=1))
    return count


def _read_coco(
    path: Path, images: Sequence[JsonValue], annotations: Sequence[JsonValue], categories: Mapping[JsonValue, str]
) -> dict[str, tuple[Box, ...]]:
    sizes: dict[JsonValue, tuple[str, tuple[int, int]]] = {}
    for image in images:
        match image:
            case {"id": int() | str() as key, "file_name": str(name), "width": int(width), "height": int(height)}:
                sizes[key] = name, (width, height)
            case _:
                raise DataError(f"{path}: {excerpt(image)} is not an image with id, file_name, width and height")
    found: dict[str, list[Box]] = {name: [] for name, _ in sizes.values()}
    for annotation in annotations:
        match annotation:
            case {
                "image_id": int() | str() as key,
                "bbox": [
                    int() | float() as x,
                    int() | float() as y,
                    int() | float() as width,
                    int() | float() as height,
                ],
                **rest,
            } if key in sizes:
                name, size = sizes[key]
                label = categories.get(rest.get("category_id"), "")
                try:
                    found[name].append(box_from_pixels((x, y, x + width, y + height), size, label))
                except DataError as error:
                    raise DataError(f"{path}, image {name!r}: {error}") from error
            case _:
                raise DataError(f"{path}: {excerpt(annotation)} is not a box of one of the images")
    return {name: tuple(boxes) for name, boxes in found.items()}


def _read_categories(path: Path, categories: JsonValue) -> dict[JsonValue, str]:
    """The names of COCO's categories by id."""
    names: dict[JsonValue, str] = {}
    for category in categories if isinstance(categories, list) else [categories]:
        match category:
            case {"id": int() | str() as key, "name": name}:
                names[key] = str(name)
            case _:
                raise DataError(f"{path}: {excerpt(category)} is not a category with id and name")
    return names


def _read_tasks(path: Path, tasks: Sequence[JsonValue]) -> dict[str, tuple[Box, ...]]:
    found: dict[str, tuple[Box, ...]] = {}
    for number, task in enumerate(tasks, start=1):
        match task:
            case {"data": {"image": str(image)}, "annotations": [*annotations]}:
                name = image.rsplit("?d=", 1)[-1]
                found[name] = found.get(name, ()) + tuple(_read_rectangles(path, number, annotations))
            case _:
                raise DataError(
                    f"{path}, task {number}: lacks data.image or annotations", hint="export as JSON, not as CSV"
                )
    return found


def _read_rectangles(path: Path, number: int, annotations: Sequence[JsonValue]) -> Iterable[Box]:
    for annotation in annotations:
        results = annotation.get("result") if isinstance(annotation, dict) else None
        for result in results if isinstance(results, list) else []:
            match result:
                case {"type": "rectanglelabels" | "rectangle", "value": dict() as rectangle}:
                    pass
                case _:
                    continue  # choices, polygons, texts
            match rectangle:
                case {
                    "x": int() | float() as x,
                    "y": int() | float() as y,
                    "width": int() | float() as width,
                    "height": int() | float() as height,
                }:
                    if rectangle.get("rotation"):
                        raise DataError(f"{path}, task {number}: a rotated rectangle is not a box")
                    labels = rectangle.get("rectanglelabels")
                    label = str(labels[0]) if isinstance(labels, list) and labels else ""
                    right, bottom = min(x + width, 100.0), min(y + height, 100.0)  # drawn up to the edge and rounded
                    yield make_box((x * 10, y * 10, right * 10, bottom * 10), label)
                case _:
                    raise DataError(f"{path}, task {number}: {excerpt(rectangle)} is not a rectangle in per cent")


def _to_pixels(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    corners = (box.x1 / 1000 * width, box.y1 / 1000 * height, box.x2 / 1000 * width, box.y2 / 1000 * height)
    x1, y1, x2, y2 = (round(value, 3) for value in corners)
    return x1, y1, min(x2, width), min(y2, height)
