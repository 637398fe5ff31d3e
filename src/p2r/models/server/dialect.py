"""Write the JSON of a chat request, and reword it for a server that refuses an optional field or an image format.

Servers agree on the core of a request and differ at its edges. A request starts in the most common dialect (vLLM's);
what a server refuses by name is from then on worded its way, or left out with a warning. That does not count as a
retry.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import openai
from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam
from pydantic import JsonValue

from p2r.dialogue import Decoding, Prompt
from p2r.errors import DataError, count_nouns
from p2r.models.server.errors import find_cause, message_of
from p2r.models.server.transport import LOSSLESS, Transport

PLACEHOLDER = "<|image_pad|>"
"""It stands for an image in the chat templates of Qwen's families."""
MOST_TOP_LOGPROBS = 20
"""The most likely tokens that OpenAI's interface and vLLM's default allow to be listed."""

_NOT_TAKEN = re.compile(
    r"unsupported|not support|only the default|only 1(\.0)? is allowed|(may|can) only be (set to )?1\b"
    r"|must be (set to )?1(\.0)?\b|cannot both be|not (allowed|permitted)|deprecated|unrecognized"
    r"|unknown (parameter|field|argument)|extra inputs",
    re.IGNORECASE,
)
"""A field that a server does not take at all, or with no value but its own."""
_NO_SYSTEM = re.compile(
    r"system (role|message|prompt|instruction)s?\b.{0,40}\b(not|un) ?(be )?(supported|allowed|enabled)"
    r"|not support .{0,20}'?system\b|roles must alternate|unknown role:? ['\"]?system",
    re.IGNORECASE,
)
_NUMBER = r"[`'\"]?(\d[\d,]*)"
_MOST_TOKENS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"at most {_NUMBER} (?:completion|output|new)",
        rf"> {_NUMBER},? which is the maximum",
        rf"(?:less than or equal to|no more than|not exceed|at most|<=) {_NUMBER}",
        rf"\[ ?[01], ?{_NUMBER} ?\]",
        rf"maximum[^.\d]{{0,40}} {_NUMBER}",
    )
)


@dataclass(frozen=True, slots=True)
class ServerDialect:
    """The words of a server for the optional parts of a request.

    limit: the field for the most new tokens.
    sampling: the fields that OpenAI's own interface lacks (repetition penalty, top_k, min_p): "extended" as vLLM,
        SGLang and llama.cpp name them; "serve" as `transformers serve` does; "standard" leaves them out.
    seed, temperature, top_p: whether the field is sent. Some hosted models draw at a temperature of their own.
    stop: "kept" in the reply, as vLLM can; "left out", as OpenAI does; "unknown" where there are no stop strings.
    system: whether there is a system's role; else its words stand before the user's.
    most_tokens: the most new tokens that the server allows to be asked for; None for any number.
    thinking: what is said to the chat template about thinking first: "off"; nothing ("unsaid"); "refused" where the
        server does not take it.
    """

    transport: Transport
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    sampling: Literal["extended", "serve", "standard"] = "extended"
    seed: bool = True
    temperature: bool = True
    top_p: bool = True
    stop: Literal["kept", "left out", "unknown"] = "kept"
    system: bool = True
    most_tokens: int | None = None
    thinking: Literal["off", "unsaid", "refused"] = "unsaid"


def check_placeholder(text: str) -> None:
    """Refuse a text that would stand for an image in the chat. Raises DataError."""
    if PLACEHOLDER in text:
        raise DataError(f"the question holds {PLACEHOLDER}, which stands for an image", hint="remove it from the text")


def build_messages(prompt: Prompt, urls: Sequence[str], *, system: bool = True) -> list[ChatCompletionMessageParam]:
    """Return the chat: images first, then the text, as the models were trained; then the later turns.

    Args:
        urls: the URLs of all images of all turns, in order.
        system: give the system's words their own message; else they stand before the first text of the user.
    """
    messages: list[ChatCompletionMessageParam] = []
    before = "" if system or not prompt.system else f"{prompt.system}\n\n"
    if prompt.system and system:
        messages.append({"role": "system", "content": prompt.system})
    urls_left = iter(urls)
    for turn in prompt.turns:
        if turn.role == "assistant" and not turn.images:
            messages.append({"role": "assistant", "content": turn.text})
            continue
        content: list[ChatCompletionContentPartParam] = []
        for part in turn.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": before + part})
                before = ""
            else:
                content.append({"type": "image_url", "image_url": {"url": next(urls_left)}})
        messages.append(cast("ChatCompletionMessageParam", {"role": turn.role, "content": content}))
    return messages


def build_fields(decoding: Decoding, dialect: ServerDialect, *, begun: bool = False) -> dict[str, JsonValue]:
    """Return the fields of a request beside the model and the messages.

    Neutral values are sent as well: many servers fill gaps from the model's generation_config.json.

    Args:
        begun: the last message is the beginning of the reply, not a whole one.
    """
    limit = decoding.max_new_tokens
    fields: dict[str, JsonValue] = {dialect.limit: min(limit, dialect.most_tokens or limit)}
    if begun:
        fields |= {"continue_final_message": True, "add_generation_prompt": False}  # llama.cpp does so unasked
    if dialect.temperature:
        fields["temperature"] = decoding.temperature
    if dialect.top_p:
        fields["top_p"] = decoding.top_p
    if decoding.stop and dialect.stop != "unknown":
        fields["stop"] = list(decoding.stop)
        if dialect.stop == "kept":
            fields["include_stop_str_in_output"] = True
    if decoding.first_words:
        fields |= {"logprobs": True, "top_logprobs": MOST_TOP_LOGPROBS}
    if decoding.seed is not None and dialect.seed:
        fields["seed"] = decoding.seed
    if dialect.sampling == "extended":
        fields["repetition_penalty"] = decoding.repetition_penalty
        fields["repeat_penalty"] = decoding.repetition_penalty  # llama.cpp, LM Studio
        if decoding.temperature > 0:
            fields |= {"top_k": -1, "min_p": 0.0}
    if dialect.sampling == "serve":
        fields["frequency_penalty"] = decoding.repetition_penalty - 1.0  # it makes 1 + this its repetition penalty
    if dialect.thinking == "off":
        fields["chat_template_kwargs"] = {"enable_thinking": False}
    return fields


def offer_next_format(dialect: ServerDialect) -> ServerDialect | None:
    """Return a dialect with the next lossless image format, for a server that cannot read this one; None after the
    last format."""
    if dialect.transport not in LOSSLESS[:-1]:
        return None
    return replace(dialect, transport=LOSSLESS[LOSSLESS.index(dialect.transport) + 1])


def may_be_the_format(error: Exception, prompt: Prompt, dialect: ServerDialect, read: Container[Transport]) -> bool:
    """Tell whether a 500 may mean that the server cannot read the images: some fail on a format silently.

    Args:
        read: the formats that the server has read before.
    """
    return (
        bool(prompt.all_images)
        and dialect.transport not in read
        and isinstance(error, openai.InternalServerError)
        and error.status_code == 500
        and find_cause(message_of(error)) is None
        and offer_next_format(dialect) is not None
    )


def find_losses(
    prompt: Prompt, decoding: Decoding, dialect: ServerDialect, *, guessed_stop: bool = False
) -> dict[str, str]:
    """Say what a request asks for and cannot say in this dialect, by the name of the setting; {} when it says all.

    Args:
        guessed_stop: a stop string was put back into the reply.
    """
    losses: dict[str, str] = {}
    if not dialect.temperature:
        wish = "greedily" if decoding.temperature == 0 else f"at temperature {decoding.temperature:g}"
        losses["temperature"] = (
            f"draws its replies at its own temperature, not {wish} as they were asked for; the same question may get "
            "another answer"
        )
    if not dialect.top_p and decoding.top_p != 1.0:
        losses["top_p"] = f"does not support top_p {decoding.top_p:g}; it is left out"
    if dialect.sampling == "standard" and decoding.repetition_penalty != 1.0:
        losses["repetition_penalty"] = "does not support a repetition penalty; it is left out"
    if not dialect.seed and decoding.seed is not None:
        losses["seed"] = "does not support a seed; sampled replies cannot be repeated"
    if guessed_stop:
        losses["stop"] = (
            "leaves stop strings out of its replies; where a tag is left open, the one that closes it is put back"
        )
    elif dialect.stop == "unknown" and decoding.stop:
        losses["stop"] = "knows no stop strings; replies are cut behind them after they were generated"
    if not dialect.system and prompt.system:
        losses["system"] = "has no role for the system; its words stand before the question"
    if dialect.thinking == "refused":
        losses["thinking"] = "does not say to the model that it need not think first; its replies may be cut off"
    if dialect.most_tokens is not None and decoding.max_new_tokens > dialect.most_tokens:
        losses["max_new_tokens"] = (
            f"allows {count_nouns(dialect.most_tokens, 'new token')}, where {decoding.max_new_tokens} were asked for; "
            "longer replies are cut off"
        )
    return losses


def reword(dialect: ServerDialect, message: str) -> ServerDialect | None:
    """Return the next dialect to try after a server's refusal; None when its message is about something else."""
    cause = find_cause(message)
    if cause is not None and not re.search(r"max\w*_tokens\W{1,2}must be", message):
        return offer_next_format(dialect) if cause == "unreadable image" else None
    if re.search(r"chat_template_kwargs|enable_thinking", message) and dialect.thinking == "off":
        return replace(dialect, thinking="refused")
    if re.search(r"repetition_penalty|repeat_penalty|top_k|min_p", message) and dialect.sampling == "extended":
        return replace(dialect, sampling="serve" if "Unexpected fields in the request" in message else "standard")
    if "include_stop_str_in_output" in message and dialect.stop == "kept":
        return replace(dialect, stop="left out")
    if "max_tokens" in message and re.search(r"unsupported|not supported|unrecognized", message, re.IGNORECASE):
        return replace(dialect, limit="max_completion_tokens") if dialect.limit == "max_tokens" else None
    if _NO_SYSTEM.search(message) and dialect.system:
        return replace(dialect, system=False)
    if re.search(r"max(_completion|_output|_new)?_tokens", message):
        most = _find_most_tokens(message)
        is_less = most is not None and (dialect.most_tokens is None or most < dialect.most_tokens)
        return replace(dialect, most_tokens=most) if is_less else None
    if _NOT_TAKEN.search(message):
        # Where a server takes one of the two alone, it is given the temperature.
        if "top_p" in message and dialect.top_p:
            return replace(dialect, top_p=False)
        if "temperature" in message and dialect.temperature:
            return replace(dialect, temperature=False)
        if re.search(r"\bstop\b", message) and dialect.stop != "unknown":
            return replace(dialect, stop="unknown")
    if re.search(r"\bseed\b", message) and dialect.seed:
        return replace(dialect, seed=False)
    return None


def _find_most_tokens(message: str) -> int | None:
    """Return the most new tokens that a refusal allows; None when it names no number."""
    found = next((number for pattern in _MOST_TOKENS if (number := pattern.search(message))), None)
    return int(found[1].replace(",", "")) or None if found else None
