"""Explain a server's refusal in one sentence with a hint, and tell whether asking again can help.

Servers word the same cause differently, and some choose odd status codes (llama.cpp answers an image that it cannot see
with 500, LM Studio an error with 200), so causes are recognized by wording first and by status second. The wordings are
those of vLLM, SGLang, llama.cpp, LM Studio, `transformers serve` and OpenAI.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from dataclasses import dataclass, field
from typing import cast

import openai

from p2r.dialogue import Role
from p2r.errors import EndpointError, count_nouns
from p2r.models.server.faults import NEEDS_TLS, explain_fault_of, find_fault

LONGEST_QUOTE = 300
LONGEST_RETRY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """The request's values that an error message names.

    num_visual_tokens: 0 where they are not known.
    """

    url: str
    model: str
    num_images: int
    num_visual_tokens: int
    timeout_s: float
    secret: str = field(repr=False)
    role: Role = "reasoner"
    max_new_tokens: int = 0


NO_ROOM = "no room for the reply"
_SHARES = re.compile(
    r"maximum context length is (?P<context>\d+).{0,80}?(?:"
    r"(?P<prompt_1>\d+) in the messages, \d+ in the completion"
    r"|requested \d+ output tokens and your prompt contains at least (?P<prompt_2>\d+)"
    r"|your request has (?P<prompt_3>\d+) input tokens)",
    re.IGNORECASE | re.DOTALL,
)
"""A prompt and its reply are too long together, as vLLM and OpenAI say it."""
_TOO_LARGE = re.compile(
    r"max_(?:completion_)?tokens\W+is too large: (?P<asked>\d+)\..{0,40}maximum context length is (?P<context>\d+)"
)

BEGUN_HINT = (
    "serve the model with vLLM, SGLang or llama.cpp (--reasoning off), or run it here: give its folder as `model`"
)

CAUSES: tuple[tuple[str, str, str, str], ...] = (
    # cause, pattern in the server's message, sentence, hint
    (
        "no vision",
        r"missing data required for image|mmproj"
        r"|not a multimodal model|not support (image|vision|multimodal)|image input is not supported"
        r"|vision add-on|image_url is only supported|at most 0 image|unknown (part|content) type:? '?\"?image",
        "the model {model!r} at {url} takes no images",
        "serve a vision-language model (with llama.cpp: add its --mmproj file)",
    ),
    (
        "too many images",
        r"at most \d+ image|limit[-_]mm[-_]per[-_]prompt|too many images",
        "{url} takes fewer than the {num_images} images of this prompt",
        "raise the server's limit (vLLM: --limit-mm-per-prompt '{{\"image\": 4}}')",
    ),
    (
        NO_ROOM,
        r"max(_completion)?_tokens\W{1,2}\d+ cannot be greater than max_(model_len|total_tokens)",
        "the context of {model!r} at {url} has no room for {max_new_tokens} new tokens beside the prompt{visual}",
        "lower {limit}, or raise the server's context (vLLM: --max-model-len)",
    ),
    (
        "context too long",
        r"maximum (context|model) length|context[_ ](length|size|window)|max_model_len|too long to fit"
        r"|prompt is too long",
        "the prompt{visual} does not fit the context of {model!r} at {url}",
        "lower `max_pixels`, or raise the server's context (vLLM: --max-model-len; llama.cpp: -c, which the -np slots "
        "share)",
    ),
    (
        "local files",
        r"allowed[-_]local[-_]media[-_]path|--media-path|local (media )?files?|file does not exist or cannot be opened",
        "{url} does not read local files",
        "start vLLM with --allowed-local-media-path, or choose another `transport`",
    ),
    (
        "dead engine",
        r"EngineCore encountered an issue|EngineDeadError",
        "the engine of {url} has died",
        "its own log says why; start the server again",
    ),
    (
        "unknown model",
        r"model\b.{0,200}(does not exist|not found|not available|unknown)|unknown model|model_not_found|pinned to"
        r"|invalid model|no models? loaded",
        "{url} has no model {model!r}",
        "write the right name after the #",
    ),
    (
        "begun reply",
        r"continue_final_message|add_generation_prompt|\bprefill|last (role|message)\b.{0,80}\buser|end with a user",
        "{url} does not continue a reply that was begun",
        BEGUN_HINT,
    ),
    ("TLS", r"HTTP request (was sent )?to (an? )?HTTPS (port|server)", "{url} speaks TLS", NEEDS_TLS),
    (
        "unreadable image",
        r"cannot identify image|failed to (load|decode) image|invalid image|unsupported image|base64 encoded image"
        r"|image (format|type).{0,40}not supported|could not (load|decode|process) .{0,20}image",
        "{url} cannot read the images as they were sent",
        "choose another `transport`: webp, png or jpeg",
    ),
)


def explain(error: Exception, asked: RequestFacts) -> EndpointError:
    """Return the error to raise in place of a client's exception."""
    if isinstance(error, (openai.APITimeoutError, asyncio.TimeoutError)):
        return EndpointError(
            f"{asked.url} did not reply within {asked.timeout_s:g} seconds",
            hint="raise `timeout_s`, lower `num_at_once`, or look at the server's load",
        )
    if isinstance(error, openai.APIConnectionError):
        sentence, hint = explain_fault_of(error, asked.url)
        return EndpointError(sentence, hint=hint)
    if not isinstance(error, openai.APIStatusError):
        return EndpointError(f"{asked.url}: {quote(str(error), asked)}")
    return explain_message(message_of(error), error.status_code, asked)


def explain_message(message: str, status: int, asked: RequestFacts) -> EndpointError:
    """Return the error for a server's message and its HTTP status."""
    words = quote(message, asked)
    cause = find_cause(message)
    for name, _, sentence, hint in CAUSES:
        if name == cause:
            return EndpointError(f"{_fill(sentence, asked)}: {words}", hint=_fill(hint, asked))
    if status in (401, 403):
        return EndpointError(
            f"{asked.url} refused the API key ({status}): {words}", hint="set OPENAI_API_KEY to a key of this server"
        )
    if status == 404:
        return EndpointError(
            f"{asked.url} has no chat completions (404): {words}",
            hint="most URLs end in /v1: http://host:port/v1",
        )
    if status == 413:
        return EndpointError(f"the images are too large for {asked.url} (413): {words}", hint="choose `transport=webp`")
    if status == 429:
        return EndpointError(f"{asked.url} is asked too often (429): {words}", hint="lower `num_at_once`")
    if status == 503:
        return EndpointError(
            f"{asked.url} is not ready (503): {words}", hint="it may still load its model, or be overloaded: try later"
        )
    if status == 200:
        return EndpointError(f"{asked.url} sent an error: {words}", hint="the server's own log says why")
    if status >= 500:
        return EndpointError(f"{asked.url} failed ({status}): {words}", hint="the server's own log says why")
    return EndpointError(f"{asked.url} refused the request ({status}): {words}")


def find_cause(message: str) -> str | None:
    """Return the first of CAUSES that a server's message is about, if any."""
    if _fits_without_reply(message):
        return NO_ROOM
    return next(
        (name for name, pattern, _, _ in CAUSES if re.search(pattern, message, re.IGNORECASE | re.DOTALL)), None
    )


def _fits_without_reply(message: str) -> bool:
    """Tell whether a message about the context's length says that the new tokens alone are too many beside it."""
    if shares := _SHARES.search(message):
        prompt = next(int(shares[name]) for name in ("prompt_1", "prompt_2", "prompt_3") if shares[name])
        return prompt < int(shares["context"])
    too_large = _TOO_LARGE.search(message)
    return too_large is not None and int(too_large["asked"]) >= int(too_large["context"])


def wait_before_retry(error: Exception, patience_s: float = math.inf) -> bool | float:
    """Tell whether asking again may help, because the fault is one of transport; or how many seconds to wait.

    Timeouts, most faults of connections, 429 and 5xx are; another 4xx never is, nor a 5xx whose message names a lasting
    cause.

    Args:
        patience_s: a server that asks for a longer wait (Retry-After) is not asked again.
    """
    if isinstance(error, (openai.APITimeoutError, asyncio.TimeoutError)):
        return True
    if isinstance(error, openai.APIConnectionError):
        return find_fault(error).may_pass
    if not isinstance(error, openai.APIStatusError) or not (error.status_code == 429 or error.status_code >= 500):
        return False
    message = message_of(error)
    if find_cause(message) or "insufficient_quota" in message:
        return False
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return True
    return seconds <= patience_s and min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def message_of(error: openai.APIStatusError) -> str:
    """Return a server's message, in whichever shape it was sent."""
    return message_in(error.body) or error.response.text or error.message


def message_in(body: object) -> str:
    """Return the message in {"message"}, {"error": {"message"}}, {"error": "..."} or {"detail"}; "" without one."""
    if isinstance(body, str):
        return body
    if isinstance(body, dict):
        content = cast("dict[str, object]", body)
        code = content.get("code")
        for key in ("message", "error", "detail"):
            if found := content.get(key):
                text = message_in(found) or json.dumps(found)
                return f"{text} ({code})" if isinstance(code, str) and code not in text else text
    return ""


def _fill(sentence: str, asked: RequestFacts) -> str:
    return sentence.format(
        url=asked.url,
        model=asked.model,
        num_images=asked.num_images,
        visual=f" ({count_nouns(asked.num_visual_tokens, 'visual token')})" if asked.num_visual_tokens else "",
        max_new_tokens=asked.max_new_tokens,
        limit=name_limit(asked),
    )


def name_limit(asked: RequestFacts) -> str:
    """Name the user's limit of new tokens for this request, to be quoted in a hint."""
    return "the judge's limit of new tokens" if asked.role == "judge" else f"`{asked.role}_new_tokens`"


def quote(message: str, asked: RequestFacts) -> str:
    """Return a server's words in one line, not too long, without the key."""
    text = " ".join(message.split())
    if asked.secret:
        text = text.replace(asked.secret, "***")
    return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + " ..."
