"""Needles written in V*'s layout for lmms-eval are asked there as V* itself is: by its own function."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from p2r.benchmarks.needles import Needles
from p2r.benchmarks.vstar_write import write_vstar_lmms
from tests.fakes import guest_tools

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
import pyarrow.parquet as pq
from lmms_eval.tasks.vstar_bench.utils import vstar_doc_to_text
print(json.dumps([vstar_doc_to_text(row, {}) for row in pq.read_table(sys.argv[1], columns=["text"]).to_pylist()]))
"""


def test_lmms_eval_finds_the_question_and_its_options(tmp_path: Path) -> None:
    guest_tools.require("lmms_eval", "lmms_eval.models")
    samples = list(Needles(seed=9, num_samples=6, forms=("choice",)))
    write_vstar_lmms(samples, tmp_path / "test.parquet")
    path = f"{guest_tools.GUESTS / 'lmms_eval'}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "test.parquet")],
        env={"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for text, sample in zip(json.loads(done.stdout.splitlines()[-1]), samples, strict=True):
        lines = text.split("\n")
        assert lines[0] == sample.question
        assert lines[1 : 1 + len(sample.options)] == [
            f"{letter}. {option}" for letter, option in zip("ABCD", sample.options, strict=False)
        ]
