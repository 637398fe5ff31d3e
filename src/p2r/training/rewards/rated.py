"""What a reward function is given, and the mark of one that rates many replies at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from p2r.dialogue import Role
from p2r.images.budget import FullImage
from p2r.types import Answer, Box, Sample, Trace

Function = TypeVar("Function", bound=Callable[..., object])

NEED_ANSWER = frozenset({"answer", "trace"})
"""The fields of `Rated` that are only known when the question has been answered."""
_MARK = "rates_many_replies"


@dataclass(frozen=True, slots=True)
class Rated:
    """A sampled reply, as a reward function sees it. A function names in its parameters which fields it wants.

    sample: the row: its question, options, target, gold_boxes.
    image: upright RGB at full resolution, of `full_image`; not to be modified.
    role: "perceiver" when the reply names boxes, "reasoner" when it is an answer.
    reply: the text that the policy wrote.
    boxes: per mille of the image: those that the reply names, or those whose evidence it answers on.
    num_tokens: of the reply, its end token included. max_new_tokens: the limit that it was sampled with.
    answer: the answer that was read from the reply, or from the frozen reasoner's reply to its boxes.
    trace: the whole walk from the boxes to the judged answer.
    """

    sample: Sample
    full_image: FullImage
    role: Role
    reply: str
    boxes: tuple[Box, ...]
    num_tokens: int
    max_new_tokens: int
    answer: Answer | None = None
    trace: Trace | None = None

    @property
    def image(self) -> Image.Image:
        return self.full_image.image


def batched(function: Function) -> Function:
    """Mark a reward function that rates many replies at once.

    Each of its parameters is a list with an entry for each reply, and it returns a list with a number or None for each.
    """
    setattr(function, _MARK, True)
    return function


def is_batched(function: Callable[..., object]) -> bool:
    """Tell whether a function is marked by `batched`."""
    return bool(getattr(function, _MARK, False))
