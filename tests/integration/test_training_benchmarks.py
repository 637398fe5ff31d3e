"""The training benchmarks (B1, B2, B3, B6, B7) at a small size: they run, and find what their pages say."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.speed_verl import REST, Meter
from tests.fakes import stock_torchvision
from tests.fakes.processes import Fork, finish

pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
LONGEST_WAIT_S = 900.0

pytestmark = pytest.mark.slow


def run(benchmark: str, *options: str) -> list[str]:
    return finish(Fork(start_benchmark, benchmark, options), longest_wait_s=LONGEST_WAIT_S).splitlines()


def start_benchmark(benchmark: str, options: Sequence[str]) -> None:
    os.chdir(ROOT)
    sys.argv = [benchmark, *options]
    runpy.run_module(f"benchmarks.{benchmark.removesuffix('.py')}", run_name="__main__")


def find_row(lines: list[str], name: str) -> list[str]:
    return next(line for line in lines if line.startswith(name)).removeprefix(name).split()


def test_packed_rows_and_repeated_ones_have_the_same_log_probs_and_gradients() -> None:
    options = ["--prompts=96", "--responses=6", "--group=3", "--runs=1", "--peer=stock", "--dtype=float64"]
    header, figures = run("speed_training.py", *options)[-2:]
    logprobs, gradient = map(float, figures.split()[-2:])
    assert header.split()[-2:] == ["log-probs", "gradient"]
    assert 0 <= logprobs < 1e-10
    assert 0 < gradient < 1e-6


@pytest.mark.skipif(
    not (find_spec("trl") and stock_torchvision.HAS_TORCHVISION), reason="the peer needs trl and torchvision"
)
def test_the_step_that_is_timed_has_the_same_loss_and_gradient_norm_in_trl() -> None:
    options = ("--prompts=1", "--group=8", "--visual=64", "--response=6", "--steps=1")
    # Not in a fork, which has imported transformers: torchvision must come before it.
    command = [sys.executable, "-m", "benchmarks.speed_step", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    theirs, ours = map(float, find_row(lines, "loss"))
    assert abs(theirs) > 1e-4
    assert ours == pytest.approx(theirs, rel=1e-4)
    theirs, ours = map(float, find_row(lines, "gradient norm"))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_the_reward_stage_that_is_timed_is_exact_and_asks_each_box_set_once() -> None:
    lines = run("speed_reward.py", "--sizes=4K", "--rows=1", "--group=4", "--unique=0.5", "--slowdown=0.05")
    assert any("same rewards" in line for line in lines)
    assert find_row(lines, "calls")[:2] == ["4", "2"]
    lossy, exact = find_row(lines, "PSNR, dB")
    assert exact == "exact"
    assert float(lossy) < 50


def test_a_group_that_shares_its_prefill_has_the_replies_of_repeated_rows() -> None:
    options = ["--prompt=96", "--prompts=2", "--rollouts=3", "--tokens=8", "--runs=1", "--dtype=float64"]
    assert run("speed_generation.py", *options)[-1] == "6 of 6 replies are equal"


def test_both_phases_of_a_recipe_run_at_a_models_size_without_its_weights() -> None:
    recipe = str(ROOT / "recipes" / "qwen3_vl_4b" / "pra_grpo_lora.toml")
    options = ["--rows=1", "--steps=1", "--perceiver-tokens=4", "--reasoner-tokens=4", "--set=model.max_pixels=65536"]
    lines = run("speed_phases.py", recipe, "--size=tiny", *options)
    for phase, part in (("perceiver", "judge"), ("reasoner", "perceive")):
        assert any(line.startswith(f"{phase}: ") for line in lines)
        assert any(f"{part} " in line and "backward " in line for line in lines)
    assert lines[-1].startswith("both phases on 10,000 rows: ")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processor time is read from /proc")
def test_the_processor_time_of_all_that_a_run_starts_is_counted_by_role() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    below = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}, 'Agent' + 'Loop'])"
    with subprocess.Popen([sys.executable, "-c", below], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        meter = Meter(process.pid)
        process.stdout.readline()
        before = meter.read()
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.wait()
    after = meter.read()
    assert 0.4 < before["loops"] <= after["loops"] < 5
    assert [*after] == [REST, "loops"] and after[REST] < 5


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processor time is read from /proc")
def test_a_process_that_has_ended_keeps_its_role() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", "AgentLoop"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        meter = Meter(process.pid)
        assert [*meter.read()] == ["loops"]
        process.stdin.write(b"\n")
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has no command line now
        assert [*meter.read()] == ["loops"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processor time is read from /proc")
def test_our_own_steps_are_divided_into_rollouts_and_updates() -> None:
    lines = run("speed_verl.py", "own", "--steps=2", "--rows=2", "--group=2")
    assert [line.split(":")[0] for line in lines if line[0] != " "] == ["0-perceiver", "1-reasoner"]
    for first in (0, 4):
        assert "1 steps, 4 rollouts" in lines[first]
        rollouts, update, both = (find_row(lines[first + 1 :], name)[0] for name in ("  rollouts", "  update", "  all"))
        assert float(rollouts) >= 0 and float(update) >= 0  # a step may be over before it is looked at
        assert float(both) == pytest.approx(float(rollouts) + float(update), abs=2e-3)


def test_a_split_model_takes_little_more_memory_while_it_is_loaded_than_after_it() -> None:
    lines = run("memory_load.py", "--megabytes=60", "--processes=2")
    rows = [line.split() for line in lines if line.startswith(("bfloat16", "float32"))]
    assert [row[2] for row in rows] == ["1", "2"] * 4
    for _, _, num_processes, in_files, own, theory, *_ in rows:
        spare = 20 if num_processes == "2" else 0  # MB that the allocator keeps
        assert float(own) < float(theory) + spare, f"of a model of {in_files} MB"
