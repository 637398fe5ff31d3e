"""Read a chat completion off the wire, strictly about what is needed and tolerant about the rest."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import BaseModel, ValidationError

from p2r.dialogue import cut_reply
from p2r.errors import EndpointError
from p2r.models.server.errors import RequestFacts, explain_message, message_in, name_limit, quote

_TOOLS = frozenset({"tool_calls", "function_call"})
_STOPPED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"}) | _TOOLS
"""Reasons of a reply that the model ended. A tool's reason counts here when there is text and no call."""
_CUT_OFF = frozenset({"length", "max_tokens", "max_length", "model_length"})
_WITHHELD = frozenset({"content_filter", "safety", "refusal"})


class _Part(BaseModel):
    text: str = ""


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[object] | None = None


class _Token(BaseModel):
    token: str
    logprob: float


class _Position(BaseModel):
    top_logprobs: list[_Token] = []


class _Logprobs(BaseModel):
    content: list[_Position] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    error: object = None
    stop_reason: object = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Counted(BaseModel):
    usage: _Usage | None = None


class _Body(_Counted):
    choices: list[_Choice]


@dataclass(frozen=True, slots=True)
class ServerReply:
    """A server's reply; token counts are None when it reports none.

    first_probs: for each word that was asked about, the probability that the reply begins with it.
    guessed_stop: the server left the stop string out, and the one whose tag is open was put back.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int | None
    generated_tokens: int | None
    first_probs: tuple[float, ...] = ()
    guessed_stop: bool = False


def read_reply(
    body: str, asked: RequestFacts, first_words: Sequence[str] = (), stop: Sequence[str] = (), begun: str = ""
) -> ServerReply:
    """Parse the body of a 200 response.

    Args:
        stop: the strings that were to end the reply; it is cut behind the first, which is put back where the server
            leaves it out.
        begun: the beginning of the reply that was sent; llama.cpp repeats it, and it is left out.
        first_words: words for which the probability that the reply begins with them is wanted; it is 0 for a word that
            the server does not list among its likeliest tokens.

    Thinking that the server has separated from the text (`reasoning_content`) is put back in front, in its tags, so
    that a reply reads the same whichever server sent it.

    Raises:
        EndpointError: the body is not JSON, not a chat completion, an error in disguise, empty without a token, cut off
            before the first token, ended otherwise than by the model or a limit, withheld, refused, a call of a tool,
            or without the probabilities that were asked for.
    """
    try:
        content = json.loads(body)
    except ValueError as error:
        start = " ".join(body[:80].split())
        raise EndpointError(
            f"{asked.url} sent something that is not JSON: {start!r}",
            hint="is this the URL of an OpenAI-compatible API?",
        ) from error
    given = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    if not given.get("choices") and (message := message_in(given)):
        raise explain_message(message, 200, asked)
    try:
        reply = _Body.model_validate(content)
        choice = reply.choices[0]
    except (ValidationError, IndexError) as error:
        raise EndpointError(f"{asked.url} sent JSON that is not a chat completion: {body[:120]!r}") from error
    finish = _read_finish(choice, asked)
    text = _text(choice.message, finish).removeprefix(begun)
    guess = ""
    if any(mark in text for mark in stop):
        text, finish = cut_reply(text, stop), "stop"
    elif choice.stop_reason in stop:  # vLLM says it, and null where the model itself ended
        text += str(choice.stop_reason)
    elif finish == "stop" and "stop_reason" not in choice.model_fields_set:
        text += (guess := _find_open_tag(text, stop))
    usage = reply.usage or _Usage()
    if not text.strip() and not _ended_at_once(choice, usage):
        if finish == "length":
            raise EndpointError(
                f"{asked.url} cut the reply off before its first word",
                hint=f"raise the server's context, or {name_limit(asked)}",
            )
        raise EndpointError(
            f"{asked.url} sent an empty reply", hint="does the server use the model's own chat template?"
        )
    first_probs = _first_probs(choice, first_words, asked) if first_words else ()
    return ServerReply(text, finish, usage.prompt_tokens, usage.completion_tokens, first_probs, bool(guess))


def read_prompt_tokens(body: str) -> int | None:
    """Return the tokens that a server counts for a prompt, whatever it replied; None where it reports none."""
    with contextlib.suppress(ValueError):
        usage = _Counted.model_validate_json(body).usage
        return usage.prompt_tokens or None if usage else None
    return None


def _read_finish(choice: _Choice, asked: RequestFacts) -> Literal["stop", "length"]:
    """Return how a whole reply ended. Raises EndpointError for anything but a whole reply of the model."""
    message, reason = choice.message, (choice.finish_reason or "stop").lower()
    if message.refusal:
        raise EndpointError(
            f"the model {asked.model!r} refuses to answer: {quote(message.refusal, asked)}",
            hint="word the question differently, or ask another model",
        )
    if reason in _WITHHELD:
        raise EndpointError(f"{asked.url} withheld the reply ({reason})")
    if message.tool_calls:
        raise EndpointError(
            f"{asked.url} sent a call of a tool in place of the reply's text: "
            f"{quote(json.dumps(message.tool_calls[0]), asked)}",
            hint="start the server without a parser for tools (vLLM: without --enable-auto-tool-choice)",
        )
    if reason in _CUT_OFF:
        return "length"
    if reason not in _STOPPED:
        why = message_in(choice.error)
        raise EndpointError(
            f"{asked.url} did not finish the reply (finish_reason {reason!r})"
            + (f": {quote(why, asked)}" if why else ""),
            hint="the server's own log says why",
        )
    return "stop"


def _find_open_tag(text: str, stop: Sequence[str]) -> str:
    """Return the stop string that closes the last tag that was opened; "" where it closes none.

    Args:
        text: without any of the stop strings.
    """
    tags = ((text.rfind(f"<{mark[2:]}"), mark) for mark in stop if mark.startswith("</"))
    return max((tag for tag in tags if tag[0] >= 0), default=(0, ""))[1]


def _ended_at_once(choice: _Choice, usage: _Usage) -> bool:
    """Tell whether the model itself ended the reply before its first word: its only token is the one that ends it."""
    return (choice.finish_reason or "").lower() in _STOPPED - _TOOLS and (usage.completion_tokens or 0) >= 1


def _first_probs(choice: _Choice, words: Sequence[str], asked: RequestFacts) -> tuple[float, ...]:
    positions = (choice.logprobs.content if choice.logprobs else None) or []
    if not positions or not positions[0].top_logprobs:
        raise EndpointError(
            f"{asked.url} sent no log-probabilities, which weigh a yes against a no",
            hint="use a server that gives them (vLLM, SGLang, llama.cpp) or a local model",
        )
    listed = positions[0].top_logprobs
    probs = {token.token: math.exp(min(token.logprob, 0.0)) for token in listed}
    if not any(word in probs for word in words):
        raise EndpointError(
            f"neither {' nor '.join(words)} is among the likeliest first words that {asked.url} lists ({len(listed)})",
            hint="use a model that answers yes-no questions; a local model states the probability of any word",
        )
    return tuple(probs.get(word, 0.0) for word in words)


def _text(message: _Message, finish: Literal["stop", "length"]) -> str:
    content = message.content or ""
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    thought = message.reasoning_content or message.reasoning
    if not thought:
        return text
    if text:
        return f"<think>{thought}</think>{text}"
    # Where the model stopped by itself and nothing follows, the server has taken the whole reply for a thought.
    return thought if finish == "stop" else f"<think>{thought}"
