"""A chat around a walk: the walk is about the last image and the last question, and the rest of the chat is kept.

Both stages see the system's words, the earlier turns and the other images; only what a walk says to its model comes
last, in the prompts' own words. A chat without any of that is asked exactly as `p2r ask` asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from PIL import Image

from p2r.dialogue import Decoding, Model, ModelProfile, Prompt, StreamingModel, Turn
from p2r.errors import P2RError
from p2r.images.budget import fit
from p2r.images.find import EncodedImage
from p2r.prompts import check_encoding, find_special_token
from p2r.serving.pieces import stream_reply
from p2r.serving.refusal import BAD_REQUEST, Refused
from p2r.serving.request import ChatMessage, TextContent, check_length
from p2r.serving.settings import Limits
from p2r.types import Completion

Parts = tuple[str | EncodedImage, ...]


@dataclass(frozen=True, slots=True)
class Chat:
    """The messages of a request.

    system: the words of all messages of the system.
    turns: (role, parts) of the others; the last is the user's.
    """

    system: str
    turns: tuple[tuple[str, Parts], ...]

    @property
    def question(self) -> str:
        """The text of the last turn."""
        return _join(self.turns[-1][1])

    @property
    def images(self) -> tuple[EncodedImage, ...]:
        """All images, in order."""
        return tuple(part for _, parts in self.turns for part in parts if isinstance(part, EncodedImage))

    def leave_out_question(self) -> Chat:
        """Return what a walk is not about: without the last image and the last text."""
        last_image = self.images[-1]
        turns = [(role, tuple(part for part in parts if part is not last_image)) for role, parts in self.turns]
        others = tuple(part for part in turns[-1][1] if isinstance(part, EncodedImage))
        return replace(self, turns=(*turns[:-1], ("user", others)))

    def make_prompt(self, model: Model) -> Prompt:
        """Return the chat as it is, with its images sized for a model. Blocks: call it in a thread."""
        first, *later = [size_turn(role, parts, model) for role, parts in self.turns]
        return Prompt("reasoner", self.system, first.text, first.images, "", tuple(later))


def read_chat(messages: list[ChatMessage], images: list[EncodedImage], limits: Limits) -> Chat:
    """Make a chat of messages and of the images that they name, in order.

    Raises:
        Refused: the turns are not in an order that models know, a text cannot be sent, or there is too much of it.
        DataError: a text is not one in UTF-8.
    """
    left, system, turns = iter(images), list[str](), list[tuple[str, Parts]]()
    num_chars = 0
    for place, message in enumerate(messages):
        said = turns[-1][1] if turns and turns[-1][0] == message.role else ()
        parts: Parts = ()
        for part in message.parts:
            follows = any(isinstance(other, str) for other in (*said, *parts))
            lead = "\n" if follows and message.role != "system" else ""
            parts = (*parts, lead + part.text if isinstance(part, TextContent) else next(left))
        text = _join(parts)
        num_chars += len(text)
        check_encoding((text,))
        if token := find_special_token(text):
            raise Refused(
                BAD_REQUEST, f"messages.{place} holds {token}, a special token of the model", param="messages"
            )
        has_images = any(isinstance(part, EncodedImage) for part in parts)
        if message.role != "user" and has_images:
            raise Refused(BAD_REQUEST, f"messages.{place}: only the user may show images", param="messages")
        if message.role in ("system", "developer"):
            system.append(text)
        elif turns and turns[-1][0] == message.role:  # two turns of the same, as some clients send them, are one
            turns[-1] = (message.role, (*turns[-1][1], *(("\n",) if text else ()), *parts))
        else:
            turns.append((message.role, parts))
    check_length(num_chars, limits)
    if not turns or turns[0][0] != "user" or turns[-1][0] != "user":
        raise Refused(
            BAD_REQUEST, "the first and the last message beside the system's must be the user's", param="messages"
        )
    return Chat("\n\n".join(filter(None, system)), tuple(turns))


@dataclass(frozen=True, eq=False)
class ModelInChat:
    """A model that is asked within a chat.

    on_text: told the reasoner's reply while it comes, where the model can tell it; None for nobody.
    failures: what it has raised, whose causes a trace does not keep.
    prompts: the words of the last prompt of each role, without the chat around it.
    """

    model: Model
    chat: Chat
    on_text: Callable[[str], Awaitable[None]] | None = None
    failures: list[P2RError] = field(default_factory=list[P2RError])
    prompts: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """The model's name in traces."""
        return self.model.name

    @property
    def profile(self) -> ModelProfile:
        """The frame of its boxes and its pixel budget."""
        return self.model.profile

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Reply to a prompt after the chat's other turns. Raises as the model does."""
        self.prompts[prompt.role] = "\n\n".join(filter(None, (prompt.system, prompt.text)))
        try:
            if self.chat.system or any(parts for _, parts in self.chat.turns):
                prompt = await asyncio.to_thread(self._surround, prompt)
            if self.on_text is not None and prompt.role == "reasoner" and isinstance(self.model, StreamingModel):
                return await stream_reply(self.model, prompt, decoding, self.on_text)
            return await self.model.complete(prompt, decoding)
        except P2RError as error:
            self.failures.append(error)
            raise

    def _surround(self, prompt: Prompt) -> Prompt:
        earlier, (_, others) = self.chat.turns[:-1], self.chat.turns[-1]
        turns = [size_turn(role, parts, self.model) for role, parts in earlier]
        shown = size_turn("user", others, self.model).images
        turns.append(Turn("user", (*shown, *prompt.images, prompt.text)))
        first, *later = (*turns, *prompt.later)
        system = "\n\n".join(filter(None, (prompt.system, self.chat.system)))
        return replace(prompt, system=system, text=first.text, images=first.images, later=tuple(later))


def size_turn(role: str, parts: Parts, model: Model) -> Turn:
    """Return a turn as a model with this budget sees it."""

    def show(part: str | EncodedImage) -> str | Image.Image:
        return part if isinstance(part, str) else fit(part.load(), model.profile.budget)

    return Turn("assistant" if role == "assistant" else "user", tuple(map(show, parts)))


def _join(parts: Parts) -> str:
    return "".join(part for part in parts if isinstance(part, str))
