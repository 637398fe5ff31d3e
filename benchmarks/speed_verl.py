"""Processor seconds of a step by verl and in p2r itself, on the same rows of nano, by what they are spent on.

    python -m benchmarks.speed_verl own [--steps 4] [--rows 8] [--group 8]
    python -m benchmarks.speed_verl verl (the same options)

Both train `nano-base` in float32 with the same recipe, a perceiver phase and a reasoner phase, and the same rows. The
first step of a phase loads and compiles, and is not counted. Every half second the processor time of all processes that
the run has started is read from /proc, so what else the machine does hardly matters. By verl each kind of process has a
task of its own: vLLM samples, FSDP workers compute log-probs and update, loops walk and judge, `vllm serve` is the
frozen role, and the rest is Ray and the trainer. In p2r itself one process does everything, and its seconds are divided
as its own stopwatch divides the steps.

`make .venv/.verl` puts verl where this looks for it. It runs with two ranks and two engines, on the CPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from p2r.cli.guard import run_script
from p2r.runs.training_log import Step, read_rows
from tests.fakes.verl_on_cpu import ENGINE_ARGUMENTS, ENVIRONMENT, PYTHON

RECIPE = """
out = "run"
schedule = [{{ role = "perceiver", steps = {steps}, lr = 1e-4 }}, {{ role = "reasoner", steps = {steps}, lr = 2e-5 }}]
model = {{ source = "nano-base", device = "cpu", dtype = "float32", gradient_checkpointing = false }}
data = {{ num_rows = {num_rows}, max_prompt_tokens = {{ perceiver = 512, reasoner = 512 }} }}
rollout = {{ group_size = {group}, prompts_per_step = {rows}, max_new_tokens = {{ perceiver = 96, reasoner = 64 }} }}
[partner]
max_new_tokens = 64
{partner}
"""
SERVED = """
kind = "endpoint"
url = "http://127.0.0.1:{port}/v1#frozen"
launch = "{serve} serve {{checkpoint}} --port {{port}} --served-model-name frozen --dtype float32 --max-model-len 1024"
"""
ROLES = (
    ("vllm serve", "frozen role"),
    ("VLLM::EngineCore", "sampling"),
    ("vLLMHttpServer", "sampling"),
    ("AgentLoop", "loops"),
    ("WorkerDict", "log-probs and update"),
    ("TrainingWorker", "log-probs and update"),
    ("ActorRollout", "log-probs and update"),
)
"""What a process is for, by a part of its command line."""
REST = "Ray and the trainer"
TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """Adds up the processor seconds of a process and of all that it has started, by their role."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._known: dict[tuple[int, str], tuple[str, float]] = {}  # role and seconds by process

    def read(self) -> Counter[str]:
        """Processor seconds so far by role. A process that has ended counts as it was last seen."""
        parents: dict[int, tuple[int, str, float]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = (int(fields[1]), fields[19], (int(fields[11]) + int(fields[12])) / TICKS)
        pids = {pid for pid, (_, began, _) in parents.items() if pid == self._root or (pid, began) in self._known}
        while found := {pid for pid, (parent, _, _) in parents.items() if parent in pids and pid not in pids}:
            pids |= found
        for pid in sorted(pids):  # mostly what started a process comes before it
            parent, began, seconds = parents[pid]
            known = self._known.get((pid, began))  # a process that has just ended has no command line
            if known is None and parent in parents:
                known = self._known.get((parent, parents[parent][1]))
            self._known[pid, began] = (_find_role(pid, known[0] if known else REST), seconds)
        sums = Counter[str]()
        for role, seconds in self._known.values():
            sums[role] += seconds  # pyright: ignore[reportArgumentType]  # seconds are floats
        return sums


def _find_role(pid: int, before: str) -> str:
    """What a process is for: as its command line says, or as before, or what started it is for."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return before
    if before == "frozen role":
        return before
    return next((role for part, role in ROLES if part in command), before)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("engine", choices=("own", "verl"))
    parser.add_argument("--steps", type=int, default=4, help="of each phase, of which the first is not counted")
    parser.add_argument("--rows", type=int, default=8, help="a step")
    parser.add_argument("--group", type=int, default=8, help="rollouts of a row")
    parser.add_argument("--port", type=int, default=8765, help="of the frozen role")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        is_own, serve = given.engine == "own", PYTHON.with_name("vllm")
        partner = "" if is_own else SERVED.format(port=given.port, serve=serve)
        told = {"steps": given.steps, "rows": given.rows, "group": given.group, "num_rows": given.steps * given.rows}
        (Path(name) / "recipe.toml").write_text(RECIPE.format(**told, partner=partner))
        command = [sys.executable if is_own else str(PYTHON), "-m", "p2r", "train", "recipe.toml"]
        command += [] if is_own else ["--engine", "verl", "--gpus", "2", *ENGINE_ARGUMENTS]
        env = None if is_own else ENVIRONMENT
        follow(subprocess.Popen(command, cwd=name, env=env, stdout=sys.stderr), Path(name) / "run", is_own)


def follow(process: subprocess.Popen[bytes], run: Path, is_own: bool) -> None:
    """Watch a run to its end, and print what each of its phases took."""
    meter, marks = Meter(process.pid), list[Counter[str]]()
    while process.poll() is None:
        seconds = meter.read()
        log = run / "metrics.jsonl"
        steps = read_rows(log, Step) if log.exists() else []
        marks += [seconds] * (len(steps) - len(marks))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"the run ended with code {process.returncode}")
    steps = read_rows(run / "metrics.jsonl", Step)
    marks += [meter.read()] * (len(steps) - len(marks))
    for phase in dict.fromkeys(step.phase for step in steps):
        places = [place for place, step in enumerate(steps) if step.phase == phase]
        first, last = places[0], places[-1]
        counted, spent = [steps[place] for place in places[1:]], marks[last] - marks[first]
        print_phase(phase, divide(spent, counted) if is_own else spent, counted)


def divide(spent: Counter[str], steps: list[Step]) -> Counter[str]:
    """The seconds of a process that does everything, by the parts of its steps."""
    rollout = sum(step.timing["rollout"] for step in steps)
    share, total = rollout / sum(step.timing["seconds"] for step in steps), spent.total()
    return Counter({"rollouts": total * share, "update": total * (1 - share)})


def print_phase(phase: str, spent: Counter[str], steps: list[Step]) -> None:
    rollouts, tokens = sum(step.num_rollouts for step in steps), sum(step.num_generated_tokens for step in steps)
    print(f"{phase}: {len(steps)} steps, {rollouts} rollouts, {tokens / rollouts:.1f} tokens each")
    for role, seconds in spent.most_common():
        print(f"  {role:24} {seconds / rollouts:8.3f} processor seconds a rollout")
    print(f"  {'all':24} {spent.total() / rollouts:8.3f}", flush=True)


if __name__ == "__main__":
    run_script(main)
