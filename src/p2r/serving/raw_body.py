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

from p2r.errors import count_nouns
from p2r.images.find import DATA, EncodedImage
from p2r.serving.images import ImageReader
from p2r.serving.refusal import BAD_REQUEST, Refused

_KEYS = frozenset({"type", "text", "image_url", "refusal"})
_KINDS = frozenset({"text", "image_url", "refusal"})


def has_images(body: dict[str, object]) -> bool:
    """Tell whether a message has an image."""
    return any(part.get("type") == "image_url" for part in _parts(body))


def check_raw(body: dict[str, object], reader: ImageReader) -> None:
    """Check a request, and put data: URLs in place of its images' addresses. Blocks: call it in a thread.

    Raises:
        Refused: it has no messages, a part that is neither text nor an image, or is beyond a limit.
        ImageError: an image is not one, cannot be had, or is too large.
    """
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise Refused(BAD_REQUEST, "messages is not a list of messages", param="messages")
    holders = list(_find_urls(body))
    images = reader.read([holder["url"] for holder in holders])
    for holder, image in zip(holders, images, strict=True):
        if not holder["url"][:5].lower().startswith(DATA):
            holder["url"] = _write_url(image)
    num_chars, most_chars = sum(map(len, _texts(body))), reader.limits.prompt_chars
    if num_chars > most_chars:
        raise Refused(
            BAD_REQUEST,
            f"the texts have {count_nouns(num_chars, 'character')} together; this server takes {most_chars:,}",
            param="messages",
            code="prompt_too_long",
        )
    for name in ("max_tokens", "max_completion_tokens"):
        asked = body.get(name)
        if isinstance(asked, (int, float)) and asked > reader.limits.new_tokens:
            raise Refused(
                BAD_REQUEST, f"{name} is above {reader.limits.new_tokens}, the most of this server", param=name
            )


def _parts(body: dict[str, object]) -> Iterator[dict[str, object]]:
    messages = body.get("messages")
    for message in cast("list[object]", messages) if isinstance(messages, list) else []:
        content = cast("dict[str, object]", message).get("content") if isinstance(message, dict) else None
        for part in cast("list[object]", content) if isinstance(content, list) else []:
            if isinstance(part, dict):
                yield cast("dict[str, object]", part)


def _texts(body: dict[str, object]) -> Iterator[str]:
    for message in cast("list[object]", body["messages"]):
        content = cast("dict[str, object]", message).get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield content
    for part in _parts(body):
        if isinstance(text := part.get("text"), str):
            yield text


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
