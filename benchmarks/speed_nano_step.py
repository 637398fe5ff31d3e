"""Processor seconds of nano's training steps, of another commit and of this one side by side, and whether they agree.

    python -m benchmarks.speed_nano_step [--before 6993c7b] [--steps 2] [--rounds 2]

Each side runs `p2r.train` with recipes/nano/pra_grpo.toml, both phases, in a process of its own with one thread; the
other commit is checked out beside this one for as long as it takes. The two take turns. A step counts from the end of
the step before, whatever happens in between; each phase's first is left out, because it loads the model. "CPU" is the
time of the process, which neighbors change little.

The learning rate is so low that no weight moves by more than rounding, so that both sides sample the same in all steps,
and the clamps of the loss, which the other commit did not have, are off. Rewards must be equal, and losses to rounding.
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
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

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
    arguments = parser.parse_args()
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
    print_result(seconds, arguments.steps)
    print_agreement(*logs)


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
    command = [sys.executable, __file__, "--steps", str(num_steps), "--side", str(tree), str(out)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        capture_output=True,
        text=True,
        check=False,
        cwd=out.parent,
    )
    if done.returncode:
        raise SystemExit(f"{tree} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_side(tree: Path, out: Path, num_steps: int) -> list[float]:
    """Train with the `p2r` of the path. Older commits have the same names, and an asynchronous `train`."""
    import asyncio

    from p2r.config import load_recipe
    from p2r.training.train import Watcher, train

    recipe = tree / "recipes" / "nano" / "pra_grpo.toml"
    steps = ", ".join(f'{{role="{role}", steps={1 + num_steps}, lr={RATE}}}' for role in ROLES)
    changes = [f"schedule=[{steps}]", "data.num_rows=400", "probe.num=1", "checkpoint.every=1000", f"out={out}"]
    if "dual_clip" in recipe.read_text(encoding="utf-8"):
        changes += ["loss.dual_clip=0", "loss.clamp=false"]
    clock = [time.process_time()]

    def note(*_: object, **__: object) -> None:
        clock.append(time.process_time())

    def ignore(*_: object) -> None:
        pass

    watcher = Watcher(say=ignore, step=note, probe=ignore)
    running = train(load_recipe(recipe, changes), watcher=watcher)
    if inspect.iscoroutine(running):
        asyncio.run(running)
    return [end - begin for begin, end in pairwise(clock)]


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


if __name__ == "__main__":
    main()
