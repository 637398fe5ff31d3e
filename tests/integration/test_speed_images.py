"""The speed script runs and finds no difference between ours and the plain way."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest


def test_speed_script_prints_a_row_for_each_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # the script sets them for its own process
        monkeypatch.setenv(name, "1")
    script = import_module("benchmarks.speed_images")
    monkeypatch.setattr(script, "SIZES", {"small": (1200, 900)})
    monkeypatch.setattr(script, "find_spec", lambda name: None)  # leave the patchify rows out, they need torch
    monkeypatch.setattr(sys, "argv", ["speed_images.py", "--runs", "1", "--max-tokens", "256"])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    for step in ("decode", "annotate + resize, 1 box", "annotate + resize, 3 boxes", "both stages"):
        row = next(line for line in lines if line.startswith(step))
        assert row.split()[-1] == "0"
    assert any("Pillow" in line for line in lines)
    assert any("install perceive-to-reason[local]" in line for line in lines)
