"""Read boxes in COCO's layout: `images`, `annotations` ([x, y, width, height] in pixels) and `categories`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from p2r.benchmarks.annotations.drawn import DrawnImage
from p2r.benchmarks.annotations.gold_boxes import box_from_pixels
from p2r.errors import DataError, excerpt


def read_coco(
    path: Path, images: Sequence[JsonValue], annotations: Sequence[JsonValue], categories: JsonValue
) -> dict[str, list[DrawnImage]]:
    """Return what was drawn by the image's name: one for each question that our own files state (`sample_ids`).

    A bad box is an error of its image.

    Raises:
        DataError: an image, a category or an annotation is something else.
    """
    names = _read_categories(path, categories)
    by_id: dict[str, tuple[str, tuple[int, int]]] = {}
    found: dict[str, list[DrawnImage]] = {}
    for image in images:
        match image:
            case {
                "id": int() | str() as key,
                "file_name": str(name),
                "width": int() | float() as width,
                "height": int() | float() as height,
                **more,
            } if width >= 1 and height >= 1:
                size = (round(width), round(height))
                by_id[str(key)] = name, size
                ids = more.get("sample_ids")
                known = dict.fromkeys(map(str, ids)) if isinstance(ids, list) else {}
                found[name] = [DrawnImage(size, sample_id=one) for one in known] or [DrawnImage(size)]
            case _:
                raise DataError(
                    f"{path}: {excerpt(image)} is not an image with id, file_name, width and height",
                    hint="COCO boxes are pixels of an image of this size: add its width and height",
                )
    for annotation in annotations:
        match annotation:
            case {"image_id": int() | str() as key, **rest} if str(key) in by_id:
                name, size = by_id[str(key)]
                drawn = found[name]
                own = [one for one in drawn if one.sample_id and one.sample_id == str(rest.get("sample_id", ""))]
                for one in own or drawn:
                    _add_box(one, size, rest, names)
            case _:
                raise DataError(f"{path}: {excerpt(annotation)} is not a box of one of the images")
    return found


def _add_box(
    image: DrawnImage, size: tuple[int, int], annotation: Mapping[str, JsonValue], names: Mapping[JsonValue, str]
) -> None:
    match annotation.get("bbox"):
        case [int() | float() as x, int() | float() as y, int() | float() as width, int() | float() as height]:
            label = names.get(annotation.get("category_id"), "")
            image.add(width, height, lambda: box_from_pixels((x, y, x + width, y + height), size, label))
        case bbox:
            image.error = image.error or f"its bbox {excerpt(bbox)} is not [x, y, width, height] in pixels"


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
