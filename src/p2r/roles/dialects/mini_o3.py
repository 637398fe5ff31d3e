"""Mini-o3-7B: a region of a named image of the chat, in shares of its sides, up to 12 replies deep.

Source: Mini-o3/Mini-o3 at 8654dbf (code Apache-2.0; weights and data CC BY-NC 4.0): `vllm_async_engine.py`,
`function_tools.py`, `multimodal_dataset.py`. Parts are cut from the source at full resolution, parts of parts too.

`as_released`, a call must match the authors' pattern to the blank, and its numbers may be computed; ours is any JSON
object with the two keys in the tags. The published accuracy is the mean of 32 replies at temperature 1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from PIL import Image

from p2r.dialogue import Decoding
from p2r.errors import ToolError
from p2r.roles.dialects.base import (
    QWEN_PROCESSOR_PIXELS,
    Corners,
    Dialect,
    Part,
    ToolCall,
    View,
    ask_question,
    cut_window,
    find_bodies,
    place,
    read_corners,
)
from p2r.roles.dialects.literal import read_literal
from p2r.roles.dialects.texts import fill, load_texts

LEAST_PIXELS, MOST_PIXELS = 40_000, 2_000_000
LEAST_SIDE_PX = 28
MOST_ASPECT = 200
MAX_REPLIES, MAX_IMAGES = 12, 12
SOURCE = "original_image"

_AS_RELEASED = re.compile(r""".*<grounding>\{"bbox_2d": (.*),.*"source": ['"](.*)['"]\}</grounding>""", re.DOTALL)
_OBSERVATION = re.compile(r"observation_([0-9]{1,4})")


def make_mini_o3(*, as_released: bool = False) -> Dialect:
    """Make the dialect; `as_released` with the authors' own pattern of a call."""
    texts = load_texts("mini-o3")

    def respond(answers: Sequence[View | ToolError], number: int) -> Sequence[Part]:
        (answer,) = answers
        if isinstance(answer, ToolError):
            return (fill(texts["error"], error=answer.message),)
        before, _, after = fill(texts["observation"], action_turn=number, observation_turn=number + 1).partition(
            "<image>"
        )
        return (before, answer.seen, after)

    return Dialect(
        "mini-o3",
        ask_question,
        read_call_as_released if as_released else read_call,
        cut_region,
        respond,
        show=size_image,
        max_replies=MAX_REPLIES,
        max_images=MAX_IMAGES,
        stop=("</grounding>",),
        decoding=Decoding(max_new_tokens=8192),
        budget_pixels=QWEN_PROCESSOR_PIXELS,
        texts=texts,
        as_released=as_released,
    )


def read_call(reply: str) -> list[ToolCall]:
    """Return the last call of a reply."""
    if "</grounding>" not in reply:
        return []
    try:
        content = json.loads(find_bodies(reply.rsplit("</grounding>", 1)[0], "grounding")[-1])
    except (ValueError, IndexError, RecursionError):
        return [ToolCall("grounding", None)]
    return [ToolCall("grounding", content)]


def read_call_as_released(reply: str) -> list[ToolCall]:
    """Return the last call that has the authors' form to the blank."""
    if "</grounding>" not in reply:
        return []
    match = _AS_RELEASED.match(reply)
    try:
        if match is None:
            raise ToolError("the call does not have its form")
        return [ToolCall("grounding", {"bbox_2d": read_literal(match[1]), "source": match[2]})]
    except ToolError:
        return [ToolCall("grounding", None)]


def cut_region(call: ToolCall, views: Sequence[View]) -> View:
    """Return a region of one of the images. Raises ToolError."""
    given = call.fields
    if not given:
        raise ToolError("the call cannot be read")
    view = _find_source(str(given.get("source", "")), views)
    window = find_pixels(read_corners(given.get("bbox_2d")), view.image.size)
    part = cut_window(view.image, window)
    return View(part, place(window, view), size_image(part))


def find_pixels(corners: Corners, image_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the pixels of a box in shares of the sides. Raises ToolError."""
    width, height = image_wh
    left, top = max(0, int(corners[0] * width)), max(0, int(corners[1] * height))
    right, bottom = min(width - 1, int(corners[2] * width)), min(height - 1, int(corners[3] * height))
    shorter, longer = sorted((right - left, bottom - top))
    if longer >= MOST_ASPECT * shorter:  # so is a box without pixels
        raise ToolError(f"the box has no pixel in the image, or is too thin: {[left, top, right, bottom]}")
    return left, top, right, bottom


def size_image(image: Image.Image) -> Image.Image:
    """Size an image as the authors do, not to whole patches. Raises ToolError when it stays too thin."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        scale = math.sqrt(MOST_PIXELS / (width * height))
        width, height = int(width * scale), int(height * scale)
    if width * height < LEAST_PIXELS:
        scale = math.sqrt(LEAST_PIXELS / (width * height))
        width, height = int(width * scale), int(height * scale)
    if min(width, height) < LEAST_SIDE_PX:
        raise ToolError(f"a side of the image is shorter than {LEAST_SIDE_PX} pixels")
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


def _find_source(source: str, views: Sequence[View]) -> View:
    if source == SOURCE:
        return views[0]
    match = _OBSERVATION.match(source)
    if match is None or int(match[1]) >= len(views):
        raise ToolError(f"there is no source {source[:50]!r}")
    return views[int(match[1])]
