"""`p2r report` over runs of needles with scripted replies, and where it finds their images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from p2r.cli.app import app

BOXES = '[{"bbox_2d": [400, 400, 600, 600], "label": "sail"}]'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("replies.json").write_text(json.dumps({"perceiver": BOXES, "reasoner": "<answer>A</answer>"}))
    return tmp_path


def p2r(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def evaluate(benchmark: str, *arguments: str) -> None:
    result = p2r("eval", benchmark, "--model", "scripted:replies.json", *arguments)
    assert result.exit_code == 0, result.output


def test_runs_become_one_page_and_their_tables_files(here: Path) -> None:
    evaluate("needles", "--limit", "6", "--mode", "direct", "--mode", "p2r", "--mode", "oracle")
    result = p2r("report", "runs", "--out", "made/page.html", "--tables", "made")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["made/page.html", "made/tables.md", "made/tables.tex", "made/tables.json"]
    html = Path("made/page.html").read_text()
    assert html.count("<article") == 6
    assert html.count("<svg") == 2
    assert "data:image/webp" in html and "https://" not in html
    assert "no evidence of a difference: 0 of 6 samples differ" in html
    titles = [table["title"] for table in json.loads(Path("made/tables.json").read_text())["tables"]]
    assert titles[:2] == ["Runs, with what an answer cost: needles", "Paired differences, in points"]
    assert sum(title == "Cost" for title in titles) == 3
    assert Path("made/tables.tex").read_text().count("\\begin{tabular}") == len(titles)


def write_questions(folder: Path) -> None:
    folder.mkdir()
    Image.new("RGB", (96, 64)).save(folder / "a.png")
    rows = [
        {"id": f"q{k}", "image": "a.png", "question": f"Number {k}?", "options": ["a", "b"], "target": "AB"[k % 2]}
        for k in range(4)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_moved_data_leave_cards_without_images_until_they_are_named(here: Path) -> None:
    write_questions(here / "data")
    evaluate("folder:data/questions.jsonl")
    assert p2r("report", "runs").exit_code == 0
    assert Path("report.html").read_text().count("data:image/webp") == 4 * 4
    shutil.move("data", "elsewhere")
    result = p2r("report", "runs")
    assert result.exit_code == 0, result.output
    assert "The images of folder were not found" in result.stderr
    assert "data:image/webp" not in Path("report.html").read_text()
    assert p2r("report", "runs", "--benchmark", "folder:elsewhere/questions.jsonl").exit_code == 0
    assert Path("report.html").read_text().count("data:image/webp") == 4 * 4


def test_the_same_command_on_moved_data_goes_on(here: Path) -> None:
    write_questions(here / "data")
    evaluate("folder:data/questions.jsonl")
    shutil.move("data", "elsewhere")
    evaluate("folder:elsewhere/questions.jsonl")
    assert "elsewhere" in json.loads(Path("runs/folder/p2r/origin.json").read_text())["spec"]


def test_wall_time_adds_up_over_calls_of_the_command(here: Path) -> None:
    evaluate("needles", "--limit", "3")
    evaluate("needles", "--limit", "3")
    sessions = [json.loads(line) for line in Path("runs/needles/p2r/clock.jsonl").read_text().splitlines()]
    assert {session["started"] for session in sessions} == {sessions[0]["started"]}
    assert sessions[-1]["num_asked"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere holds no run"),
        (["runs", "--show", "oracle"], "no run is called 'oracle'"),
        (["runs", "--benchmark", "folder:data/questions.jsonl"], "is folder, which none of these runs was asked"),
    ],
)
def test_what_cannot_be_reported_is_one_sentence_with_a_hint(here: Path, arguments: list[str], message: str) -> None:
    write_questions(here / "data")
    evaluate("needles", "--limit", "3")
    result = p2r("report", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr and "hint: " in result.stderr
