"""Time a two-stage evaluation: our runner against batches of 256 with a barrier between the stages.

    python -m benchmarks.speed_eval [--num-samples 256] [--slowdown 0.25] [--num-at-once 64]

Both sides send real requests through EndpointModel to one mock server, which takes `slowdown` times as long as a 4B
model on one H200 (below 1: faster). Both do the image work of 8K images on four simulated cores: an image sleeps for
its time on one of four places, so this machine's own cores do not matter. The costs of that work are measured by
speed_images (docs/performance.md).

    barrier  the release's way: prepare 256 images, ask for all boxes, wait, draw and size 256 images as plain
             Pillow does, ask for all answers, wait; prefix cache off
    ours     `evaluate`, which streams both stages, prefix cache on

in two orders: each image once, and HR-Bench's, where four rotations of a question share an image. Boxes differ between
rotations, so only the first stage shares a prefix. Our limit on image memory does not matter here: 64 images of 8K in
flight take about 14 GB. The answers of both sides are compared. Times are printed in the device's seconds, beside the
prediction of a simulation without clock, network or Python.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.memory_eval import serve
from benchmarks.simulate_eval import BATCH_SIZE, NUM_CORES, ImageWork, Request, Walk, simulate_barrier, simulate_stream
from p2r.answers import extract_answer
from p2r.dialogue import Budget, ModelProfile, Prompt
from p2r.evaluation.asking import ask_samples
from p2r.evidence import Evidence, gather
from p2r.images.budget import FullImage
from p2r.models.server.dialect import build_messages
from p2r.models.server.model import EndpointModel
from p2r.models.server.transport import image_urls
from p2r.modes import Roles, make_roles
from p2r.prompts import PromptSet, load_prompt_set
from p2r.roles.model import perceiver_prompt, read_perception, reasoner_prompt
from p2r.runs.evaluation import RunSettings
from p2r.runs.store import TraceStore
from p2r.types import Completion, Perception, Sample
from tests.fakes.mock_server import MODELS, make_reply, read_parts

SHRINK = 8
"""An image's sides are those of an 8K image divided by this, so that a patch stands for its square of tokens."""
SIZE = (7680 // SHRINK, 4320 // SHRINK)
PROFILE = ModelProfile(
    family="mock",
    frame="per_mille",
    budget=Budget(min_pixels=4 * 32 * 32, max_pixels=4096 * 32 * 32 // SHRINK**2),
)
ORDERS = {"each image once": 1, "HR-Bench order": 4}
MUST = {"each image once": 1.5, "HR-Bench order": 1.7}
NO_ANSWER = "-"


# Decoding and sizing an 8K image, then drawing two boxes and sizing it again (docs/performance.md).
OURS = ImageWork(first_s=0.23 + 0.33, second_s=0.01)
PLAIN = ImageWork(first_s=0.33 + 0.33, second_s=0.45)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--num-samples", type=int, default=256, help="questions in each order (default 256)")
    parser.add_argument(
        "--slowdown", type=float, default=0.25, help="seconds here per second of the device (default 0.25)"
    )
    parser.add_argument("--num-at-once", type=int, default=64, help="walks that our runner has in flight (default 64)")
    arguments = parser.parse_args()
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    print(f"{date}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ", end="")
    print(f"{arguments.num_samples} questions, slowdown {arguments.slowdown}, {arguments.num_at_once} at once\n")
    print(
        f"{'seconds of the device':24}{'barrier':>9}{'ours':>8}{'ratio':>8}{'simulated: barrier':>22}{'ours':>8}",
        end="",
    )
    print(f"{'ratio':>8}{'ratio at equal image work':>28}")
    with serve("--slowdown", str(arguments.slowdown), "--patch-tokens", str(SHRINK**2)) as url:
        ratios = asyncio.run(compare_orders(url, arguments))
    if failed := [f"{order}: {ratio:.2f}x, must be {MUST[order]}x" for order, ratio in ratios if ratio < MUST[order]]:
        sys.exit("too slow: " + "; ".join(failed))


async def compare_orders(url: str, arguments: argparse.Namespace) -> list[tuple[str, float]]:
    return [(order, await compare(url, order, num_rotations, arguments)) for order, num_rotations in ORDERS.items()]


async def compare(url: str, order: str, num_rotations: int, arguments: argparse.Namespace) -> float:
    """Run both sides, print a line, and return how many times faster ours is."""
    cores, prompts = Cores(arguments.slowdown), load_prompt_set()
    ours, theirs = (EndpointModel(url, name, PROFILE, concurrency=BATCH_SIZE, transport="bmp") for name in MODELS)
    plain = make_samples(arguments.num_samples, num_rotations, cores, PLAIN)
    samples = make_samples(arguments.num_samples, num_rotations, cores, OURS)
    walks = plan_walks(samples, prompts)
    began = time.perf_counter()
    expected = await run_barrier(plain, make_roles("p2r", theirs, prompts), cores, PLAIN)
    barrier_s = (time.perf_counter() - began) / arguments.slowdown
    began = time.perf_counter()
    found = await run_ours(samples, make_roles("p2r", ours, prompts), arguments.num_at_once)
    ours_s = (time.perf_counter() - began) / arguments.slowdown
    different = [name for name, letter in expected.items() if found.get(name, NO_ANSWER) != letter]
    if different or len(expected) != arguments.num_samples:
        sys.exit(f"{order}: {len(different)} of {len(expected)} answers differ, such as {different[:3]}")
    barrier, stream = simulate_barrier(walks, PLAIN), simulate_stream(walks, OURS, arguments.num_at_once)
    print(f"{order:24}{barrier_s:>9.0f}{ours_s:>8.0f}{barrier_s / ours_s:>7.2f}x", end="")
    print(f"{barrier:>22.0f}{stream:>8.0f}{barrier / stream:>7.2f}x", end="")
    print(f"{simulate_barrier(walks, OURS) / stream:>27.2f}x   {len(found)} answers, all equal", flush=True)
    return barrier_s / ours_s


def plan_walks(samples: Sequence[Sample], prompts: PromptSet) -> list[Walk]:
    """Return the requests that both sides will make, for the simulation."""
    walks: list[Walk] = []
    for sample in samples:
        assert isinstance(sample.image, SlowImage)
        full_image = FullImage(draw_image(sample.image.number))
        looking = perceiver_prompt(prompts, sample, full_image, PROFILE.budget)
        completion = Completion(text=make_reply(looking.text)[0], finish_reason="stop", model=MODELS[0])
        perception = read_perception(MODELS[0], completion, looking.images[0].size, PROFILE.frame)
        answering = reasoner_prompt(prompts, sample, gather(full_image, perception.boxes), PROFILE.budget)
        walks.append(Walk(plan_request(looking), plan_request(answering)))
    return walks


def plan_request(prompt: Prompt) -> Request:
    with image_urls(prompt.images, "bmp") as urls:
        messages: list[dict[str, object]] = [dict(message) for message in build_messages(prompt, urls)]
    return Request(read_parts(messages, SHRINK**2), make_reply(prompt.text)[1])


@dataclass(frozen=True, slots=True)
class Cores:
    """NUM_CORES simulated cores on which image work takes its time."""

    slowdown: float
    places: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(NUM_CORES))

    def work(self, seconds: float) -> None:
        with self.places:
            time.sleep(seconds * self.slowdown)


@dataclass(frozen=True, slots=True)
class SlowImage:
    """A small image that takes as long as an 8K one."""

    number: int
    cores: Cores
    work: ImageWork

    @property
    def uri(self) -> str:
        return f"image {self.number}"

    def load(self) -> Image.Image:
        self.cores.work(self.work.first_s)
        return draw_image(self.number)


def draw_image(number: int) -> Image.Image:
    """Draw quickly an image that is different for each number."""
    image = _draw_ground(number % 16).copy()
    image.paste(tuple(number // 256**k % 256 for k in range(3)), (0, 0, 64, 64))
    return image


@cache
def _draw_ground(number: int) -> Image.Image:
    soft = np.random.default_rng(number).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    return Image.fromarray(soft).resize(SIZE, Image.Resampling.BILINEAR)


def make_samples(num_samples: int, num_rotations: int, cores: Cores, work: ImageWork) -> list[Sample]:
    """Make questions with four options, in `num_rotations` rotations that share an image."""
    words = ["red", "green", "blue", "white"]
    samples: list[Sample] = []
    for number in range(num_samples):
        question, cycle = divmod(number, num_rotations)
        samples.append(
            Sample(
                id=str(number),
                image=SlowImage(question, cores, work),
                question=f"What is the color of thing {question} on the far side of the street?",
                options=tuple(words[-cycle:] + words[:-cycle] if cycle else words),
                answer_form="choice",
                target="A",
                cluster=str(question) if num_rotations > 1 else "",
                cycle=cycle if num_rotations > 1 else None,
            )
        )
    return samples


async def run_ours(samples: Sequence[Sample], roles: Roles, num_at_once: int) -> dict[str, str | None]:
    """Run our side. Returns the answers by sample."""
    with tempfile.TemporaryDirectory() as folder, TraceStore(Path(folder) / "run", RunSettings()) as store:
        traces = await ask_samples(samples, *roles, store=store, num_at_once=num_at_once)
    return {trace.sample_id: trace.answer.letter if trace.answer else None for trace in traces}


async def run_barrier(samples: Sequence[Sample], roles: Roles, cores: Cores, work: ImageWork) -> dict[str, str | None]:
    """Run the release's way with the prompts of our roles. Returns the answers by sample."""
    perceiver, reasoner = roles
    perceptions: dict[str, Perception] = {}
    answers: dict[str, str | None] = {}

    async def prepare(sample: Sample) -> FullImage:
        return FullImage(await asyncio.to_thread(sample.image.load))

    async def draw(sample: Sample, full_image: FullImage) -> Evidence:
        await asyncio.to_thread(cores.work, work.second_s)
        return await asyncio.to_thread(gather, full_image, perceptions[sample.id].boxes)

    for start in range(0, len(samples), BATCH_SIZE):
        batch = samples[start : start + BATCH_SIZE]
        full_images = await asyncio.gather(*map(prepare, batch))
        found = await asyncio.gather(*map(perceiver, batch, full_images))
        perceptions |= {sample.id: perception for sample, perception in zip(batch, found, strict=True)}
        evidence = await asyncio.gather(*map(draw, batch, full_images))
        replies = await asyncio.gather(*map(reasoner, batch, evidence))
        for sample, reply in zip(batch, replies, strict=True):
            answers[sample.id] = extract_answer(reply.text, sample.answer_form, sample.options).letter
    return answers


if __name__ == "__main__":
    main()
