"""What is said to a model: budgets, prompts, how replies are drawn, and the protocol that every model follows.

Images in prompts are already sized. The reply, `Completion`, is written into traces and therefore in `types`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from PIL import Image
from pydantic import Field

from p2r.types import Completion, Frame, Frozen

Role = Literal["perceiver", "reasoner", "judge"]


class Budget(Frozen):
    """The pixels that a model is shown: sides are multiples of `factor`, the area lies in [min_pixels, max_pixels]."""

    factor: int = 32
    min_pixels: int = 16 * 32 * 32
    max_pixels: int = 4096 * 32 * 32


UNKNOWN_FAMILY = "unknown"
"""The family of a model of which neither its files nor its name tell what it is."""


class ModelProfile(Frozen):
    """The format that a model family expects: the frame in which it writes boxes, and its pixel budget.

    frame_is_stated: the frame is what somebody said, whatever the family's is.
    most_is_stated: the budget's most pixels are what somebody said, and bound those of a dialect as well.
    """

    family: str
    frame: Frame
    budget: Budget
    frame_is_stated: bool = False
    most_is_stated: bool = False

    @property
    def knows_frame(self) -> bool:
        """Tell whether the frame is known, by the family or because somebody said it. Else it is Qwen3-VL's."""
        return self.frame_is_stated or self.family != UNKNOWN_FAMILY

    @property
    def stated_frame(self) -> Frame | None:
        """The frame that somebody said; None for the family's own."""
        return self.frame if self.frame_is_stated else None


class Decoding(Frozen):
    """Settings that say how tokens are drawn. Temperature 0 is greedy.

    first_words: words for which the probability that the reply begins with them is wanted: `Completion.first_probs`.
    stop: the reply ends behind the first of these, which it keeps.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    first_words: tuple[str, ...] = ()
    stop: tuple[str, ...] = Field(default=(), exclude_if=lambda stop: not stop)  # hashes without it stay as they were


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a chat: texts and sized images, in order."""

    role: Literal["user", "assistant"]
    parts: tuple[str | Image.Image, ...]

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def images(self) -> tuple[Image.Image, ...]:
        return tuple(part for part in self.parts if not isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request to a model: images first (sized to its budget), then the text.

    fingerprint: short hash of the prompt set that words it.
    later: the turns that follow in a longer chat: a reply, the answer to it, and so on. The last turn is the user's, or
        the beginning of the reply, which the model then continues (`begun`).
    """

    role: Role
    system: str
    text: str
    images: tuple[Image.Image, ...]
    fingerprint: str
    later: tuple[Turn, ...] = ()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The whole chat without the system's words."""
        return (Turn("user", (*self.images, self.text)), *self.later)

    @property
    def begun(self) -> Turn | None:
        """The beginning of the reply; None where the model begins it itself.

        `Completion.text` is what the model adds, without the beginning, whose tokens count as the prompt's.
        """
        return self.later[-1] if self.later and self.later[-1].role == "assistant" else None

    @property
    def begun_text(self) -> str:
        """The text of the beginning of the reply; "" where the model begins it itself."""
        return self.begun.text if self.begun else ""

    @property
    def all_images(self) -> tuple[Image.Image, ...]:
        """The images of every turn."""
        return tuple(image for turn in self.turns for image in turn.images)


class Model(Protocol):
    """Anything that replies to a prompt. Calls may be concurrent; a model batches or bounds them itself."""

    @property
    def name(self) -> str:
        """The model's name in traces."""
        ...

    @property
    def profile(self) -> ModelProfile:
        """The frame of its boxes and its pixel budget."""
        ...

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Reply to a prompt. Raises ModelError or EndpointError when there is no usable reply."""
        ...


@runtime_checkable
class StreamingModel(Model, Protocol):
    """A model that can tell its reply while it comes."""

    async def stream(self, prompt: Prompt, decoding: Decoding, on_text: Callable[[str], None]) -> Completion:
        """Reply as `complete` does, and tell each piece of the text in the caller's event loop. Raises as it does."""
        ...


def cut_reply(reply: str, stop: Sequence[str]) -> str:
    """Return a reply up to the first of the stop strings, which it keeps."""
    ends = [reply.find(mark) + len(mark) for mark in stop if mark in reply]
    return reply[: min(ends)] if ends else reply


def visual_tokens(images: Sequence[Image.Image], factor: int) -> tuple[int, ...]:
    """Count the tokens of each image for a model whose merged patch covers factor x factor pixels."""
    return tuple((image.width // factor) * (image.height // factor) for image in images)
