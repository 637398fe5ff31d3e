"""Ask a server once: for the whole reply, or for a stream whose pieces are told and put together again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import openai
from openai.types.chat import ChatCompletionMessageParam

from p2r.dialogue import Decoding, Prompt, cut_reply

EVENT = "data:"
_JOINED = ("content", "reasoning_content", "reasoning", "refusal")
_STREAM: Mapping[str, object] = {"stream": True, "stream_options": {"include_usage": True}}


class Pieces:
    """Tells the pieces of a reply's text, with separated thinking in its tags, as `read_reply` puts them together.

    Args:
        begun: the beginning of the reply that was sent, which is left out where a server repeats it.
        stop: nothing is told behind the first of these.
    """

    def __init__(self, on_text: Callable[[str], None], begun: str = "", stop: Sequence[str] = ()) -> None:
        self._on_text, self._begun, self._stop = on_text, begun, stop
        self._text = self._told = ""
        self._is_thinking = False
        self.has_begun = False

    def tell(self, delta: Mapping[str, object]) -> None:
        """Tell what a chunk adds."""
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str):
            self._say(thought if self._is_thinking else f"<think>{thought}")
            self._is_thinking = True
        if isinstance(text := delta.get("content"), str) and text:
            self._say(f"</think>{text}" if self._is_thinking else text)
            self._is_thinking = False

    def _say(self, text: str) -> None:
        self.has_begun = True
        self._text += text
        if self._begun.startswith(self._text):  # it may be repeated
            return
        whole = cut_reply(self._text.removeprefix(self._begun), self._stop)
        if len(whole) > len(self._told):
            self._on_text(whole[len(self._told) :])
            self._told = whole


@dataclass(frozen=True, slots=True)
class Wish:
    """A prompt for a server, and how the reply is wanted.

    pieces: told the text as it comes; None to ask for the whole.
    """

    prompt: Prompt
    decoding: Decoding
    pieces: Pieces | None = None


async def ask_once(
    client: openai.AsyncOpenAI,
    model: str,
    messages: Sequence[ChatCompletionMessageParam],
    fields: Mapping[str, object],
    pieces: Pieces | None = None,
) -> str:
    """Return the body of a reply, also where it came as a stream. Raises what the client raises.

    Args:
        pieces: told the text as it comes; None to ask for the whole.
    """
    create = client.chat.completions
    if pieces is not None:
        refusal = (openai.BadRequestError, openai.UnprocessableEntityError)
        try:
            stream = create.with_streaming_response.create(
                model=model, messages=list(messages), extra_body={**fields, **_STREAM}
            )
            async with stream as response:
                if "event-stream" not in response.headers.get("content-type", ""):
                    return await response.text()
                whole = Whole()
                async for line in split_lines(response.iter_bytes()):
                    whole.take(line, pieces)
                return whole.write()
        except refusal as error:
            if "stream" not in str(error):
                raise
    whole_reply = await create.with_raw_response.create(model=model, messages=list(messages), extra_body=dict(fields))
    return whole_reply.http_response.text


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    r"""Yield the lines of a stream of events, which end with "\n" or "\r\n" alone.

    JSON may hold other ends of a line, such as U+2028, as they are; an HTTP library's own lines end there.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


class Whole:
    """A reply that is put together from the events of a stream."""

    def __init__(self) -> None:
        self._message: dict[str, str] = {}
        self._tool_calls: list[object] = []
        self._rest: dict[str, object] = {}
        self._finish: object = None
        self._stop: dict[str, object] = {}
        self._has_ended = False

    def take(self, line: str, pieces: Pieces) -> None:
        """Add an event, and tell its text."""
        if not line.startswith(EVENT):
            return
        data = line.removeprefix(EVENT).strip()
        self._has_ended = self._has_ended or data == "[DONE]"
        event: object = None
        with contextlib.suppress(ValueError):
            event = json.loads(data)
        if not isinstance(event, dict):
            return
        content = cast("dict[str, object]", event)
        self._rest |= {name: content[name] for name in ("usage", "error") if content.get(name)}
        choices = content.get("choices")
        first = cast("list[object]", choices)[0] if isinstance(choices, list) and choices else None
        if isinstance(first, dict):
            choice = cast("dict[str, object]", first)
            self._finish = choice.get("finish_reason") or self._finish
            if "stop_reason" in choice:
                self._stop = {"stop_reason": choice["stop_reason"] or self._stop.get("stop_reason")}
            if isinstance(delta := choice.get("delta"), dict):
                self._add(cast("dict[str, object]", delta))
                pieces.tell(cast("dict[str, object]", delta))

    def write(self) -> str:
        """Return the body of the whole reply. One that broke off has no `finish_reason` of a reply that ended."""
        if "error" in self._rest:
            return json.dumps(self._rest)
        finish = self._finish or ("stop" if self._has_ended else "broken off")
        message = {**self._message, **({"tool_calls": self._tool_calls} if self._tool_calls else {})}
        return json.dumps({"choices": [{"message": message, "finish_reason": finish, **self._stop}], **self._rest})

    def _add(self, delta: Mapping[str, object]) -> None:
        for name in _JOINED:
            if isinstance(text := delta.get(name), str):
                self._message[name] = self._message.get(name, "") + text
        if calls := delta.get("tool_calls"):
            self._tool_calls += cast("list[object]", calls)
