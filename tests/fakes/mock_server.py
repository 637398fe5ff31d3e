"""A chat server that takes the time of a 4B model on one H200 and says nothing of worth: for timing whole runs.

    python -m tests.fakes.mock_server [--slowdown 0.2] [--patch-tokens 64]

It prints its URL and has two models, `mock` and `mock-no-prefix-cache`. Time is that of a
`mock_device.Device`.

An image may stand for a larger one: with --patch-tokens 64 each 32 x 32 patch counts as 64 tokens of the model's, so
that clients move few pixels. Replies, and how long they are, depend on the prompt alone.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import io
import json
import math
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from tests.fakes.mock_device import Device, Job, Part

MODELS = ("mock", "mock-no-prefix-cache")


def read_parts(messages: Sequence[dict[str, object]], patch_tokens: int) -> tuple[Part, ...]:
    """The pieces of a chat, in order, with their tokens: four characters of text are one."""
    parts: list[Part] = []
    for message in messages:
        content = message["content"]
        for piece in [{"type": "text", "text": content}] if isinstance(content, str) else list(content):  # type: ignore[call-overload]
            if piece["type"] == "text":
                text = str(piece["text"])
                parts.append(Part(_hash(text), max(1, len(text) // 4), False))
            else:
                data = _read(piece["image_url"]["url"])
                width, height = Image.open(io.BytesIO(data)).size
                parts.append(Part(_hash(data), width // 32 * (height // 32) * patch_tokens, True))
    return tuple(parts)


def make_reply(prompt: str) -> tuple[str, int]:
    """(text, tokens) that depend on the prompt's text alone: one to three boxes, or an answer after a thought whose
    length has a long tail (log-normal, median 180, cut at 1024)."""
    draw = random.Random(_hash(prompt))
    if "bbox_2d" in prompt:
        places = [(draw.randrange(700), draw.randrange(700)) for _ in range(draw.choice((1, 1, 2, 3)))]
        boxes = [{"bbox_2d": [x, y, x + 60, y + 60], "label": f"thing {x}"} for x, y in places]
        return json.dumps(boxes), 30 * len(boxes)
    num_tokens = max(1, min(1024, round(180 * math.exp(0.8 * draw.gauss(0, 1)))))
    return f"<think>Looked.</think><answer>{draw.choice('ABCD')}</answer>", num_tokens


async def read_body(receive: Callable[[], Awaitable[dict[str, object]]]) -> bytes:
    """The body of a request to an ASGI application."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")  # type: ignore[operator]
        if not message.get("more_body"):
            return bytes(body)


async def send_json(send: Callable[[dict[str, object]], Awaitable[None]], content: object) -> None:
    """The reply of an ASGI application."""
    data = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})


class ChatApp:
    """An ASGI application: POST /v1/chat/completions.

    slowdown: seconds of this machine for a second of the device's; below 1 it is faster than the device.
    patch_tokens: the model's tokens for 32 x 32 pixels.
    """

    def __init__(self, slowdown: float, patch_tokens: int) -> None:
        self.slowdown, self.patch_tokens = slowdown, patch_tokens
        self.device = Device()
        self._ended: dict[Job, asyncio.Event] = {}
        self._work = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None

    async def __call__(
        self,
        scope: dict[str, object],
        receive: Callable[[], Awaitable[dict[str, object]]],
        send: Callable[[dict[str, object]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        await send_json(send, await self._answer(json.loads(await read_body(receive))))

    async def _answer(self, request: dict[str, object]) -> dict[str, object]:
        if self._loop_task is None:
            self._loop_task = asyncio.create_task(self._run())
        parts = read_parts(request["messages"], self.patch_tokens)  # type: ignore[arg-type]
        prompt = request["messages"][-1]["content"][-1]["text"]  # type: ignore[index]
        text, num_tokens = make_reply(prompt)
        job = Job(parts, num_tokens, may_share=request["model"] == MODELS[0])
        self._ended[job] = asyncio.Event()
        self.device.add(job)
        self._work.set()
        await self._ended[job].wait()
        del self._ended[job]
        num_prompt = sum(part.num_tokens // (self.patch_tokens if part.is_image else 1) for part in parts)
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
            ],
            "usage": {
                "prompt_tokens": num_prompt,
                "completion_tokens": num_tokens,
                "total_tokens": num_prompt + num_tokens,
            },
        }

    async def _run(self) -> None:
        """Advance the device, never ahead of the clock; what the machine is late is caught up."""
        until = time.monotonic()
        while True:
            seconds, ended = self.device.step()
            if seconds == 0.0:
                self._work.clear()
                await self._work.wait()
                until = time.monotonic()
                continue
            until += seconds * self.slowdown
            await asyncio.sleep(max(0.0, until - time.monotonic()))
            for job in ended:
                self._ended[job].set()


def _read(url: str) -> bytes:
    """What a data URL holds, or the file that a file URL names."""
    if url.startswith("file:"):
        return Path(urlsplit(url).path).read_bytes()
    return base64.b64decode(url.partition(",")[2])


def _hash(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--slowdown", type=float, default=1.0, help="seconds here for a second of the device")
    parser.add_argument("--patch-tokens", type=int, default=1, help="tokens for 32 x 32 pixels (default 1)")
    arguments = parser.parse_args()
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # so that asyncio sends replies at once
    listener.bind(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
    config = uvicorn.Config(ChatApp(arguments.slowdown, arguments.patch_tokens), log_level="warning", lifespan="off")  # type: ignore[arg-type]
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
