"""Measure questions per second with the nano model on this machine: direct and P2R, one at a time and sixteen at once.

    python -m benchmarks.speed_nano [--num-samples 32] [--runs 3]

Everything that a user waits for counts: decoding, resizing, drawing, cropping, and the replies of both roles. Images
are rendered before the clock starts. Prints samples per second: the median of the runs, the lowest and the highest.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import time
from datetime import datetime, timezone

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers

from p2r import load_model
from p2r.benchmarks.needles import Needles
from p2r.images.load import MemoryImage
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import EvidenceReasoner, ModelPerceiver, NoPerceiver, Perceiver, PlainReasoner, Reasoner
from p2r.types import Sample
from p2r.walks import walk_all

SEED = 9000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--num-samples", type=int, default=32, help="questions per run (default 32)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs (default 3)")
    arguments = parser.parse_args()
    samples = [_render(sample) for sample in Needles(seed=SEED, num_samples=arguments.num_samples)]
    today = datetime.now(timezone.utc).date()
    print(f"{today}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__},", end=" ")
    print(f"transformers {transformers.__version__}, Python {platform.python_version()}\n")
    print("| mode | batch size | samples/s, median | lowest | highest |\n|---|---|---|---|---|")
    for batch_size in (1, 16):
        model, prompts = load_model("nano", batch_size=batch_size), load_prompt_set("release")
        ways: dict[str, tuple[Perceiver, Reasoner]] = {
            "direct": (NoPerceiver(), PlainReasoner(model, prompts)),
            "p2r": (ModelPerceiver(model, prompts), EvidenceReasoner(model, prompts)),
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
    main()
