"""`p2r train --processes 2`: what torchrun starts, with one voice and the right exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.fakes.given_group import train_in_given_group
from tests.fakes.processes import Fork, finish
from tests.fakes.tiny_training import make_recipe, read_metrics
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


def test_a_group_that_exists_trains_together_and_is_left(tmp_path: Path) -> None:
    for process in [Fork(train_in_given_group, tmp_path, rank) for rank in (0, 1)]:
        finish(process, longest_wait_s=LONGEST_WAIT_S)
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [{"ranks": [0, 1]}] * 2
    rows = read_metrics(tmp_path / "run")
    assert [(row["phase"], row["num_rows"]) for row in rows] == [("0-perceiver", 2), ("1-reasoner", 2)]
    parts = {part.name for part in (tmp_path / "run" / "checkpoints").rglob("*.pt")}
    assert parts == {"part-0.pt", "part-1.pt"}
