"""Boxes in COCO and Label Studio files: joined to images by their names, and written for those tools."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from p2r.benchmarks.annotations.coco import read_coco
from p2r.benchmarks.annotations.drawn import DrawnImage, ImageNames, choose_drawn, differ_in_shape, name_some
from p2r.benchmarks.annotations.label_studio import read_label_studio
from p2r.benchmarks.files.beginning import read_utf8
from p2r.errors import DataError, count_nouns
from p2r.images.load import read_size
from p2r.types import Box, ImageSource, Sample


class BoxFile:
    """Boxes by the name of their image. Records which images were asked for, and what was noticed."""

    def __init__(self, path: Path, images: Mapping[str, Sequence[DrawnImage]], remarks: Iterable[str] = ()) -> None:
        self.path, self.images = path, images
        self._names = ImageNames(images)
        self._remarks = list(remarks)
        self._used: set[str] = set()
        self._sharing: dict[str, set[str]] = defaultdict(set)
        self._num_replaced = 0
        self._missing: list[str] = []
        self._scaled: list[str] = []

    def find(
        self, name: str, image: ImageSource, *, sample_id: str, question: str, replaces: bool = False
    ) -> tuple[Box, ...] | None:
        """Return the boxes of a question, or else of its image, found by its whole path or else by its last part.

        Args:
            replaces: the question has boxes of its own, which are counted as replaced.

        Returns:
            None when the file does not list the image.

        Raises:
            DataError: several images of the file have that name, a box is not one, or the boxes were drawn on an image
                of another shape.
            ImageError: the image's size cannot be read.
        """
        found = self._names.find(name)
        if len(found) > 1:
            raise DataError(f"{self.path} has several images named {name!r}: {name_some(found)}")
        if not found:
            self._missing.append(name)
            return None
        self._used.add(found[0])
        chosen = choose_drawn(self.images[found[0]], sample_id, question)
        if not chosen:
            chosen = self.images[found[0]]
            self._sharing[found[0]].add(sample_id)
        for drawn in chosen:
            if drawn.error:
                raise DataError(f"{self.path}, image {found[0]!r}: {drawn.error}", hint="correct it in the file")
            if drawn.boxes and drawn.image_wh:
                self._compare_sizes(found[0], drawn.image_wh, read_size(image))
        self._num_replaced += replaces
        return tuple(dict.fromkeys(box for drawn in chosen for box in drawn.boxes))

    def _compare_sizes(self, name: str, drawn_wh: tuple[float, float], image_wh: tuple[int, int]) -> None:
        sizes = f"{drawn_wh[0]:g} x {drawn_wh[1]:g} pixels, and the upright image has {image_wh[0]} x {image_wh[1]}"
        if differ_in_shape(drawn_wh, image_wh):
            is_turned = not differ_in_shape(drawn_wh, (image_wh[1], image_wh[0]))
            raise DataError(
                f"{self.path}, image {name!r}: its boxes were drawn on {sizes}",
                hint="the image was turned: annotate it upright" if is_turned else "is it the same image?",
            )
        if max(drawn_wh) != max(image_wh):
            self._scaled.append(f"{name} ({sizes})")

    def notes(self) -> list[str]:
        """Return a sentence about the questions whose own boxes were replaced, if there are any."""
        if not self._num_replaced:
            return []
        return [f"the boxes of {count_nouns(self._num_replaced, 'question')} are replaced by those of {self.path}"]

    def remarks(self) -> list[str]:
        """Return sentences about what was left out or does not fit."""
        remarks = list(self._remarks)
        if empty := {name: count for name, drawn in self.images.items() if (count := sum(d.num_empty for d in drawn))}:
            boxes = count_nouns(sum(empty.values()), "box has", "boxes have")
            remarks.append(f"{boxes} no area in {self.path}, left out: {name_some(empty)}")
        if self._scaled:
            count = len(self._scaled)
            scaled = count_nouns(count, "image has another size", "images have other sizes")
            remarks.append(f"{scaled} in {self.path}; boxes are scaled: {self._scaled[0]}")
        if self._missing:
            missing = count_nouns(len(self._missing), "question has an image", "questions have images")
            remarks.append(f"{missing} that {self.path} does not list: {name_some(self._missing)}")
        if shared := [name for name, ids in self._sharing.items() if len(ids) > 1]:
            images = count_nouns(len(shared), "image has", "images have")
            remarks.append(
                f"{images} several questions in {self.path}, each of which gets all boxes: {name_some(shared)}"
            )
        if unused := [n for n, drawn in self.images.items() if n not in self._used and any(d.boxes for d in drawn)]:
            images = count_nouns(len(unused), "image")
            remarks.append(f"{images} in {self.path} without a question: {name_some(unused)}")
        return remarks


def read_box_file(path: Path) -> BoxFile:
    """Read a COCO or Label Studio file; the outermost bracket tells which it is.

    Raises:
        DataError: no such file, or neither format.
    """
    try:
        found: JsonValue = json.loads(read_utf8(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}", hint="it should be a COCO or Label Studio file") from error
    match found:
        case {"images": [*images], "annotations": [*annotations], **rest}:
            return BoxFile(path, read_coco(path, images, annotations, rest.get("categories", [])))
        case [*tasks]:
            return BoxFile(path, *read_label_studio(path, tasks))
        case _:
            raise DataError(
                f"{path} is neither COCO nor Label Studio",
                hint="COCO has 'images' and 'annotations'; Label Studio's JSON export is a list of tasks",
            )


def write_coco(samples: Iterable[Sample], path: Path) -> int:
    """Write gold boxes as COCO. Images keep their names (`uri`); labels become categories.

    `sample_ids` of an image and `sample_id` of a box tell the questions of an image apart; other tools ignore them.

    Returns:
        The number of boxes written.
    """
    images: dict[str, dict[str, object]] = {}
    annotations: list[dict[str, object]] = []
    categories: dict[str, int] = {}
    sample_ids: dict[str, list[str]] = {}
    for sample in samples:
        size = read_size(sample.image)
        image = images.setdefault(
            sample.image.uri,
            {"id": len(images) + 1, "file_name": sample.image.uri, "width": size[0], "height": size[1]},
        )
        sample_ids.setdefault(sample.image.uri, []).append(sample.id)
        image["sample_ids"] = sample_ids[sample.image.uri]
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
                    "sample_id": sample.id,
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


def _to_pixels(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    corners = (box.x1 / 1000 * width, box.y1 / 1000 * height, box.x2 / 1000 * width, box.y2 / 1000 * height)
    x1, y1, x2, y2 = (round(value, 3) for value in corners)
    return x1, y1, min(x2, width), min(y2, height)
