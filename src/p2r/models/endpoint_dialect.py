"""The JSON of a chat request, and how it is reworded for a server that refuses an optional field or a picture format.

Servers agree on the request's core and differ at its edges. A request starts in the most common dialect (vLLM's);
what a server refuses by name is worded its way, or left out with a warning, for that server once and for all. That is
no retry.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam

from p2r.models.endpoint_errors import find_cause
from p2r.models.transport import LOSSLESS, Transport
from p2r.types import Decoding, Prompt

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server words what is optional.

    limit: the field for the most new tokens.
    penalty: the repetition penalty: by its own names, as OpenAI's frequency penalty, or not at all.
    """

    transport: Transport
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    penalty: Literal["named", "frequency", "none"] = "named"
    seed: bool = True


def build_messages(prompt: Prompt, urls: Sequence[str]) -> list[ChatCompletionMessageParam]:
    """The chat: pictures first, then the text, as the models were trained."""
    content: list[ChatCompletionContentPartParam] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content.append({"type": "text", "text": prompt.text})
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": content}]
    if prompt.system:
        messages.insert(0, {"role": "system", "content": prompt.system})
    return messages


def build_fields(decoding: Decoding, dialect: Dialect) -> dict[str, float]:
    """The fields of a request beside the model and the messages."""
    fields: dict[str, float] = {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        dialect.limit: decoding.max_new_tokens,
    }
    if decoding.seed is not None and dialect.seed:
        fields["seed"] = decoding.seed
    if decoding.repetition_penalty != 1.0 and dialect.penalty == "named":
        fields["repetition_penalty"] = decoding.repetition_penalty
        fields["repeat_penalty"] = decoding.repetition_penalty  # llama.cpp, LM Studio
    if decoding.repetition_penalty != 1.0 and dialect.penalty == "frequency":
        fields["frequency_penalty"] = decoding.repetition_penalty - 1.0
    return fields


def reword(dialect: Dialect, message: str, url: str) -> Dialect | None:
    """The next dialect to try after a server's refusal; None when its message is about something else."""
    cause = find_cause(message)
    if cause == "unreadable picture" and dialect.transport in LOSSLESS[:-1]:
        following = LOSSLESS[LOSSLESS.index(dialect.transport) + 1]
        logger.info("%s cannot read %s pictures; sending %s", url, dialect.transport, following)
        return replace(dialect, transport=following)
    if cause is not None:
        return None
    if re.search(r"repetition_penalty|repeat_penalty", message) and dialect.penalty == "named":
        if "Unexpected fields in the request" in message:  # transformers serve, whose penalty is 1 + frequency_penalty
            return replace(dialect, penalty="frequency")
        logger.warning("%s knows no repetition penalty; it is left out", url)
        return replace(dialect, penalty="none")
    if "max_tokens" in message and re.search(r"unsupported|not supported|unrecognized", message, re.IGNORECASE):
        return replace(dialect, limit="max_completion_tokens") if dialect.limit == "max_tokens" else None
    if re.search(r"\bseed\b", message) and dialect.seed:
        logger.warning("%s knows no seed; sampled replies cannot be repeated", url)
        return replace(dialect, seed=False)
    return None
