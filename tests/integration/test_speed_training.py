"""The benchmark B1 at a small size: it runs, and what it times computes the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "speed_training.py"


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("P2R_SLOW") != "1", reason="half a minute; set P2R_SLOW=1")
def test_both_sides_of_the_benchmark_compute_the_same() -> None:
    options = ["--prompts", "96", "--responses", "6", "--group", "3", "--runs", "1", "--peer", "stock"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *options, "--dtype", "float64"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    header, figures = done.stdout.splitlines()[-2:]
    logprobs, gradient = map(float, figures.split()[-2:])
    assert header.split()[-2:] == ["log-probs", "gradient"]
    assert 0 <= logprobs < 1e-10
    assert 0 < gradient < 1e-6
