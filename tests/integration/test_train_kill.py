"""`p2r train`, killed at random moments and resumed: figures and weights are those of the run that nobody disturbed."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.processes import Fork, finish, fork_command, kill_many_times
from tests.fakes.tiny_training import PERCEIVER_STEPS, REASONER_STEPS, make_recipe
from tests.integration.test_train_resume import assert_same

LONGEST_WAIT_S = 900.0
MOST_KILLS_A_RUN = 6
NUM_STEPS = PERCEIVER_STEPS + REASONER_STEPS


def start(out: Path, *options: str) -> Fork:
    recipe = out.with_suffix(".json")
    recipe.write_text(make_recipe(out, ["checkpoint.every=1"]).model_dump_json())
    return fork_command("train", str(recipe), *options)


def count_steps(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_a_step(out: Path, process: Fork | subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not count_steps(out):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)


def start_or_resume(out: Path) -> Fork:
    return start(out, *(["--resume"] if (out / "recipe.json").exists() else []))


def draw_moment(out: Path, draw: random.Random) -> Callable[[], bool]:
    """After so many further steps."""
    wanted = count_steps(out) + draw.randrange(3)
    return lambda: out.exists() and count_steps(out) >= wanted


def compare_killed_runs(folder: Path, *, num_kills: int) -> None:
    whole = folder / "whole"
    finish(start(whole), longest_wait_s=LONGEST_WAIT_S)
    killed = kill_many_times(
        folder,
        start_or_resume,
        draw_moment,
        num_kills=num_kills,
        most_kills_a_run=MOST_KILLS_A_RUN,
        longest_delay_s=0.5,
        longest_wait_s=LONGEST_WAIT_S,
    )
    for out, _ in killed:
        assert_same(out, whole)


@pytest.mark.slow
def test_a_run_killed_twice_is_that_of_an_undisturbed_one(tmp_path: Path) -> None:
    compare_killed_runs(tmp_path, num_kills=2)


@pytest.mark.very_slow
def test_thirty_kills_change_nothing(tmp_path: Path) -> None:
    compare_killed_runs(tmp_path, num_kills=30)
