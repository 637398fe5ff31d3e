"""What the dialects share: how a call is read, the images of a chat, and `Dialect` itself.

A dialect is how one system's checkpoint asks for a closer look, and what it is then shown. `ToolReasoner` reads it.
Each has a file of its own, which says what it departs from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard, cast

from PIL import Image

from p2r.dialogue import Budget, Decoding
from p2r.errors import ToolError
from p2r.images.budget import cut, round_to_budget
from p2r.prompts import PromptSet, question_text
from p2r.roles.dialects.texts import Texts
from p2r.types import Box, Frame, Sample, replace_surrogates

Part: TypeAlias = str | Image.Image
"""A piece of a turn of the chat."""
QWEN_PROCESSOR_PIXELS = (4 * 28 * 28, 16384 * 28 * 28)
"""Least and most pixels of the processor of Qwen2.5-VL, which most of these checkpoints were made from."""
Corners: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom."""

LARGEST_NUMBER = 1e9
"""The largest number in a call's box: far beyond any image, and far from where numbers overflow."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the model wrote it.

    arguments: its contents; None when the call cannot be read.
    earlier: the calls of the chat that were carried out before it.
    """

    name: str
    arguments: object
    earlier: tuple[ToolCall, ...] = ()

    @property
    def fields(self) -> Mapping[str, object]:
        """The arguments by name; none where they are something else."""
        arguments = self.arguments
        return cast("dict[str, object]", arguments) if isinstance(arguments, dict) else {}


@dataclass(frozen=True, slots=True)
class View:
    """An image of the chat.

    image: what later calls may cut from.
    region: the part of the whole image that it shows; None where it shows nothing of it.
    shown: the image as the model is shown it, before the model's own budget; None for `image`.
    text: what a call computed, which is shown in place of an image.
    """

    image: Image.Image
    region: Box | None
    shown: Image.Image | None = None
    text: str = ""

    @property
    def seen(self) -> Image.Image:
        """The image that the model is shown."""
        return self.image if self.shown is None else self.shown


def _no_calls(_: str) -> Sequence[ToolCall]:
    return ()


def _cut_nothing(_: ToolCall, views: Sequence[View]) -> View:
    raise ToolError(f"there is no tool, and {len(views)} images are all that can be seen")


def _answer_nothing(_: Sequence[View | ToolError], number: int) -> Sequence[Part]:
    raise AssertionError(f"reply {number} has no calls to answer")


def _look_at_nothing(reply: str, whole: View) -> Sequence[Box]:
    return ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """The protocol of a checkpoint: its way to ask for a closer look, and what it is then shown.

    ask: the first question of the chat.
    read_calls: the calls of a reply that are carried out; none of them ends the chat. Without a tool, this, `cut`, and
        `respond` are left out.
    cut: what a call asks to see, given the images of the chat so far. Raises ToolError, whose message is for the model.
    respond: the user's next turn: for each call what it shows or what is wrong with it, and the number of the reply
        (from 0).
    tell: what is said about the image's file behind the question, given its width and height in pixels.
    continues: what `respond` gives goes on the model's reply, which is no turn of its own.
    show: the first image at the size of the authors' evaluation, before the model's own budget; None for that alone.
    cuts_from_shown: parts are cut from what the model was shown, not from the file.
    frame: the frame in which the model's profile must say that it writes boxes; None for any.
    max_replies, max_images: limits of the chat, the answer and the whole image included.
    stop: a reply ends behind the first of these.
    begun: each reply is begun with this.
    read_looks: the boxes that a reply, without being shown them, says it looks at, and the whole image.
    asks_again: tells of a reply that neither calls nor answers whether the same is asked again.
    errors_end: a call that cannot be carried out ends the chat.
    drops_errors: it is left out of the chat, and the same is asked again.
    tries: a chat that comes to no answer is held again until there were as many.
    ask_plainly: the question, without the system's words, to a model that came to no answer in all of them; its reply
        is the answer. None for no such question.
    decoding: how replies are drawn; None for p2r's usual way.
    budget_pixels: least and most pixels that the processor takes in the authors' evaluation; None for the model's own.
    texts: the dialect's own words, the system's among them; None for those of the prompt set.
    as_released: with the slips of the authors' evaluation.
    """

    name: str
    ask: Callable[[PromptSet, Sample], str]
    read_calls: Callable[[str], Sequence[ToolCall]] = _no_calls
    cut: Callable[[ToolCall, Sequence[View]], View | Sequence[View]] = _cut_nothing
    respond: Callable[[Sequence[View | ToolError], int], Sequence[Part]] = _answer_nothing
    tell: Callable[[tuple[int, int]], str] = field(default=lambda image_wh: "")
    continues: bool = False
    show: Callable[[Image.Image], Image.Image] | None = None
    cuts_from_shown: bool = False
    frame: Frame | None = None
    max_replies: int = 20
    max_images: int = 16
    stop: tuple[str, ...] = ()
    begun: str = ""
    read_looks: Callable[[str, View], Sequence[Box]] = _look_at_nothing
    asks_again: Callable[[str], bool] = field(default=lambda reply: False)
    errors_end: bool = False
    drops_errors: bool = False
    tries: int = 1
    ask_plainly: Callable[[Sample], str] | None = None
    decoding: Decoding | None = None
    budget_pixels: tuple[int, int] | None = None
    texts: Texts | None = None
    as_released: bool = False

    def system(self, prompts: PromptSet) -> str:
        """Return the system's words."""
        return (
            "\n\n".join(filter(None, (prompts.system, prompts.tools))) if self.texts is None else self.texts["system"]
        )

    @property
    def fingerprint(self) -> str:
        """The part of a role's fingerprint that tells dialects, their words, and their limits apart."""
        own = f"tools:{self.name} {self.as_released} {self.texts.fingerprint}" if self.texts else "tools"
        return f"{own} {self.max_replies} {self.max_images} {self.begun}".rstrip()


def ask_question(_: PromptSet, sample: Sample) -> str:
    """Ask the question with its options and nothing else."""
    return question_text(sample)


def read_json_call(body: str) -> ToolCall | None:
    """Read a call that is a JSON object with a name and arguments; None for anything but JSON."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    call = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    return ToolCall(replace_surrogates(str(call.get("name", ""))), call.get("arguments", {}))


def find_bodies(reply: str, tag: str) -> list[str]:
    """Return what stands between the tags of each call; a tag that is not closed reaches to the end."""
    return [part.split(f"</{tag}>", 1)[0].strip() for part in reply.split(f"<{tag}>")[1:]]


def read_corners(given: object) -> Corners:
    """Return the four numbers of a box. Raises ToolError."""
    numbers = cast("Sequence[object]", given) if isinstance(given, (list, tuple)) else ()
    if len(numbers) != 4 or not all(is_number(number) for number in numbers):
        raise ToolError("bbox_2d is not a list of four numbers")
    left, top, right, bottom = cast("list[float]", numbers)
    if not all(-LARGEST_NUMBER <= number <= LARGEST_NUMBER for number in (left, top, right, bottom)):
        raise ToolError("a number of bbox_2d is too large")
    return left, top, right, bottom


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is a number, which True is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def find_window(corners: Corners) -> tuple[int, int, int, int]:
    """Return a box in whole pixels, rounded as Pillow's `crop` does it."""
    left, top, right, bottom = corners
    return round(left), round(top), round(right), round(bottom)


def cut_window(image: Image.Image, window: tuple[int, int, int, int]) -> Image.Image:
    """Copy a part of an image; what lies outside is black. Raises ToolError when its corners are reversed."""
    left, top, right, bottom = window
    if right < left or bottom < top:
        raise ToolError("the box has its corners in the wrong order")
    if (right - left) * (bottom - top) > 4 * image.width * image.height + 1_000_000:
        raise ToolError("the box is far larger than the image")
    return cut(image, window)


def enlarge(image: Image.Image, budget: Budget) -> Image.Image:
    """Size a region by the rule of the Qwen-VL family that the authors' scripts copied; see `round_to_budget`."""
    height, width = round_to_budget(image.height, image.width, budget, least=budget.factor)
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def place(window: Sequence[float], view: View, label: str = "") -> Box | None:
    """Return a part of a view, in pixels of its image, as a box of the whole image; None for a part without pixels."""
    region, (width_px, height_px) = view.region, view.image.size
    left, top, right, bottom = window
    if region is None or right <= left or bottom <= top:
        return None
    across, down = region.x2 - region.x1, region.y2 - region.y1
    return Box(
        x1=region.x1 + left / width_px * across,
        y1=region.y1 + top / height_px * down,
        x2=region.x1 + right / width_px * across,
        y2=region.y1 + bottom / height_px * down,
        label=label,
    )


def clip(window: tuple[int, int, int, int], image_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of a window that lies in the image."""
    (left, top, right, bottom), (width, height) = window, image_wh
    return (min(max(0, left), width), min(max(0, top), height), min(max(0, right), width), min(max(0, bottom), height))


def budget_of(usual: Budget, limits: tuple[int, int] | None, *, is_stated: bool) -> Budget:
    """Return a model's budget with the limits of a dialect, in pixels; the model's own where it has none.

    Args:
        is_stated: the model's most pixels are what the user said, and the dialect's are not more.
    """
    if limits is None:
        return usual
    least, most = limits
    if is_stated and usual.max_pixels < most:
        most = usual.max_pixels
        least = least if least < most else usual.min_pixels
    return usual.model_copy(update={"min_pixels": least, "max_pixels": most})
