"""A run that is killed at random moments and started again: nothing is lost, nothing is asked twice."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.fakes.processes import Fork, finish, kill_many_times
from tests.fakes.slow_eval import NAME, evaluate_slowly

NUM_SAMPLES = 150
LONGEST_WAIT_S = 600.0
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


def start(questions: Path, out: Path) -> Fork:
    return Fork(evaluate_slowly, f"folder:{questions}", "--out", str(out), "--num-at-once", "3")


def find_traces(out: Path) -> Path:
    return out / "folder" / "p2r" / "traces.jsonl"


def draw_moment(out: Path, draw: random.Random) -> Callable[[], bool]:
    """After so many further bytes of traces."""
    traces = find_traces(out)
    wanted = (traces.stat().st_size if traces.exists() else 0) + draw.randrange(MOST_BYTES)
    return lambda: traces.exists() and traces.stat().st_size > wanted


def compare_killed_runs(questions: Path, tmp_path: Path, *, num_kills: int) -> None:
    whole = finish(start(questions, tmp_path / "whole"), longest_wait_s=LONGEST_WAIT_S)
    killed = kill_many_times(
        tmp_path,
        partial(start, questions),
        draw_moment,
        num_kills=num_kills,
        most_kills_a_run=MOST_KILLS_A_RUN,
        longest_delay_s=0.004,
        longest_wait_s=LONGEST_WAIT_S,
    )
    for out, table in killed:
        assert table == whole
        lines = [json.loads(line) for line in find_traces(out).read_text().splitlines()]
        assert sorted(line["sample_id"] for line in lines) == sorted(f"q{k}" for k in range(NUM_SAMPLES))
        assert {line["reasoning"]["model"] for line in lines} == {NAME}


def test_a_run_killed_ten_times_gives_the_same_table(questions: Path, tmp_path: Path) -> None:
    compare_killed_runs(questions, tmp_path, num_kills=10)


@pytest.mark.very_slow
def test_a_hundred_kills_lose_and_repeat_nothing(questions: Path, tmp_path: Path) -> None:
    compare_killed_runs(questions, tmp_path, num_kills=100)


@pytest.mark.parametrize(
    ("sign", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "asked to end by SIGTERM")],
)
def test_a_signal_keeps_what_was_answered_and_says_how_to_go_on(
    questions: Path, tmp_path: Path, sign: signal.Signals, code: int, said: str
) -> None:
    process = start(questions, tmp_path / "runs")
    traces = find_traces(tmp_path / "runs")
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not traces.exists() or traces.stat().st_size < 5_000:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(sign)
    _, errors = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == code
    assert f"{said}; what was answered is kept" in errors and "the same command resumes" in errors
    kept = [json.loads(line) for line in traces.read_text().splitlines()]
    assert 0 < len(kept) < NUM_SAMPLES
