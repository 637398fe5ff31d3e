"""A training run that is killed again and again, beside one that was left alone: the same to the bit, or not.

    p2r train recipes/nano/pra_grpo.toml --set out=runs/whole
    python -m benchmarks.kill_training recipes/nano/pra_grpo.toml --whole runs/whole --out runs/killed --kills 30

The second command starts the same recipe, saving every step, and ends it with SIGKILL after a random number of steps
and a random part of one (loading, probing and saving among them), then resumes it, until it was killed so often; then
it lets it end. Compared are every figure of every step and probe but the clock's, and all weights that each phase
leaves. Threads must be as many in both (OMP_NUM_THREADS), since sums are rounded in another order otherwise. Exit 1:
they differ.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from p2r.cli.guard import run_script
from p2r.files import read_log
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training import METRICS_FILE, PROBES_FILE

LOGS = (METRICS_FILE, PROBES_FILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--whole", type=Path, required=True, help="a finished run of the recipe")
    parser.add_argument("--out", type=Path, required=True, help="where the killed run goes")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="as the whole run had them")
    arguments = parser.parse_args()
    num_steps = len(read_log(arguments.whole / METRICS_FILE))
    command = [sys.executable, "-m", "p2r", "train", str(arguments.recipe), f"--set=out={arguments.out}"]
    command += ["--set=checkpoint.every=1", *(f"--set={change}" for change in arguments.set)]
    started = time.monotonic()
    moments = kill_many_times(command, arguments.out, num_steps, arguments.kills, random.Random(arguments.seed))
    subprocess.run(resuming(command, arguments.out), check=True, stdout=subprocess.DEVNULL)
    print(f"{len(moments)} kills in {(time.monotonic() - started) / 60:.0f} minutes; steps done at each: ", end="")
    print(*moments)
    differing = compare(arguments.out, arguments.whole)
    print(f"{num_steps} steps: " + ("; ".join(differing) or "every figure and all weights are equal to the bit"))
    sys.exit(1 if differing else 0)


def kill_many_times(command: list[str], out: Path, num_steps: int, num_kills: int, draw: random.Random) -> list[int]:
    """How many steps were done when each kill came."""
    moments: list[int] = []
    while len(moments) < num_kills:
        left = num_kills - len(moments)
        done = count_steps(out)
        wanted = done + draw.randrange(1 + max(1, 2 * (num_steps - 1 - done) // (left + 1)))
        process = subprocess.Popen(resuming(command, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None and count_steps(out) < wanted:
            time.sleep(0.01)
        deadline = time.monotonic() + 20 * draw.random()
        while process.poll() is None and time.monotonic() < deadline and count_steps(out) < num_steps - 1:
            time.sleep(0.01)
        process.kill()
        _, said = process.communicate()
        if process.returncode >= 0:
            raise SystemExit(f"the run ended by itself, after {len(moments)} kills: {said.decode()[-2000:]}")
        moments.append(count_steps(out))
        print(f"kill {len(moments)} of {num_kills}, {moments[-1]} steps done", file=sys.stderr, flush=True)
    return moments


def resuming(command: list[str], out: Path) -> list[str]:
    return [*command, "--resume"] if (out / RECIPE_FILE).exists() else command


def count_steps(out: Path) -> int:
    path = out / METRICS_FILE
    return path.read_bytes().count(b"\n") if path.exists() else 0


def read_figures(path: Path) -> list[dict[str, object]]:
    """The rows of a log, without what the clock said."""
    return [{name: value for name, value in row.items() if name != "timing"} for row in read_log(path)]


def compare(out: Path, whole: Path) -> list[str]:
    """What differs."""
    differing = [f"{name} differs" for name in LOGS if read_figures(out / name) != read_figures(whole / name)]
    folders = sorted(path.parent.name for path in whole.glob("[0-9]*-*/model.safetensors"))
    for folder in folders:
        ours, theirs = (load_file(run / folder / "model.safetensors") for run in (out, whole))
        same = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        differing += [] if same else [f"the weights of {folder} differ"]
    return differing if folders else [f"{whole} has no finished phase"]


if __name__ == "__main__":
    run_script(main)
