"""B3: the reward stage of a perceiver step, ours beside the release's way, over HTTP to a mock of the frozen reasoner.

    python -m benchmarks.speed_reward [--sizes 4K,8K] [--rows 64] [--group 8] [--unique 1.0,0.5] [--slowdown 1.0]
        [--transport auto|bmp|webp|file]

Given are questions about JPEG files and a group of box sets for each; wanted is for each box set whether the frozen
reasoner answers right on its evidence. The release's way: decode and size each image for the perceiver; then, for
each box set, decode the file again, draw on the full image, cut out crops, size all to the training budget (2048
tokens an image), write them as JPEG of default quality, and wait for the reply, 16 at a time in threads. Ours is the
stage as `p2r train` runs it (`training.rollout.Roller` with a server as partner): an image is decoded once, box sets
that show the same pixels are asked once, images travel without loss, requests are asynchronous, 64 at a time.

The server (tests/fakes/mock_server.py) takes the time of a 4B model on one H200 and replies by the question alone, so
both sides must find the same rewards; it shares this machine's cores with them. Each side runs in a process of its own
with a server of its own. `unique` is the share of a group's box sets that differ; it is measured in training as
unique_evidence. "CPU" is the side's own processor time, without the server's. "Device" is what the device would need
for our calls if all came at once: no client can be faster, and --slowdown 0.1 shows what the client itself can do. PSNR
compares the images as the server decodes them with the evidence drawn plainly and sized.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import math
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import openai
import PIL
from PIL import Image

from benchmarks.memory_eval import serve
from benchmarks.speed_images import SIZES, find_cpu, make_jpeg
from p2r.answers import extract_answer
from p2r.boxes import parse_boxes
from p2r.config import Recipe, parse_recipe
from p2r.dialogue import Budget, Decoding, ModelProfile, Prompt
from p2r.evidence import annotate, gather
from p2r.images.budget import FullImage, fit
from p2r.images.load import FileImage
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.profiles import PROFILES
from p2r.models.server.model import EndpointModel
from p2r.models.server.transport import choose_transport, image_urls
from p2r.prompts import load_prompt_set
from p2r.training.engines.local.generate import Generated, Wanted
from p2r.training.lockstep import FreePartner
from p2r.training.rollout import Roller
from p2r.types import Box, Sample, Usage
from tests.fakes.mock_device import Device, Job, Part

POOL, CONCURRENCY = 16, 64
MAX_NEW_TOKENS = 2048
NUM_FILES = 4
"""Different files; the rows are links to them."""
PROMPTS = load_prompt_set("release")


@dataclass(frozen=True, slots=True)
class Measured:
    """One side at one size.

    psnr_db: the lowest of the images that were looked at; infinite when all are equal.
    device_s: what the device needs for these calls, all at once, at a slowdown of 1; 0 where it was not computed.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    num_calls: int
    num_prompt_tokens: int
    unique: float
    psnr_db: float
    rewards: list[list[float]]
    device_s: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", default="4K,8K", help="of the images")
    parser.add_argument("--rows", type=int, default=64, help="questions of a step")
    parser.add_argument("--group", type=int, default=8, help="box sets of each")
    parser.add_argument("--unique", default="1.0,0.5", help="shares of the box sets of a group that differ")
    parser.add_argument("--slowdown", type=float, default=1.0, help="seconds of this machine for one of the server's")
    parser.add_argument("--transport", default="auto", help="how our images travel")
    parser.add_argument("--side", choices=["ours", "release"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        measured = {"ours": measure_ours, "release": measure_release}[arguments.side](arguments)
        print(json.dumps(asdict(measured)))
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    print(
        f"{date}, {find_cpu()}, {os.cpu_count()} cores, the server among them; Python {platform.python_version()}, ",
        end="",
    )
    print(f"Pillow {PIL.__version__}")
    print(f"{arguments.rows} rows x {arguments.group} box sets, slowdown {arguments.slowdown}, ", end="")
    print(f"our images as {choose_transport('http://127.0.0.1', arguments.transport)}")
    for name in arguments.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            arguments.folder = Path(folder)
            write_images(arguments, SIZES[name])
            for unique in arguments.unique.split(","):
                theirs, ours = (measure_apart(arguments, side, unique) for side in ("release", "ours"))
                print_result(f"{name}, unique {ours.unique:.2f}", theirs, ours, arguments.slowdown)


def measure_apart(arguments: argparse.Namespace, side: str, unique: str) -> Measured:
    options = [f"--{name}={getattr(arguments, name)}" for name in ("rows", "group", "transport", "folder")]
    with serve("--slowdown", str(arguments.slowdown)) as url:
        command = [
            sys.executable,
            "-m",
            "benchmarks.speed_reward",
            f"--side={side}",
            f"--url={url}",
            f"--unique={unique}",
            *options,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure_ours(arguments: argparse.Namespace) -> Measured:
    recipe = make_recipe(arguments)
    model = EndpointModel.connect(
        f"{arguments.url}#mock",
        max_pixels=training_budget().max_pixels,
        concurrency=CONCURRENCY,
        transport=arguments.transport,
    )
    rows, replies = make_rows(arguments), make_replies(arguments)
    actor = Script("policy", model.profile, replies)
    roller = Roller(recipe, recipe.phases()[0], actor, FreePartner(model, num_at_once=CONCURRENCY + 8), PROMPTS)
    wall, cpu = time.perf_counter(), time.process_time()
    rolled = asyncio.run(roller.roll_out(rows, step=0))
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    usages = {
        id(rollout.trace.reasoning): rollout.trace.reasoning.usage
        for group in rolled.groups
        for rollout in group.rollouts
        if rollout.trace and rollout.trace.reasoning and rollout.trace.reasoning.usage
    }
    assert rolled.stats.num_failed == 0 and rolled.stats.num_failed_rows == 0
    return Measured(
        wall_s,
        cpu_s,
        read_peak_mb(),
        rolled.stats.num_partner_calls,
        sum(usage.prompt_tokens or 0 for usage in usages.values()),
        rolled.stats.unique_share or 0.0,
        min(psnr_of_ours(rows[0], text, arguments.transport) for text in replies[0]),
        [[rollout.reward or 0.0 for rollout in group.rollouts] for group in rolled.groups],
        time_device(list(usages.values())),
    )


def time_device(usages: Sequence[Usage]) -> float:
    """Seconds of the mock's device for these calls, all at once."""
    device, seconds = Device(), 0.0
    for usage in usages:
        num_text = (usage.prompt_tokens or 0) - sum(usage.visual_tokens)
        parts = [Part("", tokens, is_image=True) for tokens in usage.visual_tokens]
        device.add(Job((*parts, Part("", num_text, is_image=False)), usage.generated_tokens or 1, may_share=False))
    while (taken := device.step()[0]) > 0:
        seconds += taken
    return seconds


def measure_release(arguments: argparse.Namespace) -> Measured:
    client = openai.OpenAI(base_url=arguments.url, api_key="none", max_retries=0, timeout=3600)
    rows, replies = make_rows(arguments), make_replies(arguments)

    def judge(sample: Sample, text: str) -> tuple[float, int]:
        images, has_evidence = show_plainly(sample, text)
        asked = PROMPTS.reasoner(sample) if has_evidence else PROMPTS.reasoner_without_evidence(sample)
        content = [{"type": "image_url", "image_url": {"url": write_jpeg(image)}} for image in images]
        reply = client.chat.completions.create(
            model="mock",
            messages=[
                {"role": "system", "content": PROMPTS.system},
                {"role": "user", "content": [*content, {"type": "text", "text": asked}]},  # type: ignore[list-item]
            ],
            temperature=0.0,
            max_tokens=MAX_NEW_TOKENS,
        )
        answer = extract_answer(reply.choices[0].message.content or "", sample.answer_form, sample.options)
        return float(answer.text == sample.target), reply.usage.prompt_tokens if reply.usage else 0

    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(POOL) as pool:
        list(pool.map(lambda sample: fit(read_plainly(sample), training_budget()).size, rows))  # for the perceiver
        pairs = [(sample, text) for sample, group in zip(rows, replies, strict=True) for text in group]
        judged = list(pool.map(lambda pair: judge(*pair), pairs))
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    size = arguments.group
    return Measured(
        wall_s,
        cpu_s,
        read_peak_mb(),
        len(judged),
        sum(tokens for _, tokens in judged),
        1.0,
        min(psnr_of_release(rows[0], text) for text in replies[0]),
        [[reward for reward, _ in judged[place : place + size]] for place in range(0, len(judged), size)],
    )


def show_plainly(sample: Sample, text: str) -> tuple[list[Image.Image], bool]:
    """The evidence of a reply as a model in training sees it, with nothing reused; and whether there is any."""
    image = read_plainly(sample)
    boxes = read_boxes(text, image.size)
    evidence, budget = gather(FullImage(image), boxes), training_budget()
    if not evidence.record.annotated:
        return [fit(image, budget)], False
    return [fit(annotate(image, boxes), budget), *(fit(crop, budget) for crop in evidence.crops)], True


def read_plainly(sample: Sample) -> Image.Image:
    return Image.open(sample.image.uri).convert("RGB")


def read_boxes(text: str, image_wh: tuple[int, int]) -> tuple[Box, ...]:
    return parse_boxes(text, frame=PROFILES["qwen3_vl"].frame, image_wh=image_wh)[0]


def write_jpeg(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def psnr_of_release(sample: Sample, text: str) -> float:
    return min(psnr(image, read_url(write_jpeg(image))) for image in show_plainly(sample, text)[0])


def psnr_of_ours(sample: Sample, text: str, transport: str) -> float:
    """Of what our fast way draws and sends, beside the plain way."""
    full_image = FullImage(sample.image.load())
    evidence = gather(full_image, read_boxes(text, full_image.size))
    with image_urls(evidence.sized(training_budget()), choose_transport("http://127.0.0.1", transport)) as urls:  # type: ignore[arg-type]
        pairs = zip(show_plainly(sample, text)[0], urls, strict=True)
        return min(psnr(image, read_url(url)) for image, url in pairs)


def read_url(url: str) -> Image.Image:
    if url.startswith("file:"):
        return Image.open(urlsplit(url).path).convert("RGB")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def psnr(sent: Image.Image, seen: Image.Image) -> float:
    mean_square = float(np.square(np.asarray(sent, dtype=np.float64) - np.asarray(seen, dtype=np.float64)).mean())
    return 10 * math.log10(255**2 / mean_square) if mean_square else math.inf


@dataclass(frozen=True, slots=True)
class Script:
    """A policy that says what is written: token 0 of a prompt is its row; a reply's tokens are row and place."""

    name: str
    profile: ModelProfile
    replies: Sequence[Sequence[str]]

    def encode(self, prompt: Prompt) -> EncodedPrompt:
        return EncodedPrompt((int(prompt.text.partition("number ")[2].partition("?")[0]),), (), (), ())

    def decode(self, token_ids: Sequence[int]) -> str:
        row, place = token_ids
        return self.replies[row][place]

    def sample(
        self, wanted: Iterable[Wanted], decoding: Decoding, num_at_once: int, abandoned: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Generated]]]:
        for number, one in enumerate(wanted):
            row = one.prompt.token_ids[0]
            yield number, [Generated((row, place), ended=True) for place in range(len(one.seeds))]


def make_recipe(arguments: argparse.Namespace) -> Recipe:
    """The paper's reward: a veto would spare us calls."""
    return parse_recipe(
        {
            "out": "unused",
            "schedule": [{"role": "perceiver", "steps": 1}],
            "data": {"num_rows": arguments.rows},
            "rollout": {"group_size": arguments.group, "prompts_per_step": arguments.rows},
            "reward": {"set": "paper"},
            "partner": {"max_new_tokens": MAX_NEW_TOKENS},
        }
    )


def make_rows(arguments: argparse.Namespace) -> list[Sample]:
    return [
        Sample(
            id=str(row),
            image=FileImage(arguments.folder / f"{row}.jpg"),
            question=f"What is written on buoy number {row}?",
            options=("north", "south", "east", "west"),
            answer_form="choice",
            target="A",
        )
        for row in range(arguments.rows)
    ]


def make_replies(arguments: argparse.Namespace) -> list[list[str]]:
    """Of each row's group so many as asked differ in their boxes, all in their labels. One in sixteen has no box."""
    draw = random.Random(0)
    num_unique = max(1, round(float(arguments.unique) * arguments.group))
    return [
        [
            json.dumps([{"bbox_2d": box, "label": f"buoy {draw.randrange(10**6)}"} for box in boxes])
            for boxes in islice(cycle([draw_boxes(draw) for _ in range(num_unique)]), arguments.group)
        ]
        for _ in range(arguments.rows)
    ]


def draw_boxes(draw: random.Random) -> list[list[int]]:
    """One to three boxes in columns of their own, each up to a tenth of the image wide and high."""
    if draw.random() < 1 / 16:
        return []
    boxes: list[list[int]] = []
    for column in draw.sample(range(3), draw.choice((1, 1, 2, 3))):
        left, top = 330 * column + draw.randrange(220), draw.randrange(880)
        boxes.append([left, top, left + draw.randint(20, 100), top + draw.randint(20, 100)])
    return boxes


def training_budget() -> Budget:
    budget = PROFILES["qwen3_vl"].budget
    return budget.model_copy(update={"max_pixels": 2048 * budget.factor**2})


def write_images(arguments: argparse.Namespace, size: tuple[int, int]) -> None:
    files = [make_jpeg(arguments.folder / f"file{number}.jpg", size) for number in range(NUM_FILES)]
    for row in range(arguments.rows):
        (arguments.folder / f"{row}.jpg").symlink_to(files[row % NUM_FILES])


def read_peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def print_result(title: str, theirs: Measured, ours: Measured, slowdown: float) -> None:
    if theirs.rewards != ours.rewards:
        raise SystemExit(f"{title}: the two sides found other rewards; the comparison is void")
    print(f"\n{title}; same rewards, {np.mean(ours.rewards):.2f} right")
    print(f"{'':16}{'release':>12}{'ours':>12}{'ratio':>8}")
    for name, unit in (
        ("wall_s", "s"),
        ("cpu_s", "s"),
        ("peak_mb", "MB"),
        ("num_calls", ""),
        ("num_prompt_tokens", ""),
    ):
        their_value, our_value = getattr(theirs, name), getattr(ours, name)
        label = name.removesuffix("_s").removesuffix("_mb").removeprefix("num_").replace("_", " ")
        digits = 1 if unit == "s" else 0
        label = f"{label}{', ' if unit else ''}{unit}"
        print(f"{label:16}{their_value:>12.{digits}f}{our_value:>12.{digits}f}{their_value / our_value:>7.1f}x")
    print(f"{'device, s':16}{'':>12}{ours.device_s * slowdown:>12.1f}")
    print(
        f"{'PSNR, dB':16}{theirs.psnr_db:>12.1f}{'exact' if math.isinf(ours.psnr_db) else f'{ours.psnr_db:.1f}':>12}",
        flush=True,
    )


if __name__ == "__main__":
    main()
