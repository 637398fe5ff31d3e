"""Qwen3-VL's official zoom-in chat (the paper's "official tool use", appendix E.2 and Figure 11).

Source: `image_zoom_in_tool` of Qwen-Agent 0.0.34, the tool of Qwen's own "think with images" cookbook: its arithmetic,
its limits and its words. A call that cannot be carried out is answered with a sentence, and the model continues.

Departures: a call is JSON, not JSON5; no traceback is shown to the model; a part that no model can see (one side more
than 200 times the other) is refused here, where the official tool leaves it to the model's processor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import cast

from PIL import Image

from p2r.dialogue import Budget
from p2r.errors import ToolError
from p2r.images.budget import MAX_ASPECT_RATIO, cut, is_too_thin, round_to_budget
from p2r.prompts import PromptSet
from p2r.roles.dialects.base import (
    LARGEST_NUMBER,
    Dialect,
    Part,
    ToolCall,
    View,
    find_bodies,
    is_number,
    place,
    read_json_call,
)
from p2r.types import Sample

TOOL_NAME = "image_zoom_in_tool"
MIN_SIDE_PX = 32
"""A smaller part is extended around its middle, where the image has room for that."""
SHOWN = Budget(factor=32, min_pixels=256 * 32 * 32, max_pixels=12_845_056)
"""The size at which parts are shown, before the model's own budget is applied."""

Window = tuple[float, float, float, float]


def read_calls(reply: str) -> list[ToolCall]:
    """Read the calls in a reply, except those in its thoughts."""
    said = reply.rsplit("</think>", 1)[-1]
    if "<think>" in said:
        return []
    return [_read_call(body) for body in find_bodies(said, "tool_call") if body]


def zoom_in(call: ToolCall, views: Sequence[View]) -> View:
    """Return what a call asks to see.

    Args:
        views: the chat's images so far, which `img_idx` counts from 0.

    Raises:
        ToolError: the part cannot be shown. The message is for the model.
    """
    if call.name != TOOL_NAME:
        raise ToolError(f"Tool {call.name} does not exists.")
    corners, label, index = _read_arguments(call.arguments)
    if not isinstance(index, int) or not -len(views) <= index < len(views):
        raise ToolError(f"Error: Invalid input image {[f'image {number}' for number in range(len(views))]}")
    view = views[index]
    window = find_window(corners, view.image.size)
    size = find_size(window)
    if is_too_thin(*size):
        ratio = max(size) / min(size)
        raise ToolError(
            f"Tool Execution Error absolute aspect ratio must be smaller than {MAX_ASPECT_RATIO}, got {ratio:g}"
        )
    left, top, right, bottom = (round(side) for side in window)
    shown = cut(view.image, (left, top, right, bottom)).resize(size, Image.Resampling.BICUBIC)
    return View(shown, place(window, view, label))


def find_window(corners: Sequence[float], image_wh: tuple[int, int]) -> Window:
    """Return the part (left, top, right, bottom) of an image, in pixels, that a box per mille means.

    Raises:
        ToolError: the box has no width or no height inside the image. The message is for the model.
    """
    width_px, height_px = image_wh
    x1, y1, x2, y2 = corners
    left, top = max(0, x1 / 1000 * width_px), max(0, y1 / 1000 * height_px)
    right, bottom = min(width_px, x2 / 1000 * width_px), min(height_px, y2 / 1000 * height_px)
    width, height = right - left, bottom - top
    if min(width, height) >= MIN_SIDE_PX:
        return left, top, right, bottom
    if min(width, height) == 0:
        raise ToolError("Tool Execution Error float division by zero")
    enlarge = MIN_SIDE_PX / min(width, height)
    half_width, half_height = math.ceil(width * enlarge * 0.5), math.ceil(height * enlarge * 0.5)
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    grown = (
        max(0, math.floor(middle_x - half_width)),
        max(0, math.floor(middle_y - half_height)),
        min(width_px, math.ceil(middle_x + half_width)),
        min(height_px, math.ceil(middle_y + half_height)),
    )
    if min(grown[2] - grown[0], grown[3] - grown[1]) > MIN_SIDE_PX:
        return grown
    return left, top, right, bottom


def find_size(window: Window) -> tuple[int, int]:
    """Return the (width, height) in pixels at which a part is shown.

    Raises:
        ToolError: the corners are reversed. The message is for the model.
    """
    left, top, right, bottom = window
    if right < left:
        raise ToolError("Tool Execution Error Coordinate 'right' is less than 'left'")
    if bottom < top:
        raise ToolError("Tool Execution Error Coordinate 'lower' is less than 'upper'")
    height, width = round_to_budget(bottom - top, right - left, SHOWN, least=SHOWN.factor)
    return width, height


_NAME = re.compile(r'"name"\s{0,8}:\s{0,8}"([^"]{1,200})"')


def _read_call(body: str) -> ToolCall:
    call = read_json_call(body)
    if call is None:
        found = _NAME.search(body)
        return ToolCall(found[1] if found else "", None)
    return call


def _read_arguments(arguments: object) -> tuple[list[float], str, object]:
    """Return the box, the label and the image's index, checked as the tool's description asks."""
    if arguments is None:
        raise _refuse("ValueError", "Parameters must be formatted as a valid JSON!")
    if not isinstance(arguments, dict):
        raise _refuse("ValidationError", f"{arguments!r} is not of type 'object'")
    given = cast("dict[str, object]", arguments)
    for name in ("bbox_2d", "label", "img_idx"):
        if name not in given:
            raise _refuse("ValidationError", f"{name!r} is a required property")
    corners, label, index = given["bbox_2d"], given["label"], given["img_idx"]
    if not isinstance(corners, list):
        raise _refuse("ValidationError", f"{corners!r} is not of type 'array'")
    numbers = cast("list[object]", corners)
    wrong = next((number for number in numbers if not is_number(number)), None)
    if wrong is not None or None in numbers:
        raise _refuse("ValidationError", f"{wrong!r} is not of type 'number'")
    if len(numbers) != 4:
        raise _refuse("ValidationError", f"{numbers!r} is too {'short' if len(numbers) < 4 else 'long'}")
    if not isinstance(label, str):
        raise _refuse("ValidationError", f"{label!r} is not of type 'string'")
    if not is_number(index):
        raise _refuse("ValidationError", f"{index!r} is not of type 'number'")
    sizes = cast("list[float]", numbers)
    if not all(-LARGEST_NUMBER <= number <= LARGEST_NUMBER for number in sizes):  # NaN is not, either
        raise ToolError("Tool Execution Error a number of bbox_2d is too large")
    return sizes, label, index


def _refuse(kind: str, problem: str) -> ToolError:
    return ToolError(f"An error occurred when calling tool `{TOOL_NAME}`:\n{kind}: {problem[:500]}")


def _ask(prompts: PromptSet, sample: Sample) -> str:
    return prompts.thinking(sample)


def _respond(answers: Sequence[View | ToolError], number: int) -> Sequence[Part]:
    parts: list[Part] = []
    for answer in answers:
        shown = answer.message if isinstance(answer, ToolError) else answer.seen
        parts += ["\n" if parts else "", "<tool_response>\n", shown, "\n</tool_response>"]
    return [part for part in parts if part != ""]


QWEN3_VL = Dialect("qwen3-vl", _ask, read_calls, zoom_in, _respond, frame="per_mille")
