"""Flags of `p2r study` that do not go together, and what its plan prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from p2r.cli.app import app
from p2r.studies.plan import UNKNOWN_MINUTES
from tests.fakes.studies import make_study


def run(folder: Path, *flags: str) -> Result:
    make_study(folder)
    return CliRunner().invoke(app, ["study", str(folder / "study.toml"), *flags])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--trial"], "--trial says how to plan, and nothing is planned"),
        (["--tflops", "400"], "--tflops says how to plan"),
        (["--rows", "10"], "--rows says how to plan"),
        (["--plan", "--tflops", "0"], "--tflops is 0: it must be at least 0.001"),
        (["--plan", "--tflops", "inf"], "--tflops is inf: it must be finite"),
        (["--plan", "--rows", "0"], "--rows is 0: it must be at least 1"),
        (["--plan", "--resume"], "--plan runs nothing, and --resume has no use beside it"),
        (["--plan", "--page-only"], "--plan runs nothing, and --page-only has no use beside it"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(tmp_path: Path, flags: list[str], said: str) -> None:
    result = run(tmp_path, *flags)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split()) and "hint: " in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_plan_is_printed_and_nothing_is_written(tmp_path: Path) -> None:
    result = run(tmp_path, "--plan")
    assert result.exit_code == 0, result.stderr
    assert " ".join(result.stdout.split()).count(UNKNOWN_MINUTES) == 1
    assert not (tmp_path / "out").exists()
