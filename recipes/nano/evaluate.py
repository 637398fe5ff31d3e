"""What a nano checkpoint can do on held-out needles, family by family, and whether stock transformers agrees with us.

    python -m recipes.nano.evaluate --model nano --num-samples 600 --seed 9000
    python -m recipes.nano.evaluate --model runs/nano/checkpoint --num-samples 300 --seed 7000     # for choosing

Prints a Markdown table (accuracy with its 95% Wilson interval beside the chance level) and, with --agreement N, the
share of questions on which `Qwen3VLForConditionalGeneration.generate`, one question at a time, gives the same two
replies as ours.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from PIL import Image
from rich.progress import Progress
from transformers import AutoImageProcessor, AutoTokenizer, Qwen3VLForConditionalGeneration

from p2r import load_model
from p2r.benchmarks import Benchmark, Facts
from p2r.benchmarks.needles import Needles
from p2r.cli.guard import run_script
from p2r.dialogue import Model
from p2r.evaluation.evaluate import evaluate
from p2r.evaluation.metrics import summarize
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.evidence import gather
from p2r.images.budget import FullImage
from p2r.models.load import find_checkpoint
from p2r.modes import Mode
from p2r.prompts import load_prompt_set
from p2r.types import Sample, Trace

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
    runs = _run_modes(load_model(arguments.model, batch_size=BATCH), samples)
    print(_table(runs))
    if arguments.agreement:
        folder = find_checkpoint(arguments.model).folder
        traces = runs["own boxes"].traces
        chosen = samples[: arguments.agreement]
        same = compare_with_stock(folder, chosen, [traces[sample.id] for sample in chosen])
        print(f"\nsame replies as stock transformers, float32, of {same.count}:", end=" ")
        print(f"perceiver {same.perceiver}, reasoner {same.reasoner}, both {same.both}")


def _run_modes(model: Model, samples: list[Sample]) -> dict[str, ScoredRun]:
    modes: dict[str, Mode] = {
        "direct": "direct",
        "thinking": "thinking",
        "random boxes": "random",
        "own boxes": "p2r",
        "oracle boxes": "oracle",
    }
    benchmark = Benchmark(samples, Facts("needles", len(samples)))
    runs: dict[str, ScoredRun] = {}
    with Progress() as progress:
        for name, mode in modes.items():
            task = progress.add_task(name, total=len(samples))
            runs[name] = evaluate(
                benchmark,
                model,
                mode=mode,
                num_at_once=BATCH,
                max_error_rate=1.0,
                on_progress=lambda tally, task=task: progress.update(task, completed=tally.num_done),
            )
    return runs


def _table(runs: dict[str, ScoredRun]) -> str:
    lines = [
        "| mode | family | n | chance | accuracy | 95% interval | hit | IoU | boxes | s/sample |",
        "|---" * 10 + "|",
    ]
    for name, run in runs.items():
        for family in ("all", "attribute", "relation", "pair"):
            facts = {id: fact for id, fact in run.facts.items() if family in ("all", fact.category)}
            summary = summarize(score_run(replace(run, facts=facts)))
            looked = [_show(value) for value in (summary.hit_rate, summary.mean_iou, summary.mean_boxes)]
            speed = summary.samples_per_second if family == "all" else None
            cells = [
                name,
                family,
                str(summary.num_judged),
                _show(summary.chance),
                _show(summary.accuracy),
                f"[{summary.interval.low:.3f}, {summary.interval.high:.3f}]",
                *looked,
                f"{1 / speed:.3f}" if speed else "",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        if run.failures:
            lines.append(f"| {name}: {len(run.failures)} failed |")
    return "\n".join(lines)


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


@dataclass(frozen=True, slots=True)
class Agreement:
    """On how many of `count` questions the stock path gives the same perceiver reply, reasoner reply, and both."""

    count: int
    perceiver: int
    reasoner: int
    both: int


@torch.no_grad()
def compare_with_stock(folder: Path, samples: Sequence[Sample], traces: Sequence[Trace]) -> Agreement:
    """Both roles' replies by the stock model, processor and `generate`, one question at a time, against our traces."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    prompts, budget = load_prompt_set("release"), load_model(str(folder)).profile.budget

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
