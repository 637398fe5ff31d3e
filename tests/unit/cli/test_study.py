"""Flags of `p2r study` that do not go together, and what its plan prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from p2r.cli.app import app
from p2r.studies.plan import UNKNOWN_MINUTES
from p2r.studies.run import STUDY_FILE
from tests.fakes.studies import make_study, write_answers


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


def test_a_page_of_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path, "--page-only")
    assert result.exit_code == 1
    assert "holds no study" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_page_is_written_of_what_is_there_and_says_what_is_missing(tmp_path: Path) -> None:
    study = make_study(tmp_path, '\n[arms.idle]\nrecipe = "nano"\n')
    write_answers(study, "start", None, [True, False])
    (study.out / STUDY_FILE).write_text(study.model_dump_json(), encoding="utf-8")
    result = CliRunner().invoke(app, ["study", str(tmp_path / "study.toml"), "--page-only"])
    assert result.exit_code == 0, result.stderr
    page = (study.out / "study.html").read_text(encoding="utf-8")
    for problem in (
        "1 of 7 jobs are finished: every number is preliminary.",
        "No claim, table or chart needs the arm idle: left out.",
    ):
        assert problem in page and problem in result.stderr
    assert "not measured yet" in page
    assert "Of 1 claim: 1 is not measured yet." in result.stdout


def test_a_plan_names_what_is_left_out(tmp_path: Path) -> None:
    assert "No claim, table or chart needs the arm first" in " ".join(run(tmp_path, "--plan").stdout.split())
