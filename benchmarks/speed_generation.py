"""B6: a group of rollouts, ours (the prompt once, G tokens a step) beside transformers' generate on repeated rows.

    python -m benchmarks.speed_generation [--size tiny|2b|4b] [--prompt 1024] [--rollouts 8] [--tokens 64] [--prompts 1]
        [--device cpu|cuda] [--dtype float32] [--runs 3] [--growing] [--slots 4]

A random Qwen3-VL, prompts with one image each. Both sides choose the likeliest token, so that their replies can be
compared (in 16 bits, ties fall either way). Prefill is the time to the first token, a step what each further one takes:
(time to the last - time to the first) / (tokens - 1). On a CPU it is processor time of one thread. Each side runs in a
process of its own, for its peak memory. On a GPU our steps have fixed shapes and are recorded; `--growing` adds
a column of steps that are launched one by one, with room for what there is.

With `--slots`, replies end by chance, and the prompts are drawn in so many slots: once in lots, the next of which waits
for the slowest group of the one before, and once refilled. A lot's slots are halved when half of its groups have ended.
Occupied is a slot in which a group grows; the theory takes the groups' own lengths and counts steps. Tokens are those
that steps compute, and wanted are those of replies that have not ended.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from transformers import Qwen3VLForConditionalGeneration

from p2r.cli.guard import run_script
from p2r.dialogue import Decoding
from p2r.models.local.devices import choose_device
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Engine, fold_patch_embedding
from p2r.models.local.sampling import Chosen
from p2r.models.profiles import QWEN3_VL
from p2r.training.engines.local.attention import install
from p2r.training.engines.local.generate import Generated, Wanted, generate_groups
from p2r.training.engines.local.slots import Slots
from tests.fakes.random_model import SIZES, make_model, make_prompt, read_memory_mb, repeat_rows

Replies = list[list[int]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One side. replies: of all rollouts, prompt by prompt."""

    prefill_s: float
    step_s: float
    peak_mb: float
    replies: Replies


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--size", choices=SIZES, default="tiny", help="of the model")
    parser.add_argument("--prompt", type=int, default=1024, help="tokens of a prompt")
    parser.add_argument("--prompts", type=int, default=1, help="prompts generated together")
    parser.add_argument("--rollouts", type=int, default=8, help="of each prompt")
    parser.add_argument("--tokens", type=int, default=64, help="of a rollout")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float64", "float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each side")
    parser.add_argument("--growing", action="store_true", help="also ours without recorded steps")
    parser.add_argument("--slots", type=int, help="compare lots of so many prompts with refilled slots instead")
    parser.add_argument("--side", choices=["ours", "stock", "growing"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(asdict(measure(arguments))))
    elif arguments.slots:
        compare_refill(arguments)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    place = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.machine()
    print(f"{date}, {place}; torch {torch.__version__}, transformers {transformers.__version__}")
    print(
        f"model {arguments.size}, {arguments.dtype}; {arguments.prompts} prompts of {arguments.prompt} tokens,", end=" "
    )
    print(f"{arguments.rollouts} rollouts of {arguments.tokens} to each\n")
    stock, ours = measure_apart(arguments, "stock"), measure_apart(arguments, "ours")
    growing = measure_apart(arguments, "growing") if arguments.growing else None
    print(f"{'':<14}{'stock':>10}{'ours':>10}{'ratio':>8}{'FLOPs':>8}{'growing':>10}"[: 60 if growing else 50])
    theory = f"{arguments.rollouts:>7.1f}x"
    print_row("prefill, s", 3, stock.prefill_s, ours.prefill_s, growing and growing.prefill_s, theory)
    print_row("a step, ms", 1, 1000 * stock.step_s, 1000 * ours.step_s, growing and 1000 * growing.step_s)
    print_row("peak, MB", 0, stock.peak_mb, ours.peak_mb, growing and growing.peak_mb)
    same = sum(mine == theirs for mine, theirs in zip(ours.replies, stock.replies, strict=True))
    print(f"{same} of {len(ours.replies)} replies are equal")


def measure_apart(arguments: argparse.Namespace, side: str) -> Measured:
    names = ("size", "prompt", "prompts", "rollouts", "tokens", "device", "dtype", "runs")
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed_generation",
        f"--side={side}",
        *(f"--{name}={getattr(arguments, name)}" for name in names),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure(arguments: argparse.Namespace) -> Measured:
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    model = make_model(SIZES[arguments.size], device=device, dtype=getattr(torch, arguments.dtype)).eval()
    prompts = [make_prompt(arguments.prompt, seed) for seed in range(arguments.prompts)]
    if arguments.side == "stock":
        generate = by_transformers(model, prompts, arguments.rollouts)
    else:
        fixed_shapes = False if arguments.side == "growing" else None
        generate = by_groups(model, prompts, arguments.rollouts, fixed_shapes=fixed_shapes)
    clock = time.process_time if device.type == "cpu" else time.perf_counter

    def run(num_tokens: int) -> tuple[float, Replies]:
        start = clock()
        replies = generate(num_tokens)
        return clock() - start, replies

    before_mb = read_memory_mb(device)
    replies = run(arguments.tokens)[1]  # also warms up
    peak_mb = read_memory_mb(device, peak=True) - before_mb
    first = statistics.median(run(1)[0] for _ in range(arguments.runs))
    last = statistics.median(run(arguments.tokens)[0] for _ in range(arguments.runs))
    return Measured(first, (last - first) / (arguments.tokens - 1), peak_mb, replies)


def by_groups(
    model: Qwen3VLForConditionalGeneration,
    prompts: Sequence[EncodedPrompt],
    num_rollouts: int,
    *,
    fixed_shapes: bool | None,
) -> Callable[[int], Replies]:
    install(model)
    frames = fold_patch_embedding(model)
    engine = Engine(model, QWEN3_VL, model.config.image_token_id, frozenset(), None, frames)
    wanted = [Wanted(prompt, range(num_rollouts)) for prompt in prompts]

    def generate(num_tokens: int) -> Replies:
        decoding = Decoding(max_new_tokens=num_tokens)
        groups = dict(generate_groups(engine, wanted, decoding, len(wanted), fixed_shapes=fixed_shapes))
        return [list(rollout.token_ids) for place in range(len(wanted)) for rollout in groups[place]]

    return generate


def compare_refill(arguments: argparse.Namespace) -> None:
    device, num_slots = choose_device(arguments.device), arguments.slots
    torch.manual_seed(0)
    model = make_model(SIZES[arguments.size], device=device, dtype=getattr(torch, arguments.dtype)).eval()
    install(model)
    frames = fold_patch_embedding(model)
    vocabulary = model.config.get_text_config().vocab_size
    ends = frozenset(range(0, vocabulary, max(1, arguments.tokens // 6))) - {model.config.image_token_id}
    engine = Engine(model, QWEN3_VL, model.config.image_token_id, ends, None, frames)
    decoding = Decoding(max_new_tokens=arguments.tokens, temperature=1.0)
    wanted = [
        Wanted(
            make_prompt(arguments.prompt, number), [number * arguments.rollouts + k for k in range(arguments.rollouts)]
        )
        for number in range(arguments.prompts)
    ]
    lots = [wanted[start : start + num_slots] for start in range(0, len(wanted), num_slots)]
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    shapes: list[tuple[int, int]] = []
    print(
        f"model {arguments.size}, {arguments.dtype}; {arguments.prompts} prompts of {arguments.prompt} tokens", end=", "
    )
    print(f"{arguments.rollouts} rollouts of up to {arguments.tokens} to each, {num_slots} slots\n")
    print(f"{'':<10}{'steps':>8}{'theory':>8}{'steps x slots':>15}{'occupied':>10}", end="")
    print(f"{'tokens':>9}{'wanted':>8}{'seconds':>9}")
    replies: dict[str, Replies] = {}
    with note_shapes(shapes):
        for name, calls in (("lots", lots), ("refilled", [wanted])):
            shapes.clear()
            start, drawn = clock(), list[list[Generated]]()
            for call in calls:
                found = dict(generate_groups(engine, call, decoding, num_slots))
                drawn += [found[place] for place in range(len(call))]
            seconds = clock() - start
            longest = [
                max(len(one.token_ids) for one in group) - 1 for group in drawn
            ]  # the first comes with the prompt
            theory = count_steps(longest, num_slots, refills=name == "refilled")
            taken, tokens = sum(slots for slots, _ in shapes), sum(slots * width for slots, width in shapes)
            kept = sum(len(one.token_ids) - 1 for group in drawn for one in group)
            print(f"{name:<10}{len(shapes):>8}{theory:>8}{taken:>15}{sum(longest) / taken:>10.0%}", end="")
            print(f"{tokens:>9}{kept / tokens:>8.0%}{seconds:>9.2f}")
            replies[name] = [list(one.token_ids) for group in drawn for one in group]
    same = sum(one == other for one, other in zip(*replies.values(), strict=True))
    print(f"{same} of {len(replies['lots'])} replies are equal")


@contextmanager
def note_shapes(shapes: list[tuple[int, int]]) -> Generator[None, None, None]:
    """Note how many slots each step computes, and how many rollouts in each."""
    advance = Slots.advance

    def count(slots: Slots) -> Chosen:
        shapes.append(slots.shape)
        return advance(slots)

    Slots.advance = count
    try:
        yield
    finally:
        Slots.advance = advance


def count_steps(longest: Sequence[int], num_slots: int, *, refills: bool) -> int:
    """The steps that groups of these lengths need: lot by lot, or each in the slot that is free first."""
    if not refills:
        return sum(max(longest[start : start + num_slots]) for start in range(0, len(longest), num_slots))
    free_at = [0] * num_slots
    for length in longest:
        heapq.heapreplace(free_at, free_at[0] + length)
    return max(free_at)


def by_transformers(
    model: Qwen3VLForConditionalGeneration, prompts: Sequence[EncodedPrompt], num_rollouts: int
) -> Callable[[int], Replies]:
    repeated = [prompt for prompt in prompts for _ in range(num_rollouts)]
    rows = repeat_rows(model, repeated, torch.empty(len(repeated), 0, dtype=torch.long))

    def generate(num_tokens: int) -> Replies:
        whole = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            **rows,
            max_new_tokens=num_tokens,
            do_sample=False,
            eos_token_id=-1,  # none: replies are as long as they may be
            suppress_tokens=[model.config.image_token_id],  # as on our side
        )
        return whole[:, rows["input_ids"].shape[1] :].tolist()

    return generate


def print_row(name: str, digits: int, stock: float, ours: float, growing: float | None, theory: str = "") -> None:
    line = f"{name:<14}{stock:>10.{digits}f}{ours:>10.{digits}f}{stock / ours:>7.1f}x{theory:>8}"
    print(line.rstrip() if growing is None else f"{line}{growing:>10.{digits}f}")


if __name__ == "__main__":
    run_script(main)
