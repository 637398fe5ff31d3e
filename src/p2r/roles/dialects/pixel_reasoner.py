"""PixelReasoner-7B: a region of a numbered image, in shares of its sides, with a tenth of the image around it.

Source: TIGER-AI-Lab/Pixel-Reasoner at a3a6c3a (MIT): `experience_maker.py`, `prompts_dataset.py`. Regions are cut from
the images as they are shown, not from the file.

`as_released`, a box counts as shares only when all its numbers are below 1, and as pixels otherwise, so that
[0.5, 0.5, 1, 1] lies at the top left; numbers of images below 1 count from the last; and a call counts only when the
reply ends with it to the character. Ours takes 1 as a share, refuses numbers below 1, ignores blanks at the end, and
adds at most 600 pixels around a region, as the authors' later tool does.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2r.dialogue import Budget, Decoding
from p2r.errors import ToolError
from p2r.images.budget import fit
from p2r.prompts import PromptSet, question_text
from p2r.roles.dialects.base import (
    QWEN_PROCESSOR_PIXELS,
    Corners,
    Dialect,
    Part,
    ToolCall,
    View,
    cut_window,
    enlarge,
    find_bodies,
    find_window,
    is_number,
    place,
    read_corners,
    read_json_call,
)
from p2r.roles.dialects.texts import fill, load_texts
from p2r.types import Sample

CROP = "crop_image_normalized"
AROUND = 0.1
"""The surroundings of a region on each side, as a share of the image's side."""
MOST_AROUND_PX = 600
"""Their most in the later tool."""
LEAST_SIDE_PX = 28
SHOWN = Budget(factor=28, min_pixels=256 * 28 * 28, max_pixels=5120 * 28 * 28)
"""The sizes of regions."""
WHOLE_SHOWN = Budget(factor=28, min_pixels=512 * 28 * 28, max_pixels=5120 * 28 * 28)
"""The sizes of the whole image."""
MAX_REPLIES = 5
"""Four calls, and the answer."""


def make_pixel_reasoner(*, as_released: bool = False) -> Dialect:
    """Make the dialect; `as_released` with the slips of the authors' evaluation."""
    texts = load_texts("pixel-reasoner")

    def ask(_: PromptSet, sample: Sample) -> str:
        return question_text(sample) + texts["guideline"]

    def read_calls(reply: str) -> list[ToolCall]:
        return read_call(reply if as_released else reply.rstrip())

    def cut(call: ToolCall, views: Sequence[View]) -> View:
        return cut_region(call, views, as_released=as_released)

    def respond(answers: Sequence[View | ToolError], number: int) -> Sequence[Part]:
        (answer,) = answers
        if isinstance(answer, ToolError):
            return (fill(texts["error"], error=answer.message),)
        width, height = answer.seen.size
        return (fill(texts["observation"], width=width, height=height), answer.seen)

    return Dialect(
        "pixel-reasoner",
        ask,
        read_calls,
        cut,
        respond,
        show=lambda image: fit(image, WHOLE_SHOWN),
        cuts_from_shown=True,
        max_replies=MAX_REPLIES,
        decoding=Decoding(max_new_tokens=2048),
        budget_pixels=QWEN_PROCESSOR_PIXELS,
        texts=texts,
        as_released=as_released,
    )


def read_call(reply: str) -> list[ToolCall]:
    """Return the last call, when the reply ends with it."""
    if not reply.endswith("</tool_call>"):
        return []
    bodies = find_bodies(reply, "tool_call")
    return [(read_json_call(bodies[-1]) if bodies else None) or ToolCall("", None)]


def cut_region(call: ToolCall, views: Sequence[View], *, as_released: bool = False) -> View:
    """Return a region of one of the images. Raises ToolError."""
    if call.name != CROP:
        raise ToolError(f"there is no tool {call.name[:50]!r}; use {CROP}")
    given = call.fields
    number = given.get("target_image")
    if not is_number(number) or not isinstance(number, int) or not _least(as_released, views) <= number <= len(views):
        raise ToolError(f"target_image is not a number from 1 to {len(views)}")
    view = views[number - 1]
    window = find_region(read_corners(given.get("bbox_2d")), view.image.size, as_released=as_released)
    if min(window[2] - window[0], window[3] - window[1]) <= LEAST_SIDE_PX:
        raise ToolError(f"the region must have more than {LEAST_SIDE_PX} pixels a side")
    part = enlarge(cut_window(view.image, window), SHOWN)
    return View(part, place(window, view))


def find_region(corners: Corners, image_wh: tuple[int, int], *, as_released: bool = False) -> tuple[int, int, int, int]:
    """Return the pixels (left, top, right, bottom) of a box with its surroundings, within the image."""
    width, height = image_wh
    are_shares = all(number < 1 if as_released else number <= 1 for number in corners)
    left, top, right, bottom = corners if are_shares else _divide(corners, image_wh)
    across, down = AROUND, AROUND
    if not as_released:
        across, down = min(AROUND, MOST_AROUND_PX / width), min(AROUND, MOST_AROUND_PX / height)
    wide = (
        max(0, left - across) * width,
        max(0, top - down) * height,
        min(1, right + across) * width,
        min(1, bottom + down) * height,
    )
    return find_window(wide) if as_released else (int(wide[0]), int(wide[1]), int(wide[2]), int(wide[3]))


def _divide(corners: Corners, image_wh: tuple[int, int]) -> Corners:
    (left, top, right, bottom), (width, height) = corners, image_wh
    return left / width, top / height, right / width, bottom / height


def _least(as_released: bool, views: Sequence[View]) -> int:
    return 1 - len(views) if as_released else 1
