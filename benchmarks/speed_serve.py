"""Requests per second and latency of `p2r serve`, and of a client that asks the upstream twice by hand.

    python -m benchmarks.speed_serve [--clients 64] [--seconds 300] [--rate 20] [--delay-ms 50] [--side 320]

The upstream is an HTTP server on this machine that replies after a fixed delay, so that what is left is the cost of
p2r. Both sides ask it in turns within one run, and their clients are alike (the `openai` SDK). By hand, each question
is two requests with images that were drawn and encoded beforehand; served, it is one request, and p2r decodes, draws,
cuts out and encodes. Upstream, server and clients share this machine's cores. Without --rate, a client asks as soon as
it is answered, so that the cores are full and latency is mostly waiting for them; with it, questions come evenly, so
many a second over all clients. "Difference" is what p2r adds to a question, its image work included; --side 32 makes
images so small that there is hardly any. Memory is the server's own, resident, after a tenth of the time and at the
end. An error ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import openai
from openai.types.chat import ChatCompletionMessageParam
from PIL import Image

from benchmarks.speed_images import find_cpu
from tests.fakes.mock_server import read_body, send_json

BOX = '[{"bbox_2d": [100, 200, 300, 400], "label": "sail"}]'
ANSWER = "<think>It is a star.</think><answer>a star</answer>"
QUESTION = "What is on the sail?"
LOOK = "Locate the key visual evidence"
ROUNDS = 10


class DelayedApp:
    """An ASGI application that replies to every chat after a delay."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    async def __call__(
        self,
        scope: dict[str, object],
        receive: Callable[[], Awaitable[dict[str, object]]],
        send: Callable[[dict[str, object]], Awaitable[None]],
    ) -> None:
        body = await read_body(receive)
        await asyncio.sleep(self._delay_s)
        reply = {"role": "assistant", "content": BOX if LOOK.encode() in body else ANSWER}
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        choices = [{"index": 0, "finish_reason": "stop", "message": reply}]
        chat = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage}
        await send_json(send, chat)


def run_upstream(delay_s: float) -> None:
    import uvicorn

    listener = socket.socket(proto=socket.IPPROTO_TCP)  # so that asyncio sends replies at once
    listener.bind(("127.0.0.1", 0))
    print(f"at http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
    config = uvicorn.Config(DelayedApp(delay_s), log_level="warning", lifespan="off", timeout_keep_alive=600)  # type: ignore[arg-type]
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def start(*command: str) -> Iterator[tuple[str, int]]:
    """Run a module that prints its URL; gives that and the process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"at (http://\S+/v1)", process.stdout.readline())
        assert found, f"{command} did not start"
        yield found[1], process.pid
    finally:
        process.terminate()
        process.wait(60)


def make_message(text: str, *images: Image.Image) -> ChatCompletionMessageParam:
    urls: list[str] = []
    for image in images:
        data = io.BytesIO()
        image.save(data, "BMP")
        urls.append(f"data:image/bmp;base64,{base64.b64encode(data.getvalue()).decode()}")
    shown = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*shown, {"type": "text", "text": text}]}  # type: ignore[misc,list-item]


async def ask_all(
    ask: Callable[[], Awaitable[None]], num_clients: int, seconds: float, rate: float = 0
) -> tuple[list[float], float]:
    """Let clients ask one question after another; returns the seconds of each question, and of the whole.

    rate: questions a second over all clients; 0 for as many as there can be.
    """
    latencies: list[float] = []
    started = time.perf_counter()

    async def ask_on(number: int) -> None:
        while True:
            if rate and number >= rate * seconds:
                return
            if rate:
                await asyncio.sleep(number / rate - (time.perf_counter() - started))
                number += num_clients
            begun = time.perf_counter()
            if begun - started >= seconds:
                return
            await ask()
            latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*map(ask_on, range(num_clients)))
    return latencies, time.perf_counter() - started


def read_memory_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1000 if found else float("nan")


async def measure(arguments: argparse.Namespace, upstream: str, served: str, pid: int) -> None:
    image = Image.effect_noise((arguments.side, arguments.side), 60).convert("RGB")
    look, answer = make_message(f"{QUESTION}\n{LOOK}", image), make_message(QUESTION, image, image)
    question = make_message(QUESTION, image)
    async with (
        openai.AsyncOpenAI(base_url=upstream, api_key="none", max_retries=0) as by_hand,
        openai.AsyncOpenAI(base_url=served, api_key="none", max_retries=0) as client,
    ):

        async def ask_by_hand() -> None:
            for message in (look, answer):
                await by_hand.chat.completions.create(model="m", messages=[message])

        async def ask_server() -> None:
            reply = await client.chat.completions.create(model="p2r/m", messages=[question])
            assert reply.choices[0].message.content == "a star"

        sides = {"by hand": ask_by_hand, "served": ask_server}
        taken: dict[str, list[float]] = {name: [] for name in sides}
        wall = dict.fromkeys(sides, 0.0)
        memory: list[float] = []
        await ask_all(ask_server, arguments.clients, 1.0)
        for _ in range(ROUNDS):
            for name, ask in sides.items():
                latencies, seconds = await ask_all(
                    ask, arguments.clients, arguments.seconds / 2 / ROUNDS, arguments.rate
                )
                taken[name] += latencies
                wall[name] += seconds
            memory.append(read_memory_mb(pid))
    print(f"{'':12}{'questions':>10}{'per s':>8}{'p50 ms':>9}{'p99 ms':>9}")
    rows = {name: [1000 * float(np.percentile(each, share)) for share in (50, 99)] for name, each in taken.items()}
    for name, (middle, high) in rows.items():
        print(f"{name:12}{len(taken[name]):10,}{len(taken[name]) / wall[name]:8.1f}{middle:9.1f}{high:9.1f}")
    middle, high = (there - here for there, here in zip(rows["served"], rows["by hand"], strict=True))
    print(f"{'difference':12}{'':18}{middle:9.1f}{high:9.1f}")
    print(f"no errors; the server's memory: {memory[0]:.0f} MB, then {memory[-1]:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--clients", type=int, default=64, help="questions under way at a time (default 64)")
    parser.add_argument("--seconds", type=float, default=300, help="of both sides together (default 300)")
    parser.add_argument("--rate", type=float, default=0, help="questions a second (default: as many as there can be)")
    parser.add_argument("--delay-ms", type=float, default=50, help="of each reply of the upstream (default 50)")
    parser.add_argument("--side", type=int, default=320, help="of the square image, in pixels (default 320)")
    parser.add_argument("--upstream", action="store_true", help="be the upstream; used by the script itself")
    arguments = parser.parse_args()
    if arguments.upstream:
        run_upstream(arguments.delay_ms / 1000)
        return
    print(f"{find_cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    rate = f"{arguments.rate:g} questions a second" if arguments.rate else "as fast as they can"
    print(f"{arguments.clients} clients, {rate}; {arguments.delay_ms:g} ms a reply; {arguments.side} pixels a side")
    with start("benchmarks.speed_serve", "--upstream", "--delay-ms", str(arguments.delay_ms)) as (upstream, _):
        at_once = ("--num-at-once", str(arguments.clients), "--num-waiting", str(arguments.clients))
        model = ("--upstream", upstream, "--model", "m", "--profile", "nano", "--image-check", "never")
        with start("p2r", "serve", "--port", "0", *model, *at_once) as (served, pid):
            asyncio.run(measure(arguments, upstream, served, pid))


if __name__ == "__main__":
    main()
