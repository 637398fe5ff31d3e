"""A run that is killed at random moments and started again: nothing is lost, nothing is asked twice."""

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
from PIL import Image
from processes import heed_ctrl_c

DRIVER = Path(__file__).with_name("slow_eval.py")
NUM_SAMPLES = 150
LONGEST_WAIT_S = 60.0
MOST_KILLS_A_RUN = 10
MOST_BYTES = 20_000
"""Written at most before a kill: some twenty traces."""


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    for k in range(5):
        Image.new("RGB", (96, 64), (40 * k, 90, 120)).save(tmp_path / f"{k}.png")
    rows = [
        {
            "id": f"q{k}",
            "image": f"{k % 5}.png",
            "question": f"What is number {k}?",
            "options": ["a star", "a fish", "a sun"],
            "target": "ABC"[k % 3],
            "category": "even" if k % 2 else "odd",
            "boxes": [[10, 10, 40, 40]],
            "box_frame": "pixels",
        }
        for k in range(NUM_SAMPLES)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def start(questions: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(DRIVER), "eval", f"folder:{questions}", "--out", str(out), "--num-at-once", "3"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c)


def finish(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == 0, stderr
    return stdout


def kill_many_times(questions: Path, tmp_path: Path, *, num_kills: int) -> None:
    whole = finish(start(questions, tmp_path / "whole"))
    draw = random.Random(num_kills)
    num_killed = rounds = 0
    while num_killed < num_kills:
        rounds += 1
        out = tmp_path / f"killed{rounds}"
        traces = out / "folder" / "p2r" / "traces.jsonl"
        for _ in range(min(MOST_KILLS_A_RUN, num_kills - num_killed)):
            process = start(questions, out)
            before = traces.stat().st_size if traces.exists() else 0
            wanted = before + draw.randrange(MOST_BYTES)
            deadline = time.monotonic() + LONGEST_WAIT_S
            while process.poll() is None and (not traces.exists() or traces.stat().st_size <= wanted):
                assert time.monotonic() < deadline
                time.sleep(0.0005)
            time.sleep(draw.random() * 0.004)
            process.kill()
            process.communicate()
            if process.returncode == 0:  # it was done before the moment came
                break
            num_killed += 1
        assert finish(start(questions, out)) == whole
        lines = [json.loads(line) for line in traces.read_text().splitlines()]
        assert sorted(line["sample_id"] for line in lines) == sorted(f"q{k}" for k in range(NUM_SAMPLES))


def test_a_run_killed_ten_times_gives_the_same_table(questions: Path, tmp_path: Path) -> None:
    kill_many_times(questions, tmp_path, num_kills=10)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("P2R_SLOW") != "1", reason="takes minutes; set P2R_SLOW=1")
def test_a_hundred_kills_lose_and_repeat_nothing(questions: Path, tmp_path: Path) -> None:
    kill_many_times(questions, tmp_path, num_kills=100)


def test_ctrl_c_keeps_what_was_answered_and_says_how_to_go_on(questions: Path, tmp_path: Path) -> None:
    process = start(questions, tmp_path / "runs")
    traces = tmp_path / "runs" / "folder" / "p2r" / "traces.jsonl"
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not traces.exists() or traces.stat().st_size < 5_000:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == 130
    assert "interrupted; what was answered is kept" in errors and "the same command goes on" in errors
    kept = [json.loads(line) for line in traces.read_text().splitlines()]
    assert 0 < len(kept) < NUM_SAMPLES
