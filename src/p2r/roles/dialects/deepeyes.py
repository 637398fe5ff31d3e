"""DeepEyes-7B: a call for a region in pixels of what the model saw, answered by that region of the file.

Source: Visual-Agent/DeepEyes at 6c5e796 (Apache-2.0): `visual_toolbox_v2.py`, with which it was trained, and
`eval/eval_vstar.py`, with which its published accuracy was measured. The two differ:

- A call is the last one, JSON, clipped to the image, and refused with a sentence when it is small or thin (training);
  or the first one, any Python literal, as it is, and what cannot be carried out ends the chat (evaluation).
- A reply without a call and without an answer ends the chat (training), or is asked for again (evaluation).

Ours follows training, with the enlargement, the pixels and the limits of the evaluation, and maps boxes from the image
that the model saw to the file, which neither script does: on images that are shown smaller, both cut out another place.
`as_released` is the evaluation as it stands. A call is read, never evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from p2r.dialogue import Budget, Decoding
from p2r.errors import ToolError
from p2r.images.budget import round_to_budget
from p2r.prompts import PromptSet
from p2r.roles.base import WHOLE
from p2r.roles.dialects.base import (
    LARGEST_NUMBER,
    QWEN_PROCESSOR_PIXELS,
    Corners,
    Dialect,
    Part,
    ToolCall,
    View,
    clip,
    cut_window,
    enlarge,
    find_bodies,
    find_window,
    is_number,
    place,
    read_corners,
    read_json_call,
)
from p2r.roles.dialects.literal import read_literal
from p2r.roles.dialects.texts import load_texts
from p2r.types import LETTERS, Sample

SHOWN = Budget(factor=28, min_pixels=QWEN_PROCESSOR_PIXELS[0], max_pixels=QWEN_PROCESSOR_PIXELS[1])
"""The sizes of regions in the evaluation."""
LEAST_SIDE_PX = 30
"""The shorter side of a region must be longer (training)."""
MOST_ASPECT = 100
MAX_REPLIES = 11
ZOOM, ROTATE = "image_zoom_in_tool", "image_rotate_tool"


def make_deepeyes(*, as_released: bool = False) -> Dialect:
    """Make the dialect; `as_released` with the slips of the authors' evaluation."""
    texts = load_texts("deepeyes")

    def ask(_: PromptSet, sample: Sample) -> str:
        options = "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, sample.options, strict=False))
        stated = "" if sample.options_in_question or not options else f"Options: {options}\n"
        return f"Question: {sample.question}\n{stated}{texts['suffix']}"

    def respond(answers: Sequence[View | ToolError], number: int) -> Sequence[Part]:
        (answer,) = answers
        if isinstance(answer, ToolError):
            return (f"Error: {answer.message}",)
        return ("<tool_response>", answer.seen, texts["suffix"], "</tool_response>")

    return Dialect(
        "deepeyes",
        ask,
        read_first_call if as_released else read_last_call,
        cut_as_released if as_released else cut_region,
        respond,
        max_replies=MAX_REPLIES,
        asks_again=lambda reply: as_released and "</answer>" not in reply,
        errors_end=as_released,
        decoding=Decoding(max_new_tokens=10_240),
        budget_pixels=QWEN_PROCESSOR_PIXELS,
        texts=texts,
        as_released=as_released,
    )


def read_last_call(reply: str) -> list[ToolCall]:
    """Return the last call that is closed, as in training; none beside an answer."""
    closed = [part.partition("<tool_call>") for part in reply.split("</tool_call>")[:-1]]
    bodies = [body.strip() for _, mark, body in closed if mark]
    if ("</answer>" in reply and "<answer>" in reply) or not bodies or not bodies[-1]:
        return []
    return [read_json_call(bodies[-1]) or ToolCall("", None)]


def read_first_call(reply: str) -> list[ToolCall]:
    """Return the first call, as in the evaluation: also in a thought, and with or without its end."""
    if "</answer>" in reply or "<tool_call>" not in reply:
        return []
    try:
        call = ToolCall("", read_literal(find_bodies(reply, "tool_call")[0]))
        return [ToolCall(ZOOM, call.fields.get("arguments"))]
    except ToolError:
        return [ToolCall("", None)]


def cut_region(call: ToolCall, views: Sequence[View]) -> View:
    """Return a region of the file, or the image turned. Raises ToolError."""
    whole = views[0]
    given = call.fields
    if call.name == ROTATE:
        return View(whole.image, WHOLE, enlarge(whole.seen.rotate(_read_angle(given.get("angle"))), SHOWN))
    if call.name != ZOOM:
        raise ToolError("the call is not a JSON object with the name of a tool and its arguments")
    corners = read_corners(given.get("bbox_2d"))
    window = clip(find_window(_to_file(corners, whole)), whole.image.size)
    check_window(window)
    return _show(window, whole, str(given.get("label") or ""))


def check_window(window: tuple[int, int, int, int]) -> None:
    """Refuse a region that training refuses. Raises ToolError."""
    width, height = window[2] - window[0], window[3] - window[1]
    if min(width, height) <= LEAST_SIDE_PX or max(width, height) > MOST_ASPECT * min(width, height):
        raise ToolError(f"the region is {width} x {height} pixels, which is too small or too thin")


def cut_as_released(call: ToolCall, views: Sequence[View]) -> View:
    """Return the file's pixels at the numbers that the model wrote, black outside. Raises ToolError."""
    given = call.fields
    if not given:
        raise ToolError("the call cannot be read")
    corners = read_corners(given.get("bbox_2d"))
    width, height = corners[2] - corners[0], corners[3] - corners[1]
    try:
        size = round_to_budget(width, height, SHOWN, least=SHOWN.factor)
    except (ValueError, ZeroDivisionError) as error:
        raise ToolError("the box has no area") from error
    return _show(find_window(corners), views[0], str(given.get("label") or ""), size)


def _read_angle(given: object) -> float:
    """Return the degrees by which to turn the image. Raises ToolError."""
    if not is_number(given) or not abs(given) <= LARGEST_NUMBER:  # NaN is not, either
        raise ToolError("angle is not a number of degrees")
    return given


def _show(window: tuple[int, int, int, int], whole: View, label: str, size: tuple[int, int] | None = None) -> View:
    part = cut_window(whole.image, window)
    shown = enlarge(part, SHOWN) if size is None else part.resize(size, Image.Resampling.BICUBIC)
    return View(whole.image, place(clip(window, whole.image.size), whole, label), shown)


def _to_file(corners: Corners, whole: View) -> Corners:
    """Map a box from the image that the model saw to the file."""
    across, down = whole.image.width / whole.seen.width, whole.image.height / whole.seen.height
    left, top, right, bottom = corners
    return left * across, top * down, right * across, bottom * down
