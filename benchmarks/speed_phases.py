"""B7: steps of both phases at the size of a published model, with random weights: seconds by part, memory, MFU, hours.

    python -m benchmarks.speed_phases recipes/qwen3_vl_4b/pra_grpo.toml --size 4b [--rows 16] [--steps 2]
        [--perceiver-tokens 96] [--reasoner-tokens 256] [--set optimizer.kind=offload] [--device cuda] [--rollout vllm]
        [--most]

Nothing is downloaded. What runs is the trainer's own step with the recipe's settings, on 4K JPEGs of noise. Random
weights do not end a reply, so all are as long as the two options say, and they write no boxes, so each reply is read as
one to three boxes and a letter that follow from its tokens: the frozen reasoner gets images, crops and as many calls
as in a real run. The first step of a phase warms up and is not counted. `--size nano` takes nano's own weights, which
do end replies. With `--rollout vllm`, "handover" is the time until vLLM has the new weights, and until it sleeps again.

Printed for each phase: seconds a row by part, tokens a second, MFU (products with weights alone, see
`p2r.training.watch.flops`), peak memory of rollout and update (on a CPU of the process), and hours for 10,000 rows;
with `--most` on a GPU also how many rollouts fit at once beside what training holds.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import transformers
from PIL import Image

from p2r.cli.guard import run_script
from p2r.config import Phase, Recipe, load_recipe
from p2r.dialogue import Decoding
from p2r.images.load import FileImage
from p2r.models.local.devices import choose_device, choose_dtype, is_out_of_memory
from p2r.models.local.encoding import EncodedPrompt, PromptEncoder
from p2r.prompts import load_prompt_set
from p2r.roles import ModelPerceiver
from p2r.training.engines.base import EngineActor
from p2r.training.engines.local.distributed import World, whole_tensor
from p2r.training.engines.local.export import gather_weights, save_policy
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Policy, load_policy, take_snapshot
from p2r.training.engines.local.slots import TOKENS_AT_ONCE, Slots
from p2r.training.engines.vllm import VllmActor
from p2r.training.groups import Rolled
from p2r.training.lockstep import LockstepPartner
from p2r.training.memo import EvidenceStore
from p2r.training.rollout import Roller
from p2r.training.update import Learner, learn_step
from p2r.training.watch.metrics import time_step
from p2r.training.watch.stopwatch import Stopwatch
from p2r.types import Sample
from tests.fakes.random_model import SIZES, read_memory_mb, write_checkpoint

ROWS_OF_THE_PAPER = 10_000
IMAGE_WH = (3840, 2160)
UPDATE_PARTS = ("reference", "forward", "backward", "optimizer")


class Scribe(PromptEncoder):
    """Reads any reply as boxes and a letter that follow from its tokens."""

    def decode(self, token_ids: Sequence[int], stop: Sequence[str] = ()) -> str:
        draw = random.Random(repr(list(token_ids)))
        boxes: list[str] = []
        for number in range(draw.randint(1, 3)):
            x, y = draw.randint(0, 300) + 300 * number, draw.randint(0, 800)
            box = [x, y, x + draw.randint(20, 90), y + draw.randint(20, 190)]
            boxes.append(f'{{"bbox_2d": {box}, "label": "thing {number}"}}')
        return f"[{', '.join(boxes)}] <answer>{draw.choice('AB')}</answer>"


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """Means over the counted steps. seconds: of a row, by part. peak_gb: of rollout and update."""

    seconds: Mapping[str, float]
    figures: Mapping[str, float]
    peak_gb: tuple[float, float]
    most_rollouts: int | None

    @property
    def row_s(self) -> float:
        return sum(self.seconds.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("recipe", type=Path, help="its settings, but for model, rows and lengths")
    parser.add_argument("--size", choices=[*SIZES, "nano"], default="tiny", help="of the model")
    parser.add_argument("--rows", type=int, default=16, help="a step; the recipe's number changes nothing a row")
    parser.add_argument("--steps", type=int, default=2, help="counted steps of each phase")
    parser.add_argument("--perceiver-tokens", type=int, default=96, help="of each of its replies")
    parser.add_argument("--reasoner-tokens", type=int, default=256, help="of each of its replies")
    parser.add_argument(
        "--rollout", choices=("local", "vllm"), default="local", help="what samples the policy's replies"
    )
    parser.add_argument("--most", action="store_true", help="find out how many rollouts fit on the GPU at once")
    parser.add_argument("--device", default=None, help="a GPU when there is one")
    parser.add_argument("--set", action="append", default=[], dest="changes", help="a setting of the recipe: a.b=c")
    arguments = parser.parse_args()
    print_circumstances(arguments)
    with tempfile.TemporaryDirectory() as name:
        recipe = make_recipe(arguments, Path(name))
        device = choose_device(recipe.model.device)
        dtype = choose_dtype(recipe.model.dtype, device)
        if arguments.size in SIZES:
            write_checkpoint(Path(recipe.model.source), SIZES[arguments.size], device=str(device), dtype=dtype)
        rows = write_rows(Path(name), arguments.rows * (1 + arguments.steps))
        costs = {
            phase.kind: measure(recipe, phase, rows, Path(name), find_most=arguments.most) for phase in recipe.phases()
        }
    for kind, cost in costs.items():
        print_cost(kind, cost)
    hours = sum(cost.row_s for cost in costs.values()) * ROWS_OF_THE_PAPER / 3600
    print(f"both phases on {ROWS_OF_THE_PAPER:,} rows: {hours:.1f} hours")


def make_recipe(arguments: argparse.Namespace, folder: Path) -> Recipe:
    lengths = f"{{perceiver={arguments.perceiver_tokens}, reasoner={arguments.reasoner_tokens}}}"
    steps = 1 + arguments.steps
    device = [f"model.device={arguments.device}"] if arguments.device else []
    return load_recipe(
        arguments.recipe,
        [
            *arguments.changes,
            *device,
            f"model.source={folder / 'model' if arguments.size in SIZES else arguments.size}",
            f"rollout.engine={arguments.rollout}",
            f"out={folder / 'run'}",
            "data.source=needles",  # not read: the rows are made here
            "reward.judge=words",  # no free answers are among them
            f"data.num_rows={arguments.rows * steps}",
            f"rollout.prompts_per_step={arguments.rows}",
            f"rollout.max_new_tokens={lengths}",
            f"partner.max_new_tokens={arguments.reasoner_tokens}",
            f'schedule=[{{role="perceiver", steps={steps}}}, {{role="reasoner", steps={steps}}}]',
        ],
    )


def measure(recipe: Recipe, phase: Phase, rows: Sequence[Sample], folder: Path, *, find_most: bool) -> PhaseCost:
    """The steps of a phase, as `p2r.training.train` takes them."""
    policy = load_policy(recipe.model)
    policy = replace(policy, encoder=Scribe(policy.checkpoint))
    snapshot = take_snapshot(policy, batch_size=recipe.partner.concurrency)
    optimizer = Optimizer(policy.trainable, phase.optimizer, World())
    learner = Learner(phase, policy, snapshot, optimizer, World())
    partner, prompts = LockstepPartner(snapshot.partner), load_prompt_set(phase.rollout.prompts)
    looking = Decoding(max_new_tokens=phase.rollout.max_new_tokens.perceiver)
    perceiver = ModelPerceiver(snapshot.partner, prompts, looking)
    device = policy.model.device
    read_peak_gb(device)  # of what ran before
    parts: list[dict[str, float]] = []
    figures: list[dict[str, float]] = []
    peaks: list[tuple[float, float]] = []
    starting = closing(start_vllm(recipe, learner, folder)) if phase.rollout.engine == "vllm" else nullcontext()
    with EvidenceStore(folder / phase.name, partner, perceiver, weights="") as evidence, starting as sampler:
        actor = sampler or EngineActor("policy", policy.profile, policy.encoder, policy.engine)
        roller = Roller(recipe, phase, actor, partner, prompts, evidence=evidence)
        for step in range(len(rows) // phase.prompts_per_step):
            watch, here = Stopwatch(), rows[step * phase.prompts_per_step :][: phase.prompts_per_step]
            with watch.part("rollout"):
                rolled = roll_out(roller, here, step, sampler)
            rollout_gb = read_peak_gb(device)
            report = learn_step(learner, rolled.groups, phase.lr, watch).report
            if rolled.stats.num_failed or report is None:
                raise SystemExit(f"{rolled.stats.num_failed} rollouts could not be judged")
            timing = time_step(learner, watch, rolled.stats, report)
            seconds = {**rolled.stats.seconds, **{part: watch.seconds.get(part, 0.0) for part in UPDATE_PARTS}}
            parts.append({part: seconds[part] / len(here) for part in seconds})
            figures.append({name: timing[name] for name in timing if name == "mfu" or "per_second" in name})
            figures[-1]["evidence that differs"] = rolled.stats.unique_share or 0.0
            peaks.append((rollout_gb, read_peak_gb(device)))
    most = None
    if find_most and device.type == "cuda":
        prompt = max((group.prompt for group in rolled.groups), key=lambda each: len(each.token_ids))
        length = phase.rollout.max_new_tokens.of(phase.roles[0])
        most = find_most_rollouts(policy, prompt, phase.rollout.group_size, length)
    largest = (max(rollout for rollout, _ in peaks), max(update for _, update in peaks))
    return PhaseCost(average(parts[1:]), average(figures[1:]), largest, most)


def start_vllm(recipe: Recipe, learner: Learner, folder: Path) -> VllmActor:
    def write(place: Path) -> None:
        save_policy(learner.policy, gather_weights(learner.policy, whole_tensor), place)

    version = lambda: learner.optimizer.num_updates  # noqa: E731
    return VllmActor(learner.policy, recipe.engine, version=version, write=write, folder=folder)


def roll_out(roller: Roller, rows: Sequence[Sample], step: int, sampler: VllmActor | None) -> Rolled:
    if sampler is None:
        return asyncio.run(roller.roll_out(rows, step))
    start = time.perf_counter()
    with sampler.awake():
        handover = time.perf_counter() - start
        rolled = asyncio.run(roller.roll_out(rows, step))
        start = time.perf_counter()
    rolled.stats.seconds["handover"] = handover + time.perf_counter() - start
    return rolled


def find_most_rollouts(policy: Policy, prompt: EncodedPrompt, group_size: int, length: int) -> int:
    """At once, beside weights, copies and Adam's states: doubled until the memory ends.

    A few prompts are read, as many as go through the model together; room is made and steps are computed for all.
    """
    decoding = Decoding(max_new_tokens=length, temperature=1.0)
    most_read = max(1, TOKENS_AT_ONCE["cuda"] // len(prompt.token_ids))
    policy.engine.model.eval()
    fits, num_prompts = 0, 1
    while True:
        read = range(min(num_prompts, most_read))
        try:
            with torch.inference_mode():
                slots = Slots(policy.engine, num_prompts, group_size, decoding, keep=False, fixed=True)
                slots.read(read, [prompt for _ in read], [range(group_size) for _ in read], lambda: False)
                for _ in range(3):
                    slots.advance()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            return fits
        del slots
        fits, num_prompts = num_prompts * group_size, 2 * num_prompts


def write_rows(folder: Path, count: int) -> list[Sample]:
    """Choices between two, on 4K JPEGs of coarse noise."""
    draw = np.random.default_rng(0)
    rows: list[Sample] = []
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (108, 192, 3), dtype=np.uint8))
        path = folder / f"{number}.jpg"
        coarse.resize(IMAGE_WH, Image.Resampling.BICUBIC).save(path, quality=90)
        question = f"Which of the two boats is nearer to the buoy with the number {number}?"
        options = ("the left one", "the right one")
        rows.append(Sample(str(number), FileImage(path), question, options=options, answer_form="choice", target="A"))
    return rows


def read_peak_gb(device: torch.device) -> float:
    """Since it was last asked on a GPU; of the process so far on a CPU."""
    peak_mb = read_memory_mb(device, peak=True)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return peak_mb / 1e3


def average(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(step[name] for step in steps) for name in steps[0]}


def print_circumstances(arguments: argparse.Namespace) -> None:
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    print(f"{date}, {place}, {torch.get_num_threads()} CPU threads; torch {torch.__version__},", end=" ")
    print(f"transformers {transformers.__version__}")
    print(
        f"model {arguments.size}, {arguments.recipe}{''.join(f', {change}' for change in arguments.changes)};", end=" "
    )
    print(f"{arguments.rows} rows a step, sampled by {arguments.rollout}, replies of", end=" ")
    print(f"{arguments.perceiver_tokens} (boxes) and {arguments.reasoner_tokens} tokens (answers)", flush=True)


def print_cost(kind: str, cost: PhaseCost) -> None:
    print(f"\n{kind}: {cost.row_s:.2f} s a row")
    print("  " + "  ".join(f"{part} {seconds:.2f}" for part, seconds in cost.seconds.items()))
    print("  " + "  ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in cost.figures.items()))
    most = "" if cost.most_rollouts is None else f", {cost.most_rollouts} rollouts at once fit"
    print(f"  peak memory: rollout {cost.peak_gb[0]:.1f} GB, update {cost.peak_gb[1]:.1f} GB{most}", flush=True)


if __name__ == "__main__":
    run_script(main)
