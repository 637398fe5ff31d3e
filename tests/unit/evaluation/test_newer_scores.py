"""TreeBench and ZoomBench scored as their authors do, beside our own scorers, and the zooming gap."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import p2r
from p2r.answers import Scorer, extract_answer
from p2r.benchmarks import load_benchmark
from p2r.cli.app import app
from p2r.dialogue import Prompt
from p2r.evaluation.breakdowns import tabulate_targets
from p2r.evaluation.compare import compare_runs
from p2r.evaluation.scorecard import make_scorecard
from p2r.evaluation.scoring import ScoredRun
from p2r.models.scripted import ScriptedModel
from p2r.modes import Mode
from p2r.runs.store import read_traces
from tests.fakes.benchmark_files import (
    treebench_rows,
    write_parquet,
    write_tsv,
    write_visualprobe,
    zoombench_rows,
)

LOOK = '[{"bbox_2d": [500, 500, 1000, 1000], "label": "door"}]'
REPLY = "<think>It is <box>[8,6,40,30]</box>, not <box>[1, 2, 3, 4]</box>.</think><answer>A</answer>"


def evaluate(path: Path, reply: str = REPLY, mode: Mode = "p2r") -> ScoredRun:
    return p2r.evaluate(str(path), ScriptedModel({"perceiver": LOOK, "reasoner": reply}), mode=mode)


def test_accuracy_and_iou_of_treebench_stand_side_by_side(tmp_path: Path) -> None:
    rows = treebench_rows(6)
    rows[0]["target_instances"] = "[[8, 6, 40, 30]]"
    rows[3]["target_instances"] = "[]"
    run = evaluate(write_tsv(tmp_path / "TreeBench.tsv", rows))
    assert run.scorers == ("robust", "release", "treevgr", "vlmevalkit")
    accuracy, table, *_ = make_scorecard(run)
    assert [row[0] for row in accuracy.rows] == [row[0] for row in table.rows]
    by_name = {row[0]: row[1:] for row in table.rows}
    # tags: 1 of 1, none, and 1 of 2 targets in four questions; looked at: 0 of 1, none, 1 of 2 in four
    assert by_name["overall"][:3] == ("6", "33.3%", "0.500")
    assert by_name["overall"][4] == "0.333"
    assert by_name["Perception/OCR"][:3] == ("2", "100.0%", "0.500") and by_name["Perception/OCR"][4] == "0.000"
    assert by_name["Reasoning/Ordering"] == ("2", "0.0%", "0.500", "0.500 - 0.500", "0.500", "0.500 - 0.500")
    assert "<box> tags" in table.notes[0]


def test_boxes_in_the_thoughts_of_treevgr_are_where_it_looked(tmp_path: Path) -> None:
    rows = treebench_rows(1)
    rows[0]["target_instances"] = "[[8, 6, 40, 30]]"
    path, reply = write_tsv(tmp_path / "TreeBench.tsv", rows), REPLY.removeprefix("<think>")
    table = tabulate_targets(evaluate(path, reply, "tools:treevgr:released"))
    assert (table.rows[0][2], table.rows[0][3], table.rows[0][5]) == ("100.0%", "1.000", "1.000")
    mapped = tabulate_targets(evaluate(path, reply, "tools:treevgr"))
    assert (mapped.rows[0][3], mapped.rows[0][5]) == ("1.000", "0.000")  # it was shown the image enlarged


def test_without_looking_only_the_tags_of_a_reply_are_measured(tmp_path: Path) -> None:
    table = tabulate_targets(evaluate(write_tsv(tmp_path / "TreeBench.tsv", treebench_rows()), mode="thinking"))
    assert table.rows[0][3:] == ("0.500", "0.500 - 0.500", "-", "-")


def test_scorers_of_treebench_disagree_as_their_code_does(tmp_path: Path) -> None:
    run = evaluate(write_tsv(tmp_path / "TreeBench.tsv", treebench_rows(1)), "<answer>(A) red</answer> by a Door")
    verdicts = {scorer: verdict.correct for scorer, verdict in run.rows[0].verdicts.items()}
    assert verdicts == {"robust": True, "release": True, "treevgr": False, "vlmevalkit": True}


def test_zoombench_is_scored_by_zwzs_rule_too(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "zoom.parquet", zoombench_rows())
    run = evaluate(path, "I think of a kite.\nAnswer: a kite")
    assert run.scorers == ("robust", "release", "zwz")
    answers = [row.answers["zwz"] for row in run.rows]
    assert [answer.text for answer in answers] == ["Answer: a kite"] * 4
    assert [answer.letter for answer in answers] == ["A", None, "A", None]  # a letter only for a choice
    right = evaluate(path, "<answer>C</answer>")
    assert [row.verdicts["zwz"].correct for row in right.rows] == [True, False, True, False]


@pytest.mark.parametrize("scorer", ["treevgr", "vlmevalkit", "mini_o3"])
def test_scorers_of_choices_leave_open_answers_to_the_robust_one(scorer: Scorer) -> None:
    reply = "<think>A sail</think><answer>a kite</answer>"
    assert extract_answer(reply, "free_form", scorer=scorer) == extract_answer(reply, "free_form")


def test_the_zooming_gap_is_a_paired_difference(tmp_path: Path) -> None:
    red = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(red, "PNG")
    rows = [row | {"crop_image": {"bytes": red.getvalue(), "path": None}} for row in zoombench_rows(8)]
    path = write_parquet(tmp_path / "zoom.parquet", rows)

    def answer(prompt: Prompt) -> str:
        is_crop = prompt.images[0].getpixel((9, 9)) == (255, 0, 0)
        return "C" if is_crop and "(C)" in prompt.text else "none"

    model = ScriptedModel({"reasoner": answer})
    modes: list[Mode] = ["direct", "paired-crop"]
    direct, crop = (p2r.evaluate(str(path), model, mode=mode, out=tmp_path / mode) for mode in modes)
    assert (direct.accuracy, crop.accuracy) == (0.0, 0.5)
    assert [row.verdicts["release"].correct for row in crop.rows] == [True, False] * 4  # no tag is asked for
    contrasts, _ = compare_runs([direct, crop])
    assert contrasts[0].difference.mean == pytest.approx(0.5)
    images = {mode: {t.image for t in read_traces(next((tmp_path / mode).rglob("traces.jsonl")))} for mode in modes}
    assert all(name.endswith("/crop_image") for name in images["paired-crop"])
    assert all(name.endswith("/image") for name in images["direct"])


def test_the_command_prints_the_license(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_visualprobe(tmp_path / "VisualProbe_Hard")
    Path("replies.json").write_text(json.dumps({"reasoner": "exit 1"}))
    arguments = ["VisualProbe_Hard", "--model", "scripted:replies.json", "--mode", "direct"]
    for command in (["eval", *arguments], ["check", "VisualProbe_Hard"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert "license of VisualProbe: CC BY-NC 4.0 (no commercial use)" in done.output
    assert load_benchmark("VisualProbe_Hard").chance is None
