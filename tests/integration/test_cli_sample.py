"""`p2r sample` with nano: what it finds, files, the histogram, and a kill in between."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("torch")

from p2r.benchmarks import load_benchmark
from p2r.cli.app import app, main
from p2r.runs.difficulty import KINDS, RowDifficulty
from p2r.runs.training_log import read_rows
from tests.fakes.processes import Fork
from tests.fakes.tiny_training import make_recipe, run

SAMPLING = ["--rollouts", "3", "--max-new-tokens", "32", "--temperature", "1.2"]


def start_and_stop(folder: Path, sign: signal.Signals, after: int) -> tuple[int | None, str]:
    """Sample in a process of its own, which gets a signal after so many rows; returns its exit code and stderr."""
    process = Fork(sample_and_stop, folder, sign, after)
    _, errors = process.communicate(timeout=900)
    return process.returncode, errors


def sample_and_stop(folder: Path, sign: signal.Signals, after: int) -> None:
    from p2r.cli import sample
    from p2r.training.rows import difficulty

    difficulty.CHUNK = 2  # rows at a time
    sample.tell_progress = lambda console, done, total: os.kill(os.getpid(), sign) if done == after else None
    sys.argv = ["p2r", "sample", "needles", "--num", "7", *SAMPLING, "--out", str(folder)]
    main()


def sample(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["sample", *arguments, *SAMPLING])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("sampled") / "out"
    return out, sample("needles", "--num", "7", "--out", str(out))


def test_rows_are_sorted_and_the_histogram_is_shown(whole: tuple[Path, Result]) -> None:
    out, result = whole
    found = read_rows(out / "rows.jsonl", RowDifficulty)
    piles = {kind: [row.id for row in found if row.kind == kind] for kind in KINDS}
    for kind, ids in piles.items():
        lines = (out / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["id"] for line in lines] == ids
    assert len(found) == 7 and piles["medium"] and piles["unjudged"] == []
    assert (out / "histogram.txt").read_text() in result.stdout
    counts = f"7 rows: {len(piles['easy'])} easy, {len(piles['medium'])} medium, {len(piles['hard'])} hard"
    assert f"{counts}; a file of each kind is in {out}" in result.stdout
    assert f"p2r train RECIPE --set data.source={out}/medium.jsonl" in result.stdout
    assert "7 of 7 rows of needles" in result.stderr


def test_the_rows_are_those_that_were_asked(whole: tuple[Path, Result]) -> None:
    out, _ = whole
    asked = {row.id: row for row in load_benchmark("needles", seed=1_000_000, num_samples=7)}
    medium = load_benchmark(out / "medium.jsonl")
    for row in medium:
        before = asked[row.id]
        assert (row.question, row.target, row.answer_form) == (before.question, before.target, before.answer_form)
        assert row.gold_boxes == before.gold_boxes
        assert row.image.load().tobytes() == before.image.load().tobytes()


def test_a_run_that_keeps_rows_measures_the_same(whole: tuple[Path, Result], tmp_path: Path) -> None:
    """By the same rollouts: the first phase of a run has the seeds of the command."""
    out, _ = whole
    changes = [
        'schedule=[{role="answerer", steps=1, lr=1e-5}]',
        *("data.num_rows=7", "data.difficulty.num_rollouts=3", "data.difficulty.keep=medium", "probe={}"),
        *("rollout.temperature=1.2", "rollout.prompts_per_step=1", "rollout.max_new_tokens.reasoner=32"),
    ]
    said = run(make_recipe(tmp_path / "run", changes))
    ours = tmp_path / "run/difficulty/0-answerer"
    for name in ("rows.jsonl", "histogram.txt", "easy.jsonl", "medium.jsonl", "hard.jsonl", "unjudged.jsonl"):
        assert (ours / name).read_bytes() == (out / name).read_bytes()
    assert any("; trains on the medium ones" in line for line in said)


def test_a_finished_measurement_is_shown_again_and_another_one_refused(whole: tuple[Path, Result]) -> None:
    out, result = whole
    again = sample("needles", "--num", "7", "--out", str(out))
    assert again.stdout == result.stdout
    other = CliRunner().invoke(app, ["sample", "needles", "--num", "7", "--out", str(out), "--seed", "1", *SAMPLING])
    assert other.exit_code == 1
    assert "holds another run" in other.stderr and "give another --out" in other.stderr


def test_the_same_rows_named_from_elsewhere_are_the_same(
    whole: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = whole
    monkeypatch.chdir(out)
    sample("medium.jsonl", "--out", str(tmp_path / "out"))
    monkeypatch.chdir(tmp_path)
    sample(os.path.relpath(out / "medium.jsonl"), "--out", "out")
    other = CliRunner().invoke(app, ["sample", str(out / "hard.jsonl"), "--out", "out", *SAMPLING])
    assert other.exit_code == 1
    assert "rows was " in other.stderr and "the questions, right answers or boxes" not in other.stderr


def test_counts_as_json(whole: tuple[Path, Result]) -> None:
    out, _ = whole
    found = json.loads(sample("needles", "--num", "7", "--out", str(out), "--json").stdout)
    assert sum(found["kinds"].values()) == sum(found["num_rows_by_num_right"]) == found["num_rows"] == 7
    assert len(found["num_rows_by_num_right"]) == found["num_rollouts"] + 1
    assert found["files"]["easy"] == str(out / "easy.jsonl")


def test_a_stopped_measurement_is_resumed_with_nothing_lost_or_twice(tmp_path: Path) -> None:
    """Killed after two rows, interrupted after four, ended by SIGTERM after six."""
    folders = whole, stopped = [tmp_path / "whole", tmp_path / "stopped"]
    code, errors = start_and_stop(whole, signal.SIGKILL, 99)
    assert code == 0, errors
    code, errors = start_and_stop(stopped, signal.SIGKILL, 2)
    assert code == -signal.SIGKILL, errors
    assert len((stopped / "rows.jsonl").read_text().splitlines()) == 2
    code, errors = start_and_stop(stopped, signal.SIGINT, 4)
    assert code == 130, errors
    assert f"interrupted; what was measured is kept in {stopped}" in errors
    assert "hint: the same command resumes" in errors
    assert len((stopped / "rows.jsonl").read_text().splitlines()) == 4
    assert not (stopped / "medium.jsonl").exists()
    code, errors = start_and_stop(stopped, signal.SIGTERM, 6)
    assert code == 143, errors
    assert f"error: asked to end by SIGTERM; what was measured is kept in {stopped}" in errors
    assert "hint: the same command resumes" in errors and "Traceback" not in errors
    assert len((stopped / "rows.jsonl").read_text().splitlines()) == 6
    code, errors = start_and_stop(stopped, signal.SIGKILL, 99)
    assert code == 0, errors
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) for folder in folders]
    assert files[0] == files[1]
    assert all((folders[0] / path).read_bytes() == (folders[1] / path).read_bytes() for path in files[0])


@pytest.mark.slow
@pytest.mark.parametrize("role", ["perceiver", "reasoner"])
def test_every_role_is_sampled(tmp_path: Path, role: str) -> None:
    result = sample("needles", "--num", "3", "--role", role, "--out", str(tmp_path))
    assert "3 rows: " in result.stdout and "unjudged" not in result.stdout
    assert (tmp_path / "evidence").exists() is (role == "reasoner")
    assert CliRunner().invoke(app, ["report", str(tmp_path), "--out", str(tmp_path / "r.html")]).exit_code == 1
