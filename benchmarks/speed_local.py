"""Measure questions per second with a local model on this machine: direct and P2R, one at a time and sixteen at once.

    python -m benchmarks.speed_local [--num-samples 32] [--runs 3] [--size nano|tiny|2b|4b] [--tokens 64]
        [--batch-size 16]

Everything that a user waits for counts: decoding, resizing, drawing, cropping, and the replies of both roles. Images
are rendered before the clock starts. Prints samples per second: the median of the runs, the lowest and the highest.

Nano ends its replies. The other sizes have random weights: their replies are as long as `--tokens` says, hold no boxes,
and so lead to evidence without crops.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers

from p2r import load_model
from p2r.benchmarks.needles import Needles
from p2r.cli.guard import run_script
from p2r.dialogue import Decoding
from p2r.images.load import MemoryImage
from p2r.models.local.devices import choose_device, choose_dtype
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import EvidenceReasoner, ModelPerceiver, NoPerceiver, Perceiver, PlainReasoner, Reasoner
from p2r.roles.base import DEFAULT_DECODING
from p2r.types import Sample
from p2r.walks import walk_all
from tests.fakes.random_model import SIZES, write_checkpoint

SEED = 9000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--num-samples", type=int, default=32, help="questions per run (default 32)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs (default 3)")
    parser.add_argument("--size", choices=["nano", *SIZES], default="nano", help="of the model")
    parser.add_argument("--tokens", type=int, default=64, help="of each reply of a random model")
    parser.add_argument("--batch-size", type=int, action="append", help="questions at once (default 1, then 16)")
    arguments = parser.parse_args()
    samples = [_render(sample) for sample in Needles(seed=SEED, num_samples=arguments.num_samples)]
    today, device = datetime.now(timezone.utc).date(), choose_device(None)
    place = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{today}, {place}, {torch.get_num_threads()} threads, torch {torch.__version__},", end=" ")
    print(f"transformers {transformers.__version__}, Python {platform.python_version()}; {arguments.size}\n")
    print("| mode | batch size | samples/s, median | lowest | highest |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        source, decoding = "nano", DEFAULT_DECODING.reasoner
        if arguments.size in SIZES:
            source, decoding = name, Decoding(max_new_tokens=arguments.tokens)
            dtype = choose_dtype(None, device)
            write_checkpoint(Path(name), SIZES[arguments.size], device=str(device), dtype=dtype)
        for batch_size in arguments.batch_size or (1, 16):
            model, prompts = load_model(source, batch_size=batch_size), load_prompt_set("release")
            ways: dict[str, tuple[Perceiver, Reasoner]] = {
                "direct": (NoPerceiver(), PlainReasoner(model, prompts, decoding=decoding)),
                "p2r": (ModelPerceiver(model, prompts, decoding), EvidenceReasoner(model, prompts, decoding)),
            }
            for mode, (perceiver, reasoner) in ways.items():
                asyncio.run(_time(samples[:batch_size], perceiver, reasoner, batch_size))
                rates = [
                    len(samples) / asyncio.run(_time(samples, perceiver, reasoner, batch_size))
                    for _ in range(arguments.runs)
                ]
                cells = [mode, str(batch_size), *(f"{f(rates):.1f}" for f in (statistics.median, min, max))]
                print("| " + " | ".join(cells) + " |", flush=True)


def _render(sample: Sample) -> Sample:
    return Sample(
        id=sample.id,
        image=MemoryImage(sample.image.load(), sample.id),
        question=sample.question,
        options=sample.options,
        answer_form=sample.answer_form,
    )


async def _time(samples: list[Sample], perceiver: Perceiver, reasoner: Reasoner, num_at_once: int) -> float:
    began = time.perf_counter()
    walks = walk_all(samples, lambda sample: walk(sample, perceiver, reasoner), num_at_once=num_at_once)
    failures = [trace.failure async for trace in walks if trace.failure]
    if failures:
        raise RuntimeError(failures[0].message)
    return time.perf_counter() - began


if __name__ == "__main__":
    run_script(main)
