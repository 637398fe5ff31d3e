"""POST /v1/responses for plain requests of text and images: said as a chat, and its reply said back.

Nothing is stored, so there is no earlier response to refer to, and no tools. Streams are those of chat completions.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import cast

from p2r.errors import P2RError
from p2r.serving.chat_route import ChatRoute
from p2r.serving.exchange import Outlet
from p2r.serving.refusal import BAD_REQUEST, Refused, refuse_error
from p2r.serving.reply import JsonObject

_SAME = ("model", "temperature", "top_p", "metadata", "user", "safety_identifier", "prompt_cache_key", "p2r")
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "background": (False,),
    "include": ([],),
    "parallel_tool_calls": (True, False),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "stream": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
_UNSUPPORTED = frozenset(
    {
        *("conversation", "max_tool_calls", "previous_response_id", "prompt", "reasoning", "stream_options"),
        *(
            "access_programs",
            "context_management",
            "image",
            "moderation",
            "prompt_cache_options",
            "prompt_cache_retention",
        ),
    }
)
_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "response_format": "text.format",
}
"""The fields of a chat, and what they are called here."""
_NAME_OF_CHATS = re.compile(rf"^(?:{'|'.join(_NAMES)})\b")
_TEXTS = frozenset({"input_text", "output_text"})


class HeldReply:
    """Takes the reply to a chat, instead of a client."""

    def __init__(self) -> None:
        self.content: JsonObject = {}

    async def send_json(self, content: JsonObject) -> None:
        """Take the whole reply."""
        self.content = content

    async def send_event(self, content: bytes) -> None:
        """Never called: the chat is asked for its whole reply."""
        raise AssertionError("a whole reply has no events")

    async def end_stream(self) -> None:
        """Never called, as above."""
        raise AssertionError("a whole reply has no end of a stream")


@dataclass(frozen=True, slots=True)
class ResponsesRoute:
    """Answers requests of the newer interface by way of chats."""

    chats: ChatRoute

    async def answer(self, outlet: Outlet, body: JsonObject) -> None:
        """Answer one request. Raises Refused, or P2RError, when there is no answer."""
        held, chat = HeldReply(), read_as_chat(body)
        try:
            await self.chats.answer(held, chat)
        except (Refused, P2RError) as error:
            refused = error if isinstance(error, Refused) else refuse_error(error)
            refused.message = _NAME_OF_CHATS.sub(lambda found: _NAMES[found[0]], refused.message)
            refused.param = _name_param(refused.param)
            raise refused from error
        await outlet.send_json(write_response(held.content, body))


def read_as_chat(body: JsonObject) -> JsonObject:
    """Return the chat that a request means.

    Raises:
        Refused: a field is wrong, unknown, or asks for what is not done.
    """
    for name, value in body.items():
        known = name in _SAME or name in ("input", "instructions", "max_output_tokens", "text")
        if value is None or known or value in _NEUTRAL.get(name, ()):
            continue
        if name in _NEUTRAL or name in _UNSUPPORTED:
            raise Refused(
                BAD_REQUEST, f"{name} is not supported by /v1/responses", param=name, code="unsupported_parameter"
            )
        raise Refused(BAD_REQUEST, f"Unrecognized request argument supplied: {name[:60]}", param=name[:60])
    chat: JsonObject = {name: body[name] for name in _SAME if body.get(name) is not None}
    chat["messages"] = list[object]()
    if body.get("instructions") is not None:
        chat["messages"] = [{"role": "system", "content": body["instructions"]}]
    given = body.get("input")
    items: list[object] = [{"role": "user", "content": given}] if isinstance(given, str) else _list(given, "input")
    chat["messages"] = [*cast("list[object]", chat["messages"]), *map(_read_item, items)]
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if isinstance(text := body.get("text"), dict):
        for name, value in cast(JsonObject, text).items():
            if name != "format" and value is not None:
                said = f"text.{name[:60]} is not supported by /v1/responses"
                raise Refused(BAD_REQUEST, said, param=f"text.{name[:60]}", code="unsupported_parameter")
        chat["response_format"] = cast(JsonObject, text).get("format")
    elif text is not None:
        raise Refused(BAD_REQUEST, "text is not an object", param="text")
    return chat


def write_response(reply: JsonObject, asked: JsonObject) -> JsonObject:
    """Return a chat's reply in the form of this interface."""
    choice = cast("list[JsonObject]", reply["choices"])[0]
    message = cast(JsonObject, choice["message"])
    usage = cast("dict[str, int]", reply.get("usage") or {})
    is_cut = choice.get("finish_reason") == "length"
    status = "incomplete" if is_cut else "completed"
    part: JsonObject = {"type": "output_text", "text": message.get("content") or "", "annotations": [], "logprobs": []}
    said: JsonObject = {"type": "message", "id": f"msg_{secrets.token_hex(12)}", "role": "assistant", "status": status}
    number = secrets.token_hex(12)
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": reply.get("created", 0),
        "model": reply.get("model"),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "metadata": asked.get("metadata") or {},
        "output": [said | {"content": [part]}],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": asked.get("temperature"),
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": asked.get("top_p"),
        "truncation": "disabled",
        "usage": {
            "input_tokens": usage.get("prompt_tokens", 0),
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage.get("completion_tokens", 0),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.get("total_tokens", 0),
        },
        **({"p2r": reply["p2r"]} if "p2r" in reply else {}),
    }


def _read_item(item: object) -> JsonObject:
    """Return the message that an item of the input is."""
    content = cast(JsonObject, item) if isinstance(item, dict) else {}
    if content.get("type", "message") != "message" or "role" not in content:
        raise Refused(
            BAD_REQUEST, "input has an item that is not a message", param="input", code="unsupported_parameter"
        )
    parts = content.get("content")
    said = parts if isinstance(parts, str) else [_read_part(part) for part in _list(parts, "input")]
    return {"role": content["role"], "content": said}


def _read_part(part: object) -> JsonObject:
    content = cast(JsonObject, part) if isinstance(part, dict) else {}
    kind = content.get("type")
    if isinstance(kind, str) and kind in _TEXTS:
        return {"type": "text", "text": content.get("text")}
    if kind == "input_image" and content.get("file_id") is None:
        return {"type": "image_url", "image_url": {"url": content.get("image_url")}}
    raise Refused(
        BAD_REQUEST,
        "input has a part that this server does not read: it reads input_text, output_text, and input_image by its URL",
        param="input",
        code="unsupported_parameter",
    )


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise Refused(BAD_REQUEST, f"{name} is neither a text nor a list", param=name)
    return cast("list[object]", value)


def _name_param(param: str | None) -> str | None:
    """Return the name that a field of a chat has here."""
    if param is None:
        return None
    return "input" if param.startswith("messages") else _NAMES.get(param, param)
