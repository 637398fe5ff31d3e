"""Write the JSON of a chat request, and reword it for a server that refuses an optional field or an image format.

Servers agree on the core of a request and differ at its edges. A request starts in the most common dialect (vLLM's);
what a server refuses by name is from then on worded its way, or left out with a warning. That does not count as a
retry.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam

from p2r.dialogue import Decoding, Prompt
from p2r.models.server.errors import find_cause
from p2r.models.server.transport import LOSSLESS, Transport

MOST_TOP_LOGPROBS = 20
"""The most likely tokens that OpenAI's interface and vLLM's default allow to be listed."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The words of a server for the optional parts of a request.

    limit: the field for the most new tokens.
    sampling: the fields that OpenAI's own interface lacks (repetition penalty, top_k, min_p): "extended" as vLLM,
        SGLang and llama.cpp name them; "serve" as `transformers serve` does; "standard" leaves them out.
    """

    transport: Transport
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    sampling: Literal["extended", "serve", "standard"] = "extended"
    seed: bool = True


def build_messages(prompt: Prompt, urls: Sequence[str]) -> list[ChatCompletionMessageParam]:
    """Return the chat: images first, then the text, as the models were trained; then the later turns.

    Args:
        urls: the URLs of all images of all turns, in order.
    """
    messages: list[ChatCompletionMessageParam] = []
    if prompt.system:
        messages.append({"role": "system", "content": prompt.system})
    urls_left = iter(urls)
    for turn in prompt.turns:
        if turn.role == "assistant":
            messages.append({"role": "assistant", "content": turn.text})
            continue
        content: list[ChatCompletionContentPartParam] = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": next(urls_left)}}
            for part in turn.parts
        ]
        messages.append({"role": "user", "content": content})
    return messages


def build_fields(decoding: Decoding, dialect: Dialect) -> dict[str, float]:
    """Return the fields of a request beside the model and the messages.

    Neutral values are sent as well: many servers fill gaps from the model's generation_config.json.
    """
    fields: dict[str, float] = {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        dialect.limit: decoding.max_new_tokens,
    }
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
    return fields


def offer_next_format(dialect: Dialect) -> Dialect | None:
    """Return a dialect with the next lossless image format, for a server that cannot read this one; None after the
    last format."""
    if dialect.transport not in LOSSLESS[:-1]:
        return None
    return replace(dialect, transport=LOSSLESS[LOSSLESS.index(dialect.transport) + 1])


def reword(dialect: Dialect, message: str, url: str) -> Dialect | None:
    """Return the next dialect to try after a server's refusal; None when its message is about something else."""
    cause = find_cause(message)
    if cause is not None:
        return offer_next_format(dialect) if cause == "unreadable image" else None
    if re.search(r"repetition_penalty|repeat_penalty|top_k|min_p", message) and dialect.sampling == "extended":
        return replace(dialect, sampling="serve" if "Unexpected fields in the request" in message else "standard")
    if "max_tokens" in message and re.search(r"unsupported|not supported|unrecognized", message, re.IGNORECASE):
        return replace(dialect, limit="max_completion_tokens") if dialect.limit == "max_tokens" else None
    if re.search(r"\bseed\b", message) and dialect.seed:
        logger.warning("%s does not support a seed; sampled replies cannot be repeated", url)
        return replace(dialect, seed=False)
    return None
