"""`p2r train --processes 2`: what torchrun starts, with one voice and the right exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.fakes.tiny_training import make_recipe
from tests.integration.test_train_kill import LONGEST_WAIT_S, wait_for_a_step

pytestmark = pytest.mark.slow


def start(out: Path, *options: str) -> subprocess.Popen[str]:
    path = out.with_suffix(".json")
    path.write_text(make_recipe(out, ["checkpoint.every=1000", "probe.num=1"]).model_dump_json())
    command = [sys.executable, "-m", "p2r", "train", str(path), "--processes", "2", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_signal_reaches_all_processes_which_stop_together_and_can_be_resumed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out)
    wait_for_a_step(out, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == 143, errors
    assert errors.count("is kept in") == 1 and "Traceback" not in errors
    process = start(out, "--resume")
    printed, errors = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == 0, errors
    assert printed.splitlines() == [str(out / "0-perceiver"), str(out / "1-reasoner")]
    assert errors.count("phase 1-reasoner: steps") == 1


def test_an_error_is_said_once(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "--set", "rollout.prompts_per_step=3")
    _, errors = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == 1
    assert errors.count("error:") == 1 and "3 prompts a step cannot be shared by 2 processes" in errors
    assert "Traceback" not in errors
