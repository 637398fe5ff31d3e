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


def ask(*arguments: str) -> None:
    result = p2r("ask", *arguments, "--model", "scripted:replies.json")
    assert result.exit_code == 0, result.output


def test_questions_that_were_asked_become_a_page(here: Path) -> None:
    write_questions(here / "data")
    ask("data/a.png", "What?", "--options", "x,y", "--save", "one")
    ask("data/questions.jsonl", "--save", "two")
    for folder, num_cards in (("one", 1), ("two", 4), (".", 5)):
        result = p2r("report", folder, "--out", "page.html")
        assert result.exit_code == 0, result.output
        html = Path("page.html").read_text()
        assert (html.count("<article"), "https://" in html) == (num_cards, False)
        assert "data:image/webp" in html
    shutil.move("data", "elsewhere")
    assert p2r("report", "two", "--out", "page.html").exit_code == 0
    assert Path("page.html").read_text().count("its saved copy") == 4


def test_evaluations_and_questions_below_a_folder_become_two_pages(here: Path) -> None:
    write_questions(here / "data")
    ask("data/a.png", "What?", "--options", "x,y", "--save", "runs/one")
    evaluate("needles", "--limit", "3")
    result = p2r("report", "runs")
    assert result.stdout.split() == ["report.html", "report-asked.html"]
    assert Path("report.html").read_text().count("<article") == 3


BREAKS = {
    "settings": ("run.json", "{"),
    "unknown settings": ("run.json", '{"benchmark": "needles", "mood": 1}'),
    "no settings": ("run.json", None),
    "samples": ("samples.jsonl", "{}\n"),
    "no samples": ("samples.jsonl", None),
    "traces": ("traces.jsonl", "[]\n"),
    "no traces": ("traces.jsonl", None),
    "origin": ("origin.json", "x"),
}


@pytest.mark.parametrize("name, text", BREAKS.values(), ids=list(BREAKS))
def test_a_broken_run_is_named_and_does_not_stop_the_others(here: Path, name: str, text: str | None) -> None:
    evaluate("needles", "--limit", "3", "--mode", "direct", "--mode", "p2r")
    broken = Path("runs/needles/direct") / name
    broken.unlink() if text is None else broken.write_text(text)
    result = p2r("report", "runs")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("left out runs/needles/direct: ") == 1
    html = Path("report.html").read_text()
    assert "left out runs/needles/direct: " in html and html.count("<article") == 3
    alone = p2r("report", "runs/needles/direct")
    assert alone.exit_code == 1 and alone.stderr.startswith("error: ") and "Traceback" not in alone.output


@pytest.mark.parametrize("kind", ["trace", "batch"])
def test_a_broken_folder_of_questions_is_named_too(here: Path, kind: str) -> None:
    write_questions(here / "data")
    ask("data/a.png", "What?", "--options", "x,y", "--save", "all/one")
    ask("data/questions.jsonl", "--save", "all/two")
    path = Path("all/one/trace.json" if kind == "trace" else "all/two/traces.jsonl")
    path.write_text("no trace\n")
    result = p2r("report", "all")
    assert result.exit_code == 0, result.output
    assert f"left out {path.parent}: " in result.stderr


def evaluate_systems(here: Path) -> None:
    assert p2r("convert", "needles:forms=choice", "vstar", "--to", "vstar", "--num-samples", "12").exit_code == 0
    evaluate("vstar:vstar", "--mode", "direct", "--mode", "p2r", "--out", "runs")
    evaluate("vstar:vstar", "--limit", "6", "--seed", "1", "--out", "few")


def test_systems_stand_in_the_papers_table_under_their_names(here: Path) -> None:
    evaluate_systems(here)
    result = p2r(
        "report", "Qwen=runs/vstar/direct", "Ours=runs/vstar/p2r", "few", "--out", "page.html", "--tables", "t"
    )
    assert result.exit_code == 0, result.output
    html = Path("page.html").read_text()
    assert '<h2 id="systems">Systems</h2>' in html and 'href="#systems"' in html
    assert ">Ours [" in html and ">scripted:replies.json, p2r [" in html
    assert '<th scope="colgroup" colspan="3">V*</th>' in html
    assert 'class="published"' in html and "<small>README of Mini-o3</small>" in html
    assert '<option value="1" selected>Ours</option>' in html
    tables = json.loads(Path("t/tables.json").read_text())["tables"]
    assert tables[0]["title"] == "As Table 1 of the paper, in per cent"
    shown = p2r("report", "Ours=runs/vstar/p2r", "Qwen=runs/vstar/direct", "--show", "Qwen", "--out", "page.html")
    assert shown.exit_code == 0 and "selected>Qwen" in Path("page.html").read_text()
    assert p2r("report", "runs/vstar/p2r").exit_code == 0
    assert ">scripted:replies.json, p2r [" in Path("report.html").read_text()


@pytest.mark.parametrize(
    ("name", "first"), [("t.md", "# vstar\n\nvstar: Ours answers"), ("t.tex", "% vstar\n% vstar: Ours")]
)
def test_tables_are_written_without_images(here: Path, name: str, first: str) -> None:
    evaluate_systems(here)
    shutil.move("vstar", "elsewhere")
    result = p2r("report", "Ours=runs", "--out", name)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{name}\n", "")
    text = Path(name).read_text()
    assert text.startswith(first.replace("Ours", "Ours, p2r"))
    parts = [
        "As Table 1 of the paper, in per cent",
        "Runs, with what an answer cost",
        "Paired differences",
        "Ours, direct",
    ]
    assert all(part in text for part in parts) and "Letters (robust)" not in text


def test_a_folder_with_an_equals_sign_is_a_folder(here: Path) -> None:
    evaluate("needles", "--limit", "3", "--out", "a=b")
    assert p2r("report", "a=b").exit_code == 0
    assert "<h1>needles</h1>" in Path("report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["runs", "--out", "x.pdf"], "x.pdf ends in .pdf, which is not a form of report", "--out end in .html"),
        (["=runs"], "'=runs' is neither a folder nor a name with one", "NAME=RUN"),
        (["Ours="], "'Ours=' is neither a folder nor a name with one", "NAME=RUN"),
        (["Ours=one", "runs"], "'Ours' names one, which holds no evaluation", "`p2r eval` wrote"),
        (["one", "--out", "x.md"], "x.md: questions have a page, and no tables", "--out end in .html"),
        (["Ours=nowhere"], "no folder 'Ours=nowhere', and none 'nowhere' to be called 'Ours'", "give RUN, or NAME=RUN"),
    ],
)
def test_a_wrong_name_or_ending_is_one_sentence_with_a_hint(
    here: Path, arguments: list[str], message: str, hint: str
) -> None:
    write_questions(here / "data")
    ask("data/a.png", "What?", "--options", "x,y", "--save", "one")
    evaluate("needles", "--limit", "3")
    result = p2r("report", *arguments)
    assert result.exit_code == 1 and message in result.stderr
    assert hint in result.stderr.partition("hint: ")[2]
    assert not Path("report.html").exists()


def test_compare_prints_the_tables_of_several_replies(here: Path) -> None:
    for mode in ("direct", "p2r"):
        evaluate("needles", "--limit", "4", "--mode", mode, "--shuffles", "2", "--out", "two")
    evaluate("needles", "--limit", "4", "--mode", "direct", "--out", "once")
    result = p2r("compare", "two/needles/direct", "two/needles/p2r")
    assert result.exit_code == 0, result.output
    for part in ("Replies to the same question: direct", "Replies to the same question: p2r", "majority vote"):
        assert part in result.stdout
    assert "Positions of the right option: p2r" in result.stdout
    alone = p2r("compare", "two/needles/direct", "once/needles/direct")
    assert alone.exit_code == 1
    assert "each question 1 time in 2 orders of the options, and once/needles/direct 1 time in 1 order" in alone.stderr
    assert "ask each question as often" in alone.stderr
