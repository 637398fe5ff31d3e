"""Processor seconds of nano's training steps, of another commit and of this one side by side, and whether they agree.

    python -m benchmarks.speed_nano_step [--before 6993c7b] [--steps 2] [--rounds 2]

Each side runs `p2r.train` with recipes/nano/pra_grpo.toml, both phases, in a process of its own with one thread; the
other commit is checked out beside this one for as long as it takes. The two take turns. A step counts from the end of
the step before, whatever happens in between; each phase's first is left out, because it loads the model. "CPU" is the
time of the process, which neighbors change little.

Both start from this tree's nano-base. The learning rate is so low that no weight moves by more than rounding, so that
both sides sample the same in all steps, and the clamps of the loss, which the other commit did not have, are off.
Rewards must be equal, and losses to rounding.

At last it counts the arithmetic of this side's steps (matrix products and attention, its masked part included), and
the seconds that it takes at the rate of one large matrix product.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("perceiver", "reasoner")
COMPARED = ("reward", "accuracy", "num_generated_tokens", "loss", "grad_norm")
RATE = 1e-12


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--before", default="6993c7b", help="the commit to compare with (default 6993c7b)")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each phase")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side")
    parser.add_argument("--side", nargs=2, type=Path, metavar=("TREE", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=Path, metavar="OUT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.count:
        print(json.dumps(count_gflop(arguments.count)))
        return
    if arguments.side:
        tree, out = arguments.side
        print(json.dumps(run_side(tree, out, arguments.steps)))
        return
    with tempfile.TemporaryDirectory(prefix="p2r-steps-") as name, checked_out(arguments.before, Path(name)) as before:
        sides = {arguments.before: before, "here": ROOT}
        seconds: dict[str, list[list[float]]] = {side: [] for side in sides}
        for number in range(arguments.rounds):
            for side, tree in sides.items():
                seconds[side].append(measure(tree, Path(name) / f"{number}-{side}", arguments.steps))
        logs = [read_steps(Path(name) / f"0-{side}") for side in sides]
        gflop = run_apart(ROOT, Path(name), "--count", str(Path(name) / "counted"))
    print_result(seconds, arguments.steps)
    print_agreement(*logs)
    print_theory(gflop)


@contextmanager
def checked_out(commit: str, folder: Path) -> Generator[Path, None, None]:
    tree, git = folder / "tree", ("git", "-C", str(ROOT), "worktree")
    subprocess.run([*git, "add", "--detach", str(tree), commit], check=True, capture_output=True)
    try:
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True, capture_output=True)


def measure(tree: Path, out: Path, num_steps: int) -> list[float]:
    """The processor seconds of each step, in a process of its own."""
    return run_apart(tree, out.parent, "--steps", str(num_steps), "--side", str(tree), str(out))


def run_apart(tree: Path, folder: Path, *arguments: str) -> list[float]:
    """Run this file in a process of its own, with the `p2r` of a tree, and read the numbers that it prints."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    if done.returncode:
        raise SystemExit(f"{tree} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_side(tree: Path, out: Path, num_steps: int) -> list[float]:
    """The processor seconds of each step, with the `p2r` of the path."""
    clock = [time.process_time()]

    def note(*_: object, **__: object) -> None:
        clock.append(time.process_time())

    train_nano(tree, out, num_steps, note)
    return [end - begin for begin, end in pairwise(clock)]


def count_gflop(out: Path) -> list[float]:
    """10^9 operations of one step of each role: two for each multiplication of matrix products and attention."""
    import asyncio

    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode

    counts = [0.0]

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(
            self,
            func: Callable[..., object],
            types: object,
            args: tuple[Any, ...] = (),
            kwargs: Mapping[str, Any] | None = None,
        ) -> object:
            name = func.__name__.partition(".")[0]
            tensors = [each for each in args if isinstance(each, Tensor)]
            if name in ("linear", "mm", "bmm", "addmm"):
                left, right = tensors[name == "addmm" :][:2]
                counts[-1] += 2 * left.numel() * (right.shape[0] if name == "linear" else right.shape[-1]) / 1e9
            elif "scaled_dot_product" in name:
                is_backward = "backward" in name
                query, key = tensors[is_backward : is_backward + 2]
                counts[-1] += (10 if is_backward else 4) * query.numel() * key.shape[-2] / 1e9
            return func(*args, **kwargs or {})

    async def stay(function: Callable[..., object], *args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    def note(*_: object, **__: object) -> None:
        counts.append(0.0)

    asyncio.to_thread = stay  # a counter counts in its own thread alone
    with Counter():
        train_nano(ROOT, out, 1, note)
    return counts[1:4:2]


def train_nano(tree: Path, out: Path, num_steps: int, note: Callable[..., None]) -> None:
    """Train both roles; `note` is called after each step. In older commits `train` is asynchronous."""
    import asyncio

    from p2r.config import load_recipe
    from p2r.training.train import Watcher, train

    recipe = tree / "recipes" / "nano" / "pra_grpo.toml"
    steps = ", ".join(f'{{role="{role}", steps={1 + num_steps}, lr={RATE}}}' for role in ROLES)
    changes = [f"schedule=[{steps}]", f"model.source={ROOT / 'src/p2r/models/nano/base'}", f"out={out}"]
    changes += ["data.num_rows=400", "probe.num=1", "checkpoint.every=1000"]
    if "dual_clip" in recipe.read_text(encoding="utf-8"):
        changes += ["loss.dual_clip=0", "loss.clamp=false"]

    def ignore(*_: object) -> None:
        pass

    watcher = Watcher(say=ignore, step=note, probe=ignore)
    running = train(load_recipe(recipe, changes), watcher=watcher)
    if inspect.iscoroutine(running):
        asyncio.run(running)


def read_steps(out: Path) -> list[Mapping[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def print_result(seconds: Mapping[str, list[list[float]]], num_steps: int) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, {platform.machine()}, 1 thread")
    print(f"{'processor seconds of a step':30}" + "".join(f"{side:>10}" for side in seconds) + "     ratio")
    for place, role in enumerate(ROLES):
        first = place * (1 + num_steps) + 1
        medians = [
            statistics.median(step for turn in turns for step in turn[first : first + num_steps])
            for turns in seconds.values()
        ]
        print(f"{role:30}" + "".join(f"{each:10.2f}" for each in medians) + f"{medians[1] / medians[0]:10.2f}")


def print_agreement(before: list[Mapping[str, float]], here: list[Mapping[str, float]]) -> None:
    print(f"\nlargest difference in {len(here)} steps")
    for name in COMPARED:
        apart = max(abs(old[name] - new[name]) for old, new in zip(before, here, strict=True))
        size = math.fsum(abs(step[name]) for step in here) / len(here)
        print(f"{name:30}{apart:10.2g}  of {size:.4g}")


def print_theory(gflop: list[float]) -> None:
    import torch

    torch.set_num_threads(1)
    left, right = torch.ones(1024, 1024), torch.ones(1024, 1024)
    seconds: list[float] = []
    for _ in range(20):
        begin = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - begin)
    rate = 2 * 1024**3 / min(seconds) / 1e9
    print(f"\n{'arithmetic of a step':30}{'GFLOP':>10}{'seconds':>10}  at {rate:.0f} GFLOP/s")
    for role, count in zip(ROLES, gflop, strict=True):
        print(f"{role:30}{count:10.0f}{count / rate:10.2f}")


if __name__ == "__main__":
    main()
