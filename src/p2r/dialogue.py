"""What is said to a model: prompts, how replies are drawn, and the protocol that every model follows.

Images in prompts are sized already. What a model says back, `Completion`, is written into traces and therefore in
`types`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from p2r.types import Completion, Frame, Frozen

Role = Literal["perceiver", "reasoner", "judge"]


class Budget(Frozen):
    """How many pixels a model looks at: sides are multiples of `factor`, the area lies in [min_pixels, max_pixels]."""

    factor: int = 32
    min_pixels: int = 16 * 32 * 32
    max_pixels: int = 4096 * 32 * 32


class ModelProfile(Frozen):
    """What a model family expects: the frame its boxes are written in, and its pixel budget."""

    family: str
    frame: Frame
    budget: Budget


class Decoding(Frozen):
    """How tokens are drawn. Temperature 0 is greedy.

    first_words: words whose probability of beginning the reply is wanted as well: `Completion.first_probs`.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    first_words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a chat: texts and images (already sized), as they follow each other."""

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
    """What a model is asked: images first (already sized to its budget), then the text.

    fingerprint: short hash of the prompt set the wording comes from.
    later: what was said since, in a chat of several turns: a reply, what was said to it, and so on. The last turn is
        the user's.
    """

    role: Role
    system: str
    text: str
    images: tuple[Image.Image, ...]
    fingerprint: str
    later: tuple[Turn, ...] = ()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The whole chat, without the system's words."""
        return (Turn("user", (*self.images, self.text)), *self.later)

    @property
    def all_images(self) -> tuple[Image.Image, ...]:
        """The images of every turn."""
        return tuple(image for turn in self.turns for image in turn.images)


class Model(Protocol):
    """Anything that replies to a prompt. Concurrent calls are welcome; a model batches or bounds them itself."""

    @property
    def name(self) -> str: ...

    @property
    def profile(self) -> ModelProfile: ...

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Raises ModelError or EndpointError when no usable reply comes."""
        ...


def visual_tokens(images: Sequence[Image.Image], factor: int) -> tuple[int, ...]:
    """Tokens each image costs a model whose merged patch covers factor x factor pixels."""
    return tuple((image.width // factor) * (image.height // factor) for image in images)
