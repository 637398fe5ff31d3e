"""Read boxes in Label Studio's JSON export: a list of tasks with rectangles in per cent of the image.

A task may hold several annotations. Those that were canceled (skipped), that another one corrects, or that are not the
ground truth where one is, do not count; of the others the newest does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from pydantic import JsonValue

from p2r.benchmarks.annotations.drawn import DrawnImage, name_some
from p2r.benchmarks.annotations.gold_boxes import cut_slip, make_box
from p2r.errors import DataError, count_nouns, excerpt
from p2r.types import Box

SLIP_PERCENT = 0.5
"""A rectangle may be drawn this far beyond the edge."""

_OTHER_SHAPES = ("polygonlabels", "polygon", "brushlabels", "brush", "ellipselabels", "ellipse", "keypointlabels")
_NOT_SUBMITTED = ("drafts", "predictions", "completions")
Annotation = Mapping[str, JsonValue]


def read_label_studio(path: Path, tasks: Sequence[JsonValue]) -> tuple[dict[str, list[DrawnImage]], list[str]]:
    """Return what was drawn by the image's name, one for each task, and remarks.

    A bad rectangle is an error of its image.

    Raises:
        DataError: a task lacks its image or its annotations.
    """
    found: dict[str, list[DrawnImage]] = {}
    several: list[str] = []
    shapes: list[str] = []
    unused: list[str] = []
    for number, task in enumerate(tasks, start=1):
        match task:
            case {"data": {"image": str(name), **data}, "annotations": [*annotations], **rest}:
                name = unquote(name.partition("?d=")[2]) or name  # the URL of a local file
                current = choose_current([item for item in annotations if isinstance(item, dict)])
                image = DrawnImage(sample_id=str(data.get("id", "")), question=str(data.get("question", "")))
                found.setdefault(name, []).append(image)
                drawn = bool(annotations) or any(rest.get(key) for key in _NOT_SUBMITTED)
                unused += [name] * (drawn and not current)
                several += [name] * (len(current) > 1)
                shapes += [name] * _add_rectangles(image, current[0] if current else {})
            case _:
                raise DataError(
                    f"{path}, task {number}: lacks data.image or annotations",
                    hint="export as JSON, not as JSON-MIN or CSV, and name the image's field 'image'",
                )
    remarks: list[str] = []
    if several:
        remarks.append(
            f"{count_nouns(len(several), 'task')} of {path} with several annotations, of which the newest is used; "
            f"mark one as ground truth: {name_some(several)}"
        )
    if unused:
        remarks.append(
            f"{count_nouns(len(unused), 'task')} of {path} with only canceled annotations, drafts, predictions or old "
            f"completions, which give no boxes: {name_some(unused)}"
        )
    if shapes:
        remarks.append(
            f"{count_nouns(len(shapes), 'image')} of {path} with shapes that are not rectangles: {name_some(shapes)}"
        )
    return found, remarks


def choose_current(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Return the annotations that count, the newest first."""
    current = [item for item in annotations if not item.get("was_cancelled")]
    current = [item for item in current if item.get("ground_truth")] or current
    corrected = {str(item["parent_annotation"]) for item in current if item.get("parent_annotation") is not None}
    current = [item for item in current if str(item.get("id")) not in corrected]
    return sorted(current, key=_tell_age, reverse=True)


def _tell_age(annotation: Annotation) -> tuple[str, int]:
    number = annotation.get("id")
    when = annotation.get("updated_at") or annotation.get("created_at")
    return str(when or ""), number if isinstance(number, int) else 0


def _add_rectangles(image: DrawnImage, annotation: Annotation) -> bool:
    """Add an annotation's rectangles to the image; return True if it has other shapes as well."""
    results = annotation.get("result")
    has_others = False
    for result in results if isinstance(results, list) else []:
        match result:
            case {"type": "rectanglelabels" | "rectangle", "value": dict() as rectangle, **rest}:
                _add_rectangle(image, rectangle, rest)
            case {"type": str() as kind}:
                has_others = has_others or kind in _OTHER_SHAPES
            case _:
                continue
    return has_others


def _add_rectangle(image: DrawnImage, rectangle: Mapping[str, JsonValue], result: Mapping[str, JsonValue]) -> None:
    match result:
        case {"original_width": int() | float() as width, "original_height": int() | float() as height} if (
            width >= 1 and height >= 1
        ):
            image.image_wh = (width, height)
        case _:
            pass
    if rectangle.get("rotation"):
        image.error = image.error or "a rotated rectangle is not a box"
    if result.get("image_rotation"):
        image.error = image.error or f"the image was turned by {result['image_rotation']} degrees in Label Studio"
    match rectangle:
        case {
            "x": int() | float() as x,
            "y": int() | float() as y,
            "width": int() | float() as width,
            "height": int() | float() as height,
        }:
            labels = rectangle.get("rectanglelabels")
            label = str(labels[0]) if isinstance(labels, list) and labels else ""
            image.add(width, height, lambda: _make_box((x, y, x + width, y + height), label))
        case _:
            image.error = image.error or f"{excerpt(rectangle)} is not a rectangle in per cent"


def _make_box(corners: tuple[float, float, float, float], label: str) -> Box:
    x1, y1, x2, y2 = cut_slip(corners, (100.0, 100.0), SLIP_PERCENT)
    return make_box((x1 * 10, y1 * 10, x2 * 10, y2 * 10), label)
