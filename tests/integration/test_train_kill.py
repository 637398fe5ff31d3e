"""`p2r train`, killed at random moments and resumed: figures and weights are those of the run that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import heed_ctrl_c
from test_train_resume import assert_same
from tiny_training import PERCEIVER_STEPS, REASONER_STEPS, make_recipe

pytestmark = pytest.mark.slow

LONGEST_WAIT_S = 900.0
MOST_KILLS_A_RUN = 6
NUM_STEPS = PERCEIVER_STEPS + REASONER_STEPS


def start(out: Path, *options: str) -> subprocess.Popen[str]:
    recipe = out.with_suffix(".json")
    recipe.write_text(make_recipe(out, ["checkpoint.every=1"]).model_dump_json())
    command = [sys.executable, "-m", "p2r", "train", str(recipe), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c)


def finish(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == 0, stderr
    return stdout


def count_steps(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def start_or_resume(out: Path) -> subprocess.Popen[str]:
    return start(out, *(["--resume"] if (out / "recipe.json").exists() else []))


def kill_many_times(folder: Path, *, num_kills: int) -> None:
    whole = folder / "whole"
    finish(start(whole))
    draw = random.Random(num_kills)
    num_killed = rounds = 0
    while num_killed < num_kills:
        rounds += 1
        out = folder / f"killed{rounds}"
        for _ in range(min(MOST_KILLS_A_RUN, num_kills - num_killed)):
            process = start_or_resume(out)
            wanted, deadline = count_steps(out) + draw.randrange(3), time.monotonic() + LONGEST_WAIT_S
            while process.poll() is None and not (out.exists() and count_steps(out) >= wanted):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(draw.random() * 0.5)
            process.kill()
            process.communicate()
            if process.returncode == 0:  # it was done before the moment came
                break
            num_killed += 1
        finish(start_or_resume(out))
        assert_same(out, whole)


def test_a_run_killed_twice_is_that_of_an_undisturbed_one(tmp_path: Path) -> None:
    kill_many_times(tmp_path, num_kills=2)


@pytest.mark.skipif(os.environ.get("P2R_SLOW") != "1", reason="takes ten minutes; set P2R_SLOW=1")
def test_thirty_kills_change_nothing(tmp_path: Path) -> None:
    kill_many_times(tmp_path, num_kills=30)


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out)
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not count_steps(out):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == 130
    assert "interrupted; the last checkpoint is kept" in errors and "--resume" in errors
    assert json.loads((out / "recipe.json").read_text())["seed"] == 0
