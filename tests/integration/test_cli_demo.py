"""`p2r demo` with a scripted model: the table, the report, and what it says when things go wrong."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from p2r.cli.app import app

BOXES = '[{"bbox_2d": [400, 400, 600, 600], "label": "red star"}]'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    script = {"perceiver": BOXES, "reasoner": "<think>plain</think><answer>plain</answer>"}
    Path("replies.json").write_text(json.dumps(script))
    return tmp_path


def demo(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["demo", "--model", "scripted:replies.json", *arguments])


def test_the_demo_prints_one_row_per_way_of_looking(here: Path) -> None:
    result = demo("--num-samples", "6")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert " ".join(rows[0]) == "mode n chance accuracy 95% interval hit rate IoU boxes s/sample"
    assert [row[0] for row in rows[1:5]] == ["direct", "random", "p2r", "oracle"]
    assert "p2r: boxes where the model says to look, then crops" in result.stdout
    assert all(line == line.rstrip() for line in result.stdout.splitlines())
    oracle = next(row for row in rows if row[0] == "oracle")
    assert oracle[1] == "6"
    assert "100.0%" in oracle
    assert "1.00" in oracle
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 90


def test_the_demo_writes_one_report(here: Path) -> None:
    result = demo("--num-samples", "4", "--out", "made")
    assert "report: made/report.html" in result.stdout
    html = (here / "made" / "report.html").read_text()
    assert html.count("<article") == 4
    assert "p2r demo --num-samples 4 --seed 0 --model scripted:replies.json" in html


def test_the_demo_leaves_a_image_and_says_how_to_ask_about_it(here: Path) -> None:
    result = demo("--num-samples", "2", "--out", "made")
    line = next(line for line in result.stdout.splitlines() if line.startswith("try:"))
    arguments = shlex.split(line.removeprefix("try:"))
    assert arguments[:3] == ["p2r", "ask", "made/image.png"]
    asked = CliRunner().invoke(app, [*arguments[1:], "--model", "scripted:replies.json"])
    assert asked.exit_code == 0, asked.output


def test_the_same_seed_gives_the_same_figures(here: Path) -> None:
    def figures(result: Result) -> list[list[str]]:
        return [line.split()[:-1] for line in result.stdout.splitlines()[1:5]]

    assert figures(demo("--num-samples", "6", "--seed", "3")) == figures(demo("--num-samples", "6", "--seed", "3"))


def test_answers_that_failed_are_counted_and_explained(here: Path) -> None:
    Path("replies.json").write_text(json.dumps({"perceiver": BOXES, "reasoner": ["<answer>plain</answer>"] * 5}))
    result = demo("--num-samples", "2")
    assert result.exit_code == 1
    assert (
        "error: 5 answers failed, the first because the replies for the reasoner are used up: the script has 5"
        in result.stderr
    )


def test_a_report_that_cannot_be_written_is_said_so(here: Path) -> None:
    Path("taken").touch()
    result = demo("--num-samples", "2", "--out", "taken")
    assert result.exit_code == 1
    assert "error: taken cannot be written: taken is a file" in result.stderr


def test_no_samples_is_a_usage_error(here: Path) -> None:
    assert demo("--num-samples", "0").exit_code == 2


def test_the_model_in_the_box_reads_in_crops_what_one_look_cannot_show(here: Path) -> None:
    """A smoke test on twelve questions; the figures in the documentation come from many more."""
    pytest.importorskip("torch")
    result = CliRunner().invoke(app, ["demo", "--num-samples", "12"])
    assert result.exit_code == 0, result.output
    accuracy = {line.split()[0]: line.split("%")[1].split()[-1] for line in result.stdout.splitlines()[1:5]}
    assert float(accuracy["oracle"]) >= 75
    assert float(accuracy["direct"]) < float(accuracy["oracle"])


def test_a_place_that_cannot_be_written_is_refused_before_the_questions(here: Path) -> None:
    result = demo("--out", "replies.json")
    assert result.exit_code == 1 and "replies.json is a file" in result.stderr
    assert "loading" not in result.output
