"""B2: a whole GRPO step, ours beside TRL's GRPOTrainer: the same tiny Qwen3-VL, images, questions and settings.

    python -m benchmarks.speed_step [--prompts 4] [--group 8] [--visual 576] [--response 64] [--steps 2]
        [--size tiny|2b|4b] [--checkpointing]

A step is what a trainer does with a batch of rows: open and encode the images, sample a group of replies to each
prompt, reward them, compute the reference's log-probs (KL 0.01), the policy's with gradient, and take an optimizer
step. Ours is the control `single-stage` of `p2r train`, which is what TRL does: replies to the whole image, rewarded
for their answer. The first token of a reply stands for its answer, so that random weights are right now and then.

The first step is not timed. In it both learn from the same rollouts, ours, cut to random lengths, and what they make
of them is printed: equal losses and gradient norms say that the two do the same. Then each samples its own. Each side
runs in a process of its own, float32, one thread, a group at a time through the model; TRL needs torchvision.

"CPU" is the processor time of the steps, which neighbors do not change; the seconds by part are wall time. Beside the
ratios stand those of the floating-point operations.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
from tests.fakes import stock_torchvision  # before transformers

# isort: split
import numpy as np
import torch
import transformers
from PIL import Image
from transformers import TrainerState

from p2r.config import Recipe, parse_recipe
from p2r.images.load import FileImage
from p2r.prompts import load_prompt_set
from p2r.training.engines.base import EngineActor
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import load_policy, take_snapshot
from p2r.training.groups import Group, Rollout
from p2r.training.lockstep import LockstepPartner
from p2r.training.rollout import Roller
from p2r.training.update import Learner, learn_step
from p2r.training.watch.stopwatch import Stopwatch
from p2r.types import Sample
from tests.fakes.random_model import SIZES, write_checkpoint

KL, RATE, EPS = 0.01, 1e-6, 1e-4  # TRL adds 1e-4 to the standard deviation, always
PARTS = ("prepare", "sample", "judge", "reference", "forward", "backward", "optimizer")
FIRST, RESULT = "first.json", "result.json"


@dataclass(frozen=True, slots=True)
class Measured:
    """One side. seconds: by part, of the median step; the first step's loss and gradient norm."""

    wall_s: float
    cpu_s: float
    seconds: Mapping[str, float]
    loss: float
    grad_norm: float
    num_prompt: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--prompts", type=int, default=4, help="prompts of a step")
    parser.add_argument("--group", type=int, default=8, help="replies to each")
    parser.add_argument("--visual", type=int, default=576, help="tokens of the image, a square number")
    parser.add_argument("--response", type=int, default=64, help="most tokens of a reply")
    parser.add_argument("--steps", type=int, default=2, help="timed steps")
    parser.add_argument("--size", choices=SIZES, default="tiny", help="of the model")
    parser.add_argument("--checkpointing", action="store_true", help="both compute layers again during backward")
    parser.add_argument("--side", choices=["ours", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        measured = {"ours": measure_ours, "trl": measure_trl}[arguments.side](arguments)
        (arguments.folder / RESULT).write_text(json.dumps(asdict(measured)), encoding="utf-8")
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    if not (find_spec("trl") and stock_torchvision.HAS_TORCHVISION):
        raise SystemExit("the peer is missing: pip install trl==1.16.0, and torchvision (see the Makefile)")
    with tempfile.TemporaryDirectory() as name:
        arguments.folder = Path(name)
        write_checkpoint(arguments.folder / "model", SIZES[arguments.size])
        write_images(arguments)
        ours, theirs = measure_apart(arguments, "ours"), measure_apart(arguments, "trl")
    print_result(arguments, ours, theirs)


def measure_apart(arguments: argparse.Namespace, side: str) -> Measured:
    """In a process of its own. Ours is first: it leaves the rollouts of the first step."""
    options = [f"--{name}={getattr(arguments, name)}" for name in ("prompts", "group", "visual", "response", "steps")]
    options += [f"--size={arguments.size}", *(["--checkpointing"] if arguments.checkpointing else [])]
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed_step",
        f"--side={side}",
        f"--folder={arguments.folder}",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return Measured(**json.loads((arguments.folder / RESULT).read_text(encoding="utf-8")))


def measure_ours(arguments: argparse.Namespace) -> Measured:
    recipe = make_recipe(arguments)
    policy = load_policy(recipe.model)
    snapshot = take_snapshot(policy, batch_size=recipe.partner.concurrency)
    phase = recipe.phases()[0]
    optimizer = Optimizer(policy.trainable, phase.optimizer, World())
    learner = Learner(phase, policy, snapshot, optimizer, World())
    actor = AnsweringActor("policy", policy.profile, policy.encoder, policy.engine)
    prompts = load_prompt_set(phase.rollout.prompts)
    roller = Roller(recipe, phase, actor, LockstepPartner(snapshot.partner), prompts)
    walls: list[float] = []
    cpus: list[float] = []
    parts: list[dict[str, float]] = []
    loss = grad_norm = num_prompt = 0.0
    for step, rows in enumerate(draw_rows(arguments)):
        wall, cpu, watch = time.perf_counter(), time.process_time(), Stopwatch()
        rolled = asyncio.run(roller.roll_out(rows, step))
        groups = rolled.groups if step else cut_and_keep(rolled.groups, arguments)
        report = learn_step(learner, groups, RATE, watch).report
        assert report is not None and not rolled.stats.num_failed
        if step == 0:
            loss, grad_norm = report.loss, report.grad_norm
            num_prompt = rolled.stats.num_prompt_tokens / len(rows)
            continue
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        parts.append({**rolled.stats.seconds, **watch.seconds})
    return summarize(walls, cpus, parts, loss, grad_norm, round(num_prompt))


def measure_trl(arguments: argparse.Namespace) -> Measured:
    import datasets
    from transformers import AutoProcessor, Qwen3VLForConditionalGeneration, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    folder, prompts = arguments.folder / "model", load_prompt_set("release")
    replies: list[list[int]] = json.loads((arguments.folder / FIRST).read_text(encoding="utf-8"))
    watch = Stopwatch()
    walls: list[float] = []
    cpus: list[float] = []
    parts: list[dict[str, float]] = []

    class TimedTrainer(GRPOTrainer):
        """Says what its parts take; the replies of the first step are given."""

        def _generate_single_turn(self, *inputs: object, **named: object) -> object:
            if self.state.global_step == 0:
                return replies, None
            with watch.part("sample"):
                return super()._generate_single_turn(*inputs, **named)

        def _calculate_rewards(self, *inputs: object) -> torch.Tensor:
            with watch.part("judge"):
                return super()._calculate_rewards(*inputs)

        def _get_per_token_logps_and_entropies(self, *inputs: object, **named: object) -> object:
            if torch.is_grad_enabled():
                return super()._get_per_token_logps_and_entropies(*inputs, **named)
            with watch.part("reference"):
                return super()._get_per_token_logps_and_entropies(*inputs, **named)

        def _compute_loss(self, *inputs: object) -> torch.Tensor:
            with watch.part("forward"):
                return super()._compute_loss(*inputs)

    class StepClock(TrainerCallback):
        """Marks where optimizer and steps begin and end; the first step is left out."""

        def on_train_begin(self, *_: object, **__: object) -> None:
            self.step_began = (time.perf_counter(), time.process_time())

        def on_pre_optimizer_step(self, *_: object, **__: object) -> None:
            self.optimizer_began = time.perf_counter()

        def on_optimizer_step(self, *_: object, **__: object) -> None:
            watch.seconds["optimizer"] = time.perf_counter() - self.optimizer_began

        def on_step_end(self, _: object, state: TrainerState, *__: object, **___: object) -> None:
            wall, cpu = time.perf_counter(), time.process_time()
            if state.global_step > 1:
                walls.append(wall - self.step_began[0])
                cpus.append(cpu - self.step_began[1])
                parts.append({"prepare": walls[-1] - watch.total, **watch.seconds})
            watch.seconds.clear()
            self.step_began = (wall, cpu)

    config = GRPOConfig(
        output_dir=str(arguments.folder / "trl"),
        max_steps=1 + arguments.steps,
        num_generations=arguments.group,
        per_device_train_batch_size=arguments.group,
        gradient_accumulation_steps=arguments.prompts,
        max_completion_length=arguments.response,
        beta=KL,
        use_bias_correction_kl=False,
        loss_type="dapo",  # the mean over all tokens
        scale_rewards="group",
        temperature=1.0,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        gradient_checkpointing=arguments.checkpointing,
        shuffle_dataset=False,
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows = [row for step in draw_rows(arguments) for row in step]
    chats = [
        [
            {"role": "system", "content": prompts.system},
            {"role": "user", "content": prompts.reasoner_without_evidence(row)},
        ]
        for row in rows
    ]
    table = datasets.Dataset.from_dict({"prompt": chats, "images": [[row.image.uri] for row in rows]})
    trainer = TimedTrainer(
        model=Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32),
        reward_funcs=reward,
        args=config,
        train_dataset=table.cast_column("images", datasets.Sequence(datasets.Image())),
        processing_class=AutoProcessor.from_pretrained(folder, padding_side="left"),
        callbacks=[StepClock()],
    )
    backward = trainer.accelerator.backward

    def timed_backward(*inputs: object, **named: object) -> None:
        with watch.part("backward"):
            backward(*inputs, **named)

    trainer.accelerator.backward = timed_backward
    trainer.train()
    first = next(row for row in trainer.state.log_history if "grad_norm" in row)
    return summarize(walls, cpus, parts, first["loss"], first["grad_norm"], 0)


class AnsweringActor(EngineActor):
    """A policy whose replies are read as `read_answer` says, not as text."""

    __slots__ = ()

    def decode(self, token_ids: Sequence[int]) -> str:
        return f"<answer>{read_answer(token_ids)}</answer>"


def read_answer(token_ids: Sequence[int]) -> str:
    return "AB"[token_ids[0] % 2]


def reward(completion_ids: Sequence[Sequence[int]], **_: object) -> list[float]:
    """As TRL asks for it."""
    return [float(read_answer(token_ids) == "A") for token_ids in completion_ids]


def cut_rollout(rollout: Rollout, length: int) -> Rollout:
    return replace(rollout, token_ids=rollout.token_ids[:length], logprobs=rollout.logprobs[:length])


def cut_and_keep(groups: Sequence[Group], arguments: argparse.Namespace) -> list[Group]:
    """Replies of many lengths, since equal ones would have a loss of 0; written down for the other side."""
    draw = random.Random(0)
    cut = [
        replace(
            group,
            rollouts=tuple(cut_rollout(rollout, draw.randint(1, arguments.response)) for rollout in group.rollouts),
        )
        for group in groups
    ]
    replies = [rollout.token_ids for group in cut for rollout in group.rollouts]
    (arguments.folder / FIRST).write_text(json.dumps(replies), encoding="utf-8")
    return cut


def make_recipe(arguments: argparse.Namespace) -> Recipe:
    return parse_recipe(
        {
            "out": str(arguments.folder / "run"),
            "control": "single-stage",
            "schedule": [{"role": "reasoner", "steps": 1 + arguments.steps, "lr": RATE}],
            "model": {
                "source": str(arguments.folder / "model"),
                "device": "cpu",
                "dtype": "float32",
                "gradient_checkpointing": arguments.checkpointing,
            },
            "data": {"num_rows": arguments.prompts * (1 + arguments.steps)},
            "rollout": {
                "group_size": arguments.group,
                "prompts_per_step": arguments.prompts,
                "max_new_tokens": {"perceiver": arguments.response, "reasoner": arguments.response},
            },
            "reward": {"set": "paper"},
            "advantage": {"eps": EPS},
            "loss": {"kl_coef": KL},
            "optimizer": {"lr": RATE, "weight_decay": 0.0, "grad_clip": 1.0},
        }
    )


def draw_rows(arguments: argparse.Namespace) -> list[list[Sample]]:
    """The rows of each step, none of them twice."""
    return [
        [
            Sample(
                id=f"{step}-{row}",
                image=FileImage(arguments.folder / f"{step}-{row}.png"),
                question=f"Which of the two boats is nearer to the buoy number {row}?",
                options=("the left one", "the right one"),
                answer_form="choice",
                target="A",
            )
            for row in range(arguments.prompts)
        ]
        for step in range(1 + arguments.steps)
    ]


def write_images(arguments: argparse.Namespace) -> None:
    """Squares that neither side has to resize."""
    side_px, draw = 32 * round(arguments.visual**0.5), np.random.default_rng(0)
    for row in (row for step in draw_rows(arguments) for row in step):
        coarse = Image.fromarray(draw.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        coarse.resize((side_px, side_px), Image.Resampling.BICUBIC).save(row.image.uri)


def summarize(
    walls: Sequence[float],
    cpus: Sequence[float],
    parts: Sequence[Mapping[str, float]],
    loss: float,
    grad_norm: float,
    num_prompt: int,
) -> Measured:
    seconds = {name: statistics.median(each.get(name, 0.0) for each in parts) for name in PARTS}
    return Measured(statistics.median(walls), statistics.median(cpus), seconds, loss, grad_norm, num_prompt)


def count_flops(arguments: argparse.Namespace, num_prompt: int, *, shared: bool) -> dict[str, float]:
    """Of a step, by part; backward is twice forward. Shared: each prompt and each image once a group."""
    shape, group, own = SIZES[arguments.size], arguments.group, arguments.response
    head, vision = 2 * shape.hidden * shape.vocabulary, shape.vision_flops(arguments.visual)
    prompt = vision + num_prompt * shape.token_flops + shape.attention_flops(num_prompt**2 / 2)
    decode = own * (shape.token_flops + head) + shape.attention_flops(own * num_prompt + own**2 / 2)
    times = 1 if shared else group
    forward = times * prompt + group * decode  # the same tokens pass when they are sampled and when they are learned
    flops = {"sample": forward, "reference": forward, "forward": forward, "backward": 2 * forward}
    return {name: arguments.prompts * number for name, number in flops.items()}


def print_result(arguments: argparse.Namespace, ours: Measured, theirs: Measured) -> None:
    import trl

    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    print(f"{date}, {platform.processor() or platform.machine()}, {os.environ['OMP_NUM_THREADS']} thread(s)", end="")
    print(f", medians of {arguments.steps} step(s); torch {torch.__version__}, ", end="")
    print(f"transformers {transformers.__version__}, trl {trl.__version__}")
    print(f"model {arguments.size}, float32{', checkpointing' if arguments.checkpointing else ''}; ", end="")
    print(f"{arguments.prompts} prompts of {ours.num_prompt} tokens ({arguments.visual} visual), ", end="")
    print(f"{arguments.group} replies of up to {arguments.response} tokens to each, KL {KL}")
    print("\nfirst step, same rollouts     trl              ours")
    print(f"loss             {theirs.loss:>17.7f}{ours.loss:>17.7f}")
    print(f"gradient norm    {theirs.grad_norm:>17.7f}{ours.grad_norm:>17.7f}")
    repeated, shared = (count_flops(arguments, ours.num_prompt, shared=shared) for shared in (False, True))
    print(f"\n{'':16}{'trl s':>9}{'ours s':>9}{'ratio':>8}{'FLOPs':>8}")
    for name in PARTS:
        theory = repeated[name] / shared[name] if name in shared else None
        print_row(name, theirs.seconds[name], ours.seconds[name], theory)
    print_row("step, wall", theirs.wall_s, ours.wall_s, None)
    print_row("step, CPU", theirs.cpu_s, ours.cpu_s, sum(repeated.values()) / sum(shared.values()))


def print_row(name: str, theirs_s: float, ours_s: float, theory: float | None) -> None:
    ratio = f"{theirs_s / ours_s:.1f}x" if min(theirs_s, ours_s) >= 0.005 else ""
    print(f"{name:16}{theirs_s:>9.2f}{ours_s:>9.2f}{ratio:>8}{f'{theory:.1f}x' if theory else '':>8}")


if __name__ == "__main__":
    main()
