"""What a client asks, in OpenAI's form: checked, and never silently dropped.

A field that a walk cannot honor is refused by its name, unless its value asks for nothing. A field that nobody knows is
refused as OpenAI refuses it. What OpenAI's own clients send about themselves (`user`, `metadata`) changes no reply, and
is ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from p2r.dialogue import Decoding
from p2r.errors import count_nouns, explain_fault
from p2r.roles import DEFAULT_DECODING
from p2r.serving.refusal import BAD_REQUEST, Refused
from p2r.serving.settings import Limits
from p2r.types import AnswerForm, Box

MOST_STOPS = 4
"""The most words to stop at, as OpenAI allows."""
MOST_PARTS = 2048
"""The most messages, and the most parts of all of them, as OpenAI allows."""
MOST_BOXES = 64
"""The most boxes that may be given, as many as are read from a reply."""

_ABOUT_THE_CLIENT = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "user",
    }
)
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "min_p": (0,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_k": (-1, 0),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
"""Fields that a walk cannot honor, and their values that ask for nothing; None always does."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class TextContent(_Strict):
    """A part of a message that is text."""

    type: Literal["text"]
    text: str


class ImageAddress(_Strict):
    """The place of an image: a data: URL, or one that may be fetched. `detail` has no effect: budgets are p2r's."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImageContent(_Strict):
    """A part of a message that is an image."""

    type: Literal["image_url"]
    image_url: ImageAddress


ContentPart = Annotated[TextContent | ImageContent, Field(discriminator="type")]


class ChatMessage(_Strict):
    """A turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]
    name: str | None = None
    tool_calls: list[object] | None = None
    function_call: dict[str, object] | None = None

    @property
    def parts(self) -> list[TextContent | ImageContent]:
        """Its parts, a plain text among them."""
        return [TextContent(type="text", text=self.content)] if isinstance(self.content, str) else self.content


class StreamOptions(_Strict):
    """The form of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


PerMille = Annotated[float, Field(ge=0, le=1000)]


class GivenBox(_Strict):
    """A place to look at. per_mille: left, top, right, bottom, of the image's width and height."""

    model_config = ConfigDict(extra="forbid")

    per_mille: tuple[PerMille, PerMille, PerMille, PerMille] = Field(strict=False)
    label: str = ""

    @model_validator(mode="after")
    def _is_a_rectangle(self) -> GivenBox:
        left, top, right, bottom = self.per_mille
        if not (left < right and top < bottom):
            raise ValueError("left must be below right, and top below bottom")
        return self

    @property
    def box(self) -> Box:
        """The box itself."""
        left, top, right, bottom = self.per_mille
        return Box(x1=left, y1=top, x2=right, y2=bottom, label=self.label)


class LookOptions(_Strict):
    """p2r's own field of a request.

    boxes: look here, in place of asking the model where.
    images: send the images that the model saw: the annotated one and the crops.
    prompts: send what both stages were asked.
    trace: send the whole trace, as `p2r ask --json` prints it.
    options, answer_form: as in `p2r ask`.
    """

    model_config = ConfigDict(extra="forbid")

    boxes: tuple[GivenBox, ...] | None = Field(default=None, min_length=1, strict=False)
    images: bool = False
    prompts: bool = False
    trace: bool = False
    options: tuple[str, ...] = Field(default=(), strict=False)
    answer_form: AnswerForm | None = None


class ChatRequest(_Strict):
    """The body of POST /v1/chat/completions that a walk answers."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    repeat_penalty: float | None = Field(default=None, gt=0, le=10)
    p2r: LookOptions = LookOptions()

    @property
    def stops(self) -> tuple[str, ...]:
        """The words before which the answer ends."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(word for word in given if word)

    @property
    def wants_usage(self) -> bool:
        """True where a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def decoding(self) -> Decoding:
        """The decoding of the answer: greedy, where the request does not say."""
        usual = DEFAULT_DECODING.reasoner
        penalty = self.repetition_penalty or self.repeat_penalty
        return Decoding(
            max_new_tokens=self.max_completion_tokens or self.max_tokens or usual.max_new_tokens,
            temperature=usual.temperature if self.temperature is None else self.temperature,
            top_p=usual.top_p if self.top_p is None else self.top_p,
            repetition_penalty=usual.repetition_penalty if penalty is None else penalty,
            seed=self.seed,
        )


def read_request(body: dict[str, object], limits: Limits) -> ChatRequest:
    """Check a request for a walk, or for a model in this process.

    Raises:
        Refused: a field is missing, wrong, beyond a limit, unknown, or asks for what is not done.
    """
    check_parts(body.get("messages"))
    try:
        request = ChatRequest.model_validate(body)
    except ValidationError as error:
        fault = max(error.errors(), key=lambda each: len(each["loc"]))  # where two types fit, of the closer one
        fault["loc"] = _clean_place(fault["loc"])
        place = ".".join(map(str, fault["loc"]))
        said = explain_fault(fault, "it must be an object" if fault["type"] in ("dict_type", "model_type") else "")
        if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
            said = f"{place} is not a part that this server reads: it reads text and image_url"
        raise Refused(BAD_REQUEST, said, param=place or None, code="invalid_value") from None
    for name, value in (request.model_extra or {}).items():
        if value is None or name in _ABOUT_THE_CLIENT:
            continue
        if name not in _NEUTRAL:
            raise Refused(BAD_REQUEST, f"Unrecognized request argument supplied: {name[:60]}", param=name[:60])
        if value not in _NEUTRAL[name]:
            raise Refused(
                BAD_REQUEST,
                f"{name} is not supported by {request.model}",
                param=name,
                code="unsupported_parameter",
            )
    for place, message in enumerate(request.messages):
        for name, called in (("tool_calls", message.tool_calls), ("function_call", message.function_call)):
            if called:
                said = f"messages.{place}.{name} is not supported by {request.model}"
                raise Refused(BAD_REQUEST, said, param=f"messages.{place}.{name}", code="unsupported_parameter")
    _check_limits(request, limits)
    return request


def read_model(body: dict[str, object]) -> str:
    """Return the model that a request names. Raises Refused when it names none."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise Refused(BAD_REQUEST, "you must provide a model parameter", param="model")
    return name


def _clean_place(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return the place of a fault without what pydantic adds where several types are allowed: the one that it tried."""

    def is_added(part: int | str, before: int | str) -> bool:
        return part == "str" or "[" in str(part) or (part in ("text", "image_url") and isinstance(before, int))

    return tuple(part for before, part in zip(("", *place), place, strict=False) if not is_added(part, before))


def check_parts(messages: object) -> None:
    """Make sure that there are no more messages, and parts of them, than are read. Raises Refused."""
    listed = cast("list[object]", messages) if isinstance(messages, list) else []
    contents = [cast("dict[str, object]", each).get("content") for each in listed if isinstance(each, dict)]
    num_parts = sum(len(cast("list[object]", each)) for each in contents if isinstance(each, list))
    if max(len(listed), num_parts) > MOST_PARTS:
        raise Refused(BAD_REQUEST, f"messages has more than {MOST_PARTS:,} entries or parts", param="messages")


def _check_limits(request: ChatRequest, limits: Limits) -> None:
    if len(request.stops) > MOST_STOPS:
        raise Refused(BAD_REQUEST, f"stop has more than {MOST_STOPS} entries", param="stop")
    if len(request.p2r.boxes or ()) > MOST_BOXES:
        raise Refused(BAD_REQUEST, f"p2r.boxes has more than {MOST_BOXES} entries", param="p2r.boxes")
    if request.decoding.max_new_tokens > limits.new_tokens:
        name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
        raise Refused(BAD_REQUEST, f"{name} is above {limits.new_tokens}, the most of this server", param=name)


def check_length(num_chars: int, limits: Limits) -> None:
    """Make sure that the texts of a request have no more characters than this server takes. Raises Refused."""
    if num_chars > limits.prompt_chars:
        raise Refused(
            BAD_REQUEST,
            f"the texts have {count_nouns(num_chars, 'character')} together; this server takes {limits.prompt_chars:,}",
            param="messages",
            code="prompt_too_long",
        )
