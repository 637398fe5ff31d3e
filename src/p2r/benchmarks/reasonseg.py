"""ReasonSeg (Lai et al., 2024) as a task for boxes: is the box around what the text implies? Acc@0.5.

Two sources that differ: the original annotations are polygons, some of which mark areas to ignore; the conversion on
Hugging Face (Seg-Zero) holds masks in which those areas have become part of the target, so that its boxes differ. A
note says which was used. One sample per image with its first text, as in the official validation.

A gold box covers whole pixels: from the left edge of the first to the right edge of the last pixel of the mask.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from p2r.benchmarks.annotations.gold_boxes import box_from_pixels
from p2r.benchmarks.annotations.polygons import Point, draw_polygon
from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.field_image import find_image
from p2r.benchmarks.files.parquet_file import ParquetCell
from p2r.benchmarks.files.rows import Row
from p2r.benchmarks.files.table_file import read_table
from p2r.benchmarks.layout import Loaded, Source
from p2r.errors import DataError, excerpt
from p2r.images.load import FileImage, read_size
from p2r.types import ImageSource, Sample

TARGET, IGNORE = 1, 255
SPLITS = {"train": 239, "val": 200, "test": 779}
FACTS = Facts("reasonseg", scored_by="box")
Kind = Literal["target", "ignore"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A polygon in whole pixels of the image."""

    kind: Kind
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """The contents of a JSON file of the original release, without the shapes labeled "flag"."""

    texts: tuple[str, ...]
    is_sentence: bool
    shapes: tuple[Shape, ...]


def load_reasonseg(source: Source) -> Loaded:
    """Load either source. Raises DataError for another layout or more bad rows than allowed."""
    split, folder = _find_split(source)
    facts = replace(FACTS, num_samples=SPLITS.get(split))
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if paths and any(path.with_suffix(".jpg").exists() for path in paths):
        samples = source.sieve.collect(paths, _make_original, str)
        return Loaded(samples, facts, notes=[f"{split}: boxes around the target polygons of the original annotations"])
    table = read_table(source.path, split=source.split if source.path.is_dir() and not SPLITS.get(split) else None)
    table.require(["image", "mask", "text", "image_id"])
    samples = source.sieve.collect(table.rows, _make_converted, lambda row: row.place)
    note = f"{split}: boxes around the masks of the Hugging Face conversion, which hold the areas to ignore as well"
    return Loaded(samples, facts, notes=[note])


def read_annotation(text: str) -> Annotation:
    """Parse the JSON of one image.

    Raises:
        DataError: not JSON, no text, or a shape that is not a polygon.
    """
    try:
        found: JsonValue = json.loads(text)
    except ValueError as error:
        raise DataError(f"is not JSON: {error}") from error
    match found:
        case {"text": [str() as first, *others], "shapes": [*shapes], **rest}:
            parsed = [_read_shape(shape) for shape in shapes]
            return Annotation(
                (first, *map(str, others)),
                bool(rest.get("is_sentence")),
                tuple(shape for shape in parsed if shape is not None),
            )
        case _:
            raise DataError("lacks 'text' (a list of texts) or 'shapes' (a list of polygons)")


def draw_mask(annotation: Annotation, image_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a mask (H, W): 1 on the target, 255 on pixels that scores ignore. Smaller shapes cover larger ones."""
    width, height = image_wh
    areas: list[int] = []
    for shape in annotation.shapes:
        alone = np.zeros((height, width), np.uint8)
        draw_polygon(alone, shape.points, 1)
        areas.append(int(alone.sum()))
    mask = np.zeros((height, width), np.uint8)
    for index in np.argsort(np.array(areas, dtype=np.uint64))[::-1]:
        shape = annotation.shapes[int(index)]
        draw_polygon(mask, shape.points, TARGET if shape.kind == "target" else IGNORE)
    return mask


def box_around(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Return the first and last (x, y) of the set pixels, inclusive; None if no pixel is set."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return (int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])) if columns.size else None


def _make_original(path: Path) -> Sample:
    annotation = read_annotation(_read_text(path))
    image = FileImage(path.with_suffix(".jpg"))
    image_wh = read_size(image)
    mask = draw_mask(annotation, image_wh) == TARGET
    return _make(path.stem, image, annotation.texts[0], mask, image_wh)


def _make_converted(row: Row) -> Sample:
    row.check()
    cell = row.cell("mask")
    if not isinstance(cell, ParquetCell):
        raise row.fail("mask", "is not a list of rows of truth values", "this layout is a parquet file")
    try:
        mask = cell.read_mask()
    except DataError as error:
        raise row.fail("mask", error.message, error.hint) from error
    image = find_image(row, row.path.parent, "image")
    image_wh = (mask.shape[1], mask.shape[0])
    if row.has("img_width") and (row.integer("img_width"), row.integer("img_height")) != image_wh:
        size = f"{row.text('img_width')} x {row.text('img_height')}"
        raise row.fail("mask", f"{image_wh[0]} x {image_wh[1]} pixels for an image of {size}")
    name = f"{row.text('image_id')}/{row.text('ann_id')}" if row.has("ann_id") else row.text("image_id")
    return _make(name, image, row.text("text"), mask, image_wh)


def _make(name: str, image: ImageSource, text: str, mask: NDArray[np.bool_], image_wh: tuple[int, int]) -> Sample:
    if not text.strip():
        raise DataError("field 'text': empty")
    found = box_around(mask)
    if found is None:
        raise DataError("no target area in the image")
    x1, y1, x2, y2 = found
    return Sample(
        id=name,
        image=image,
        question=text.strip(),
        gold_boxes=(box_from_pixels((x1, y1, x2 + 1, y2 + 1), image_wh),),
        benchmark=FACTS.name,
    )


def _find_split(source: Source) -> tuple[str, Path]:
    """Return the split's name, as far as it can be recognized, and the folder of its files."""
    path = source.path
    if source.split in SPLITS and (path / source.split).is_dir():
        return source.split, path / source.split
    nested = [name for name in SPLITS if (path / name).is_dir()]
    if nested and source.split is None:
        raise DataError(f"{path} holds the splits {', '.join(nested)}", hint="say which with `split`")
    named = [name for name in SPLITS if name in path.name.lower().replace("-", "_").split("_")]
    if source.split in SPLITS and source.split not in named and path.is_dir() and path.name in SPLITS:
        raise DataError(f"{path} has no split {source.split!r}", hint=f"it is the split {path.name!r}")
    return (source.split or (named[0] if named else "unnamed split")), path


def _read_text(path: Path) -> str:
    """Read UTF-8, or cp1252, in which some annotations were written."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _read_shape(shape: JsonValue) -> Shape | None:
    match shape:
        case {"label": str() as label, "points": [first, *others]}:
            if label.lower() == "flag":
                return None
            kind: Kind = "ignore" if "ignore" in label.lower() else "target"
            return Shape(kind, tuple(_read_point(point) for point in (first, *others)))
        case {"label": str() as label} if label.lower() == "flag":
            return None
        case _:
            raise DataError(f"field 'shapes': {excerpt(shape)} is not a polygon with a label")


def _read_point(point: JsonValue) -> Point:
    match point:
        case [int() | float() as x, int() | float() as y] if abs(x) < 2**31 and abs(y) < 2**31:
            return int(x), int(y)
        case _:
            raise DataError(f"field 'shapes': {excerpt(point)} is not a point [x, y]")
