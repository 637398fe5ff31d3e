"""A chat server that takes the time of a 4B model on one H200 and says nothing of worth: for timing whole runs.

    python benchmarks/mock_server.py [--slowdown 0.2] [--patch-tokens 64]

It prints its URL and has two models, `mock` and `mock-no-prefix-cache`.

The device is a `Device`, advanced step by step like an engine with continuous batching: prompts wait for one of the
slots; a step takes waiting prompts up to a number of tokens and gives every running request one more token. A step
costs the arithmetic of its prompts (vision tower and language model, docs/PERFORMANCE figures) or the reading of the
weights, whichever is longer, and then the reading of all running requests' keys and values. With the prefix cache on,
the part of a prompt (system, pictures in order, text) that an earlier prompt began with costs nothing, vision tower
included, until newer prompts push it out of memory.

A picture may stand for a larger one: with --patch-tokens 64 each 32 x 32 patch counts as 64 tokens of the model's, so
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
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

MODELS = ("mock", "mock-no-prefix-cache")

TERA = 1e12


@dataclass(frozen=True, slots=True)
class Hardware:
    """One H200 (dense bf16, half of the peak reached; 80% of the memory's bandwidth) with Qwen3-VL-4B's figures."""

    flops_per_s: float = 0.5 * 989 * TERA
    bytes_per_s: float = 0.8 * 4.8 * TERA
    weights_bytes: float = 8.9e9
    kv_bytes_per_token: float = 147e3
    kv_tokens: int = 750_000
    num_slots: int = 256
    step_tokens: int = 8192

    def prefill_s(self, num_tokens: int, num_cached: int = 0) -> float:
        """Language model: 16 TFLOP for 2048 tokens, 35 for 4096, a straight line and a square through both."""
        flops = 7.08e-3 * num_tokens + 3.58e-7 * ((num_cached + num_tokens) ** 2 - num_cached**2)
        return flops * TERA / self.flops_per_s

    def vision_s(self, num_tokens: int) -> float:
        """Vision tower of one picture: 12 TFLOP for 2048 tokens, 37 for 4096."""
        return (2.69e-3 * num_tokens + 1.55e-6 * num_tokens**2) * TERA / self.flops_per_s

    def decode_s(self, num_context_tokens: int) -> float:
        """Reading the keys and values of all running requests once."""
        return num_context_tokens * self.kv_bytes_per_token / self.bytes_per_s

    @property
    def weights_s(self) -> float:
        return self.weights_bytes / self.bytes_per_s


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a prompt: equal keys are equal content."""

    key: str
    num_tokens: int
    is_picture: bool


@dataclass(eq=False, slots=True)
class Job:
    """A request. `num_cached` tokens of its prompt were found in the prefix cache."""

    parts: tuple[Part, ...]
    num_output: int
    may_share: bool = True
    num_made: int = 0
    num_cached: int = 0

    @property
    def num_prompt(self) -> int:
        return sum(part.num_tokens for part in self.parts)


@dataclass(slots=True)
class Device:
    """Time is what `step` returns: nothing here looks at a clock."""

    hardware: Hardware = field(default_factory=Hardware)
    waiting: deque[Job] = field(default_factory=deque[Job])
    running: list[Job] = field(default_factory=list[Job])
    prefixes: OrderedDict[tuple[str, ...], int] = field(default_factory=OrderedDict)
    num_prefix_tokens: int = 0

    def add(self, job: Job) -> None:
        self.waiting.append(job)

    def step(self) -> tuple[float, list[Job]]:
        """(seconds, requests that ended). 0 seconds when there is nothing to do."""
        started, compute_s, room = list[Job](), 0.0, self.hardware.step_tokens - len(self.running)
        while self.waiting and len(self.running) + len(started) < self.hardware.num_slots:
            job = self.waiting[0]
            found = self._find_prefix(job)
            num_new = job.num_prompt - sum(part.num_tokens for part in job.parts[:found])
            if started and num_new > room:
                break
            room -= num_new
            job.num_cached = job.num_prompt - num_new
            compute_s += self.hardware.prefill_s(num_new, job.num_cached)
            compute_s += sum(self.hardware.vision_s(p.num_tokens) for p in job.parts[found:] if p.is_picture)
            started.append(self.waiting.popleft())
        if not started and not self.running:
            return 0.0, []
        context = sum(job.num_prompt + job.num_made for job in self.running)
        seconds = max(compute_s, self.hardware.weights_s) + self.hardware.decode_s(context)
        for job in started:
            self._keep_prefixes(job)
        self.running += started
        for job in self.running:
            job.num_made += 1
        ended = [job for job in self.running if job.num_made >= job.num_output]
        self.running = [job for job in self.running if job.num_made < job.num_output]
        return seconds, ended

    def _find_prefix(self, job: Job) -> int:
        """How many of the job's first parts are known. The last part is always computed: it gives the first token."""
        if not job.may_share:
            return 0
        for count in range(len(job.parts) - 1, 0, -1):
            key = _key(job.parts[:count])
            if key in self.prefixes:
                for shorter in range(1, count + 1):
                    self.prefixes.move_to_end(_key(job.parts[:shorter]))
                return count
        return 0

    def _keep_prefixes(self, job: Job) -> None:
        if not job.may_share:
            return
        for count in range(1, len(job.parts) + 1):
            key = _key(job.parts[:count])
            if key not in self.prefixes:
                self.prefixes[key] = job.parts[count - 1].num_tokens
                self.num_prefix_tokens += job.parts[count - 1].num_tokens
            self.prefixes.move_to_end(key)
        while self.num_prefix_tokens > self.hardware.kv_tokens:
            self.num_prefix_tokens -= self.prefixes.popitem(last=False)[1]


def _key(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(part.key for part in parts)


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
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")  # type: ignore[operator]
            if not message.get("more_body"):
                break
        content = json.dumps(await self._answer(json.loads(body))).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

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
        num_prompt = sum(part.num_tokens // (self.patch_tokens if part.is_picture else 1) for part in parts)
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
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
    config = uvicorn.Config(ChatApp(arguments.slowdown, arguments.patch_tokens), log_level="warning", lifespan="off")  # type: ignore[arg-type]
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
