"""Answer a chat: by a walk where there is an image to look at, else by the model as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from PIL import Image

from p2r.api import make_sample, revive
from p2r.dialogue import Model, StreamingModel
from p2r.errors import P2RError
from p2r.evidence import Evidence
from p2r.images.budget import FullImage
from p2r.modes import PERCEIVING, AskMode, make_roles
from p2r.pipeline import walk
from p2r.prompts import PromptSet
from p2r.roles import DEFAULT_DECODING, DecodingPreset, FixedPerceiver, Perceiver, Reasoner, ToolReasoner
from p2r.serving.chat import Chat, ModelInChat
from p2r.serving.pieces import stream_reply
from p2r.serving.refusal import BAD_REQUEST, NOT_FOUND, Refused, refuse_error
from p2r.serving.request import ChatRequest
from p2r.types import Completion, Perception, Sample, Trace

State = Literal["found", "given", "whole image", "unparsed"]
PREFIX = "p2r/"


@dataclass(frozen=True, slots=True)
class Looked:
    """The end of the first stage: where the model looks, and the image's (width, height) in pixels."""

    perception: Perception
    image_wh: tuple[int, int]


@dataclass(frozen=True, slots=True)
class WalkedAnswer:
    """The end of a walk.

    image_index: the image that was looked at, from 0.
    images: what the reasoner saw, where it was asked for.
    prompts: what each role was asked, where it was asked for.
    """

    trace: Trace
    mode: AskMode
    image_index: int
    images: tuple[Image.Image, ...]
    prompts: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model, its names and how it is asked.

    name: the name by which clients know it.
    looker: says where to look in its place; None for the model itself.
    """

    name: str
    model: Model
    prompts: PromptSet
    looker: Model | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names to list: the model as it is, its walk, and its modes, those for certain checkpoints left out."""
        modes = [mode for mode in get_args(AskMode) if ":" not in mode]
        return (self.name, f"{PREFIX}{self.name}", *(f"{self.name}:{mode}" for mode in modes))

    def find_mode(self, name: str) -> AskMode | None:
        """Return the mode that a name stands for; None for the model as it is. Raises Refused for another name."""
        modes: dict[str, AskMode | None] = {f"{self.name}:{mode}": mode for mode in get_args(AskMode)}
        modes |= {self.name: None, f"{PREFIX}{self.name}": "p2r"}
        if name not in modes:
            said = f"The model `{name[:100]}` does not exist; this server has {', '.join(self.names)}"
            raise Refused(NOT_FOUND, said, param="model", code="model_not_found")
        return modes[name]

    async def answer(
        self,
        request: ChatRequest,
        chat: Chat,
        mode: AskMode,
        *,
        most_new_tokens: int,
        on_look: Callable[[Looked], Awaitable[None]],
        on_text: Callable[[str], Awaitable[None]] | None = None,
    ) -> WalkedAnswer:
        """Walk.

        Args:
            most_new_tokens: of a reply, where the request states none and the mode would allow more.
            on_look: told where the model looks before it answers.
            on_text: told the reply of the reasoner while it comes.

        Raises:
            Refused: there is no answer.
            P2RError: the question cannot be asked.
        """
        image = chat.images[-1]
        if not chat.question.strip():
            raise Refused(BAD_REQUEST, "the last message has no text: ask something about the image", param="messages")
        sample = make_sample(image, chat.question, options=request.p2r.options, answer_form=request.p2r.answer_form)
        around = chat.leave_out_question()
        model = ModelInChat(self.model, around, on_text)
        looker = None if self.looker is None else ModelInChat(self.looker, around)
        perceiver, reasoner = make_roles(
            mode,
            model,
            self.prompts,
            perceiver_model=looker,
            decoding=DecodingPreset(perceiver=DEFAULT_DECODING.perceiver, reasoner=request.decoding),
        )
        if isinstance(reasoner, ToolReasoner):
            most = request.max_completion_tokens or request.max_tokens or most_new_tokens
            limit = {"max_new_tokens": min(reasoner.decoding.max_new_tokens, most)}
            reasoner = replace(reasoner, decoding=reasoner.decoding.model_copy(update=limit))
        if request.p2r.boxes:
            perceiver = FixedPerceiver(tuple(given.box for given in request.p2r.boxes))
        keeper = _KeepingReasoner(reasoner, model if request.p2r.images else None)
        trace = await walk(sample, _TellingPerceiver(perceiver, on_look), keeper)
        refuse_failure(trace, model.failures, looker.failures if looker else ())
        prompts = model.prompts | (looker.prompts if looker else {})
        return WalkedAnswer(
            self._name_models(trace),
            mode,
            image_index=len(chat.images) - 1,
            images=keeper.images,
            prompts=prompts if request.p2r.prompts else None,
        )

    def check_boxes(self, request: ChatRequest, mode: AskMode | None) -> None:
        """Refuse boxes for a mode that is shown none. Raises Refused."""
        if request.p2r.boxes and mode not in PERCEIVING:
            said = f"p2r.boxes: {request.model} is shown no boxes; ask {PREFIX}{self.name} about an image"
            raise Refused(BAD_REQUEST, said, param="p2r.boxes", code="unsupported_parameter")

    def _name_models(self, trace: Trace) -> Trace:
        """Return a trace with the name by which clients know the model; its own may be a folder or an address."""

        def rename(completion: Completion) -> Completion:
            return completion.model_copy(update={"model": self.name, "earlier": tuple(map(rename, completion.earlier))})

        looked, read = trace.perception, trace.reasoning
        if looked is not None:
            kind, names_model, _ = looked.source.partition(":")
            source = f"{kind}:{self.name}" if names_model else kind
            completion = looked.completion and rename(looked.completion)
            looked = looked.model_copy(update={"source": source, "completion": completion})
        return trace.model_copy(update={"perception": looked, "reasoning": read and rename(read)})

    async def reply(
        self, request: ChatRequest, chat: Chat, on_text: Callable[[str], Awaitable[None]] | None = None
    ) -> Completion:
        """Ask the model itself, in this process, with the chat as it is. Raises P2RError.

        Args:
            on_text: told the reply while it comes, where the model can tell it.
        """
        prompt = await asyncio.to_thread(chat.make_prompt, self.model)
        decoding = request.decoding.model_copy(update={"stop": request.stops})
        if on_text is not None and isinstance(self.model, StreamingModel):
            return await stream_reply(self.model, prompt, decoding, on_text)
        return await self.model.complete(prompt, decoding)


def refuse_failure(trace: Trace, *raised: Sequence[P2RError]) -> None:
    """Raise Refused where a walk has failed.

    Args:
        raised: what each model of the walk has raised; a trace keeps no causes.
    """
    if trace.failure is not None:
        errors = [error for each in raised for error in each]
        raise refuse_error(errors[-1] if errors else revive(trace.failure))


def find_state(perception: Perception) -> State:
    """Tell what came of the first stage."""
    parse = perception.parse
    if perception.source == "fixed":
        return "given"
    if perception.boxes:
        return "found"
    return "unparsed" if parse is not None and (parse.step == "none" or parse.faults) else "whole image"


def cut_at(text: str, stops: tuple[str, ...]) -> str:
    """Return a text up to the first of the words at which it is to stop."""
    ends = [place for word in stops if (place := text.find(word)) >= 0]
    return text[: min(ends)] if ends else text


@dataclass(frozen=True, slots=True)
class _TellingPerceiver:
    """A perceiver whose result is told at once."""

    perceiver: Perceiver
    on_look: Callable[[Looked], Awaitable[None]]

    @property
    def fingerprint(self) -> str:
        return self.perceiver.fingerprint

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        perception = await self.perceiver(sample, full_image)
        await self.on_look(Looked(perception, full_image.size))
        return perception


class _KeepingReasoner:
    """A reasoner whose images are kept, sized as the model sees them.

    Args:
        model: its model; None to keep nothing.
    """

    def __init__(self, reasoner: Reasoner, model: Model | None) -> None:
        self._reasoner, self._model = reasoner, model
        self.images: tuple[Image.Image, ...] = ()

    @property
    def fingerprint(self) -> str:
        return self._reasoner.fingerprint

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        if self._model is not None:
            self.images = await asyncio.to_thread(evidence.sized, self._model.profile.budget)
        reply = self._reasoner(sample, evidence)
        del evidence  # large, and not needed while the model replies
        return await reply
