"""The benchmarks B2 and B3 at a small size: they run, and what they time finds the same."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import stock_torchvision

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(benchmark: str, *options: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / benchmark), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def find_row(lines: list[str], name: str) -> list[str]:
    return next(line for line in lines if line.startswith(name)).removeprefix(name).split()


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("P2R_SLOW") != "1", reason="half a minute; set P2R_SLOW=1")
@pytest.mark.skipif(
    not (find_spec("trl") and stock_torchvision.HAS_TORCHVISION), reason="the peer needs trl and torchvision"
)
def test_the_step_that_is_timed_has_the_same_loss_and_gradient_norm_in_trl() -> None:
    lines = run("speed_step.py", "--prompts=1", "--group=8", "--visual=64", "--response=6", "--steps=1")
    theirs, ours = map(float, find_row(lines, "loss"))
    assert abs(theirs) > 1e-4
    assert ours == pytest.approx(theirs, rel=1e-4)
    theirs, ours = map(float, find_row(lines, "gradient norm"))
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("P2R_SLOW") != "1", reason="half a minute; set P2R_SLOW=1")
def test_the_reward_stage_that_is_timed_is_exact_and_asks_each_box_set_once() -> None:
    lines = run("speed_reward.py", "--sizes=4K", "--rows=2", "--group=4", "--unique=0.5", "--slowdown=0.05")
    assert any("same rewards" in line for line in lines)
    assert find_row(lines, "calls")[:2] == ["8", "4"]
    lossy, exact = find_row(lines, "PSNR, dB")
    assert exact == "exact"
    assert float(lossy) < 50
