"""What a nano checkpoint can do on held-out needles, family by family, and whether stock transformers agrees with us.

    python -m recipes.nano.evaluate --model nano --num-samples 600 --seed 9000
    python -m recipes.nano.evaluate --model runs/nano/checkpoint --num-samples 300 --seed 7000     # for choosing

Prints a Markdown table (accuracy with its 95% Wilson interval beside the chance level) and, with --agreement N, the
share of questions on which `Qwen3VLForConditionalGeneration.generate`, one question at a time, gives the same two
replies as ours.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from PIL import Image
from rich.progress import Progress
from transformers import AutoImageProcessor, AutoTokenizer, Qwen3VLForConditionalGeneration

from p2r import load_model
from p2r.benchmarks.needles import Needles
from p2r.cli.guard import run_script
from p2r.dialogue import Model
from p2r.evaluation.metrics import summarize
from p2r.evaluation.scoring import score_run
from p2r.evidence import gather
from p2r.images.budget import FullImage
from p2r.judges import judge_for
from p2r.models.load import find_checkpoint
from p2r.modes import Mode, make_roles
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.runs.evaluation import make_run
from p2r.types import Sample, Trace
from p2r.walks import walk_all

BATCH = 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="nano, nano-base, or a checkpoint folder")
    parser.add_argument("--num-samples", type=int, default=600)
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument(
        "--agreement", type=int, default=0, metavar="N", help="compare N questions with stock transformers"
    )
    arguments = parser.parse_args()
    samples = list(Needles(seed=arguments.seed, num_samples=arguments.num_samples))
    runs = asyncio.run(_run_modes(load_model(arguments.model, batch_size=BATCH), samples))
    print(_table(samples, runs))
    if arguments.agreement:
        folder = find_checkpoint(arguments.model).folder
        own = next(run for run in runs if run.name == "own boxes")
        same = compare_with_stock(folder, samples[: arguments.agreement], own.traces[: arguments.agreement])
        print(f"\nsame replies as stock transformers, float32, of {same.count}:", end=" ")
        print(f"perceiver {same.perceiver}, reasoner {same.reasoner}, both {same.both}")


async def _run_modes(model: Model, samples: list[Sample]) -> list[Run]:
    prompts = load_prompt_set("release")
    modes: dict[str, Mode] = {
        "direct": "direct",
        "thinking": "thinking",
        "random boxes": "random",
        "own boxes": "p2r",
        "oracle boxes": "oracle",
    }
    roles = {name: make_roles(mode, model, prompts) for name, mode in modes.items()}
    runs = []
    with Progress() as progress:
        for name, (perceiver, reasoner) in roles.items():
            task, traces, began = progress.add_task(name, total=len(samples)), {}, time.perf_counter()
            walks = walk_all(samples, lambda s, p=perceiver, r=reasoner: walk(s, p, r, judge_for(s)), num_at_once=BATCH)
            async for trace in walks:
                traces[trace.sample_id] = trace
                progress.advance(task)
            ordered = tuple(traces[sample.id] for sample in samples)
            runs.append(Run(name, modes[name], ordered, time.perf_counter() - began))
    return runs


def _table(samples: list[Sample], runs: list[Run]) -> str:
    lines = [
        "| mode | family | n | chance | accuracy | 95% interval | hit | IoU | boxes | s/sample |",
        "|---" * 10 + "|",
    ]
    for run in runs:
        for family in ("all", "attribute", "relation", "pair"):
            chosen = [k for k, sample in enumerate(samples) if family in ("all", sample.category)]
            part = make_run([samples[k] for k in chosen], [run.traces[k] for k in chosen], {"mode": run.mode})
            figures = summarize(score_run(part))
            looked = [_show(value) for value in (figures.hit_rate, figures.mean_iou, figures.mean_boxes)]
            seconds = f"{run.wall_s / len(samples):.3f}" if family == "all" else ""
            interval = f"[{figures.interval.low:.3f}, {figures.interval.high:.3f}]"
            cells = [
                run.name,
                family,
                str(figures.num_judged),
                _show(figures.chance),
                _show(figures.accuracy),
                interval,
            ]
            lines.append("| " + " | ".join([*cells, *looked, seconds]) + " |")
        failed = sum(trace.failure is not None for trace in run.traces)
        if failed:
            lines.append(f"| {run.name}: {failed} failed |")
    return "\n".join(lines)


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


@dataclass(frozen=True, slots=True)
class Run:
    """A mode's traces, in the order of the samples, and the seconds it took."""

    name: str
    mode: Mode
    traces: tuple[Trace, ...]
    wall_s: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """On how many of `count` questions the stock path gives the same perceiver reply, reasoner reply, and both."""

    count: int
    perceiver: int
    reasoner: int
    both: int


@torch.no_grad()
def compare_with_stock(folder: str, samples: Sequence[Sample], traces: Sequence[Trace]) -> Agreement:
    """Both roles' replies by the stock model, processor and `generate`, one question at a time, against our traces."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    prompts, budget = load_prompt_set("release"), load_model(folder).profile.budget

    def reply(text: str, images: Sequence[Image.Image], limit: int) -> str:
        pixels = processor(images=list(images), return_tensors="pt")
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
        messages = [{"role": "system", "content": prompts.system}, {"role": "user", "content": content}]
        turn = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for rows, columns in pixels["image_grid_thw"][:, 1:].tolist():
            turn = turn.replace("<|image_pad|>", "<|kept|>" * (rows * columns // 4), 1)
        turn = turn.replace("<|kept|>", "<|image_pad|>")
        ids = tokenizer(turn, return_tensors="pt", add_special_tokens=False)["input_ids"]
        kinds = (ids == model.config.image_token_id).int()
        output = model.generate(input_ids=ids, mm_token_type_ids=kinds, max_new_tokens=limit, do_sample=False, **pixels)
        return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)

    same = []
    for sample, trace in zip(samples, traces, strict=True):
        assert trace.perception and trace.perception.completion and trace.reasoning
        full_image = FullImage(sample.image.load())
        seen = reply(prompts.perceiver(sample), [full_image.fitted(budget)], 256)
        evidence = gather(full_image, trace.boxes)
        wording = prompts.reasoner if evidence.record.annotated else prompts.reasoner_without_evidence
        said = reply(wording(sample), evidence.sized(budget), 1024)
        same.append((seen == trace.perception.completion.text, said == trace.reasoning.text))
    perceiver, reasoner = (sum(pair[k] for pair in same) for k in (0, 1))
    return Agreement(len(same), perceiver, reasoner, sum(all(pair) for pair in same))


if __name__ == "__main__":
    run_script(main)
