"""A request that is handed on to the model's server: as it is, but for what could lead that server astray.

The server decides which fields it takes. An image at an address is fetched here, within this server's limits, and
handed on as a data: URL, so that nobody makes the model's server fetch what only it can reach.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import cast

from PIL import Image

from p2r.images.find import DATA, EncodedImage
from p2r.serving.images import ImageReader
from p2r.serving.refusal import BAD_REQUEST, Refused
from p2r.serving.request import check_length, check_parts

_KEYS = frozenset({"type", "text", "image_url", "refusal"})
_KINDS = frozenset({"text", "image_url", "refusal"})
_TOKENS = ("max_tokens", "max_completion_tokens", "max_new_tokens", "min_tokens", "n_predict", "num_predict")
"""The names that servers have for the tokens of a reply."""
MOST_CHOICES = 128
"""The most replies to one request, as OpenAI allows."""


def has_images(body: dict[str, object]) -> bool:
    """Tell whether a message has an image."""
    return any(part.get("type") == "image_url" for part in _parts(body))


def check_raw(body: dict[str, object], reader: ImageReader) -> None:
    """Check a request, and put data: URLs in place of its images' addresses. Blocks: call it in a thread.

    Raises:
        Refused: it has no messages, a part that is neither text nor an image, or is beyond a limit.
        ImageError: an image is not one, cannot be had, or is too large.
    """
    _check_parts(body.get("messages"))
    if not isinstance(stream := body.get("stream"), (bool, type(None))):
        raise Refused(BAD_REQUEST, f"stream is {stream!r:.40}: it must be true or false", param="stream")
    holders = list(_find_urls(body))
    images = reader.read([holder["url"] for holder in holders])
    for holder, image in zip(holders, images, strict=True):
        if not holder["url"][:5].lower().startswith(DATA):
            holder["url"] = _write_url(image)
    check_length(sum(map(len, _texts(body))), reader.limits)
    for names, most in ((_TOKENS, reader.limits.new_tokens), (("n", "best_of"), MOST_CHOICES)):
        for name in names:
            _check_number(name, body.get(name), most)


def _check_parts(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise Refused(BAD_REQUEST, "messages is not a list of messages", param="messages")
    check_parts(cast("list[object]", messages))
    for place, message in enumerate(cast("list[object]", messages)):
        if not isinstance(message, dict):
            raise Refused(BAD_REQUEST, f"messages.{place} is not an object", param="messages")
        content = cast("dict[str, object]", message).get("content")
        if not isinstance(content, (str, list, type(None))):
            raise Refused(BAD_REQUEST, f"messages.{place}.content is neither text nor a list", param="messages")


def _check_number(name: str, asked: object, most: int) -> None:
    """Check a number that may be left out. What servers would read as a number, such as "7", must be one."""
    if asked is None:
        return
    if isinstance(asked, bool) or not isinstance(asked, (int, float)):
        raise Refused(BAD_REQUEST, f"{name} is {asked!r:.40}: it must be a number", param=name)
    if asked > most:
        raise Refused(BAD_REQUEST, f"{name} is above {most}, the most of this server", param=name)


def _parts(body: dict[str, object]) -> Iterator[dict[str, object]]:
    messages = body.get("messages")
    for message in cast("list[object]", messages) if isinstance(messages, list) else []:
        content = cast("dict[str, object]", message).get("content") if isinstance(message, dict) else None
        for part in cast("list[object]", content) if isinstance(content, list) else []:
            if isinstance(part, dict):
                yield cast("dict[str, object]", part)


def _texts(body: dict[str, object]) -> Iterator[str]:
    """Yield every text: of messages, of tools, and of whatever else a model may be made to read."""
    left: list[object] = [value for name, value in body.items() if name not in ("model", "messages")]
    for message in cast("list[dict[str, object]]", body["messages"]):
        left += [value for name, value in message.items() if name not in ("role", "content")]
        content = message.get("content")
        for part in cast("list[object]", content) if isinstance(content, list) else [content]:
            left.append(cast("dict[str, object]", part).get("text") if isinstance(part, dict) else part)
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            left += cast("list[object]", value)
        elif isinstance(value, dict):
            left += cast("dict[str, object]", value).values()


def _find_urls(body: dict[str, object]) -> Iterator[dict[str, str]]:
    """Yield what holds the URL of each image."""
    for part in _parts(body):
        kind = part.get("type")
        if (
            not isinstance(kind, str)
            or kind not in _KINDS
            or not part.keys() <= _KEYS
            or (kind != "image_url" and "image_url" in part)
        ):
            raise Refused(
                BAD_REQUEST,
                "a message has a part that this server does not hand on: it reads text and image_url",
                param="messages",
                code="invalid_value",
            )
        if kind != "image_url":
            continue
        holder = part.get("image_url")
        if isinstance(holder, str):
            holder = part["image_url"] = {"url": holder}
        if not isinstance(holder, dict) or not isinstance(cast("dict[str, object]", holder).get("url"), str):
            raise Refused(BAD_REQUEST, "an image_url has no url", param="messages", code="invalid_value")
        yield cast("dict[str, str]", holder)


def _write_url(image: EncodedImage) -> str:
    kind = Image.open(io.BytesIO(image.data)).get_format_mimetype() or "image/png"
    return f"data:{kind};base64,{base64.b64encode(image.data).decode('ascii')}"
