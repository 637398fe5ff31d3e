"""Boxes of another frame are counted apart, and many of them are said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2r.boxes.other_frame import explain_frame
from p2r.errors import ConfigError, FrameWarning
from p2r.evaluation.compare import tabulate_runs
from p2r.evaluation.counts import count_troubles
from p2r.evaluation.evaluate import evaluate, evaluate_all
from p2r.evaluation.scorecard import tabulate_accuracy
from p2r.evaluation.scoring import score_run
from p2r.models.scripted import ScriptedModel

PIXELS, UNIT, PER_MILLE = [1490, 1873, 1720, 1995], [0.41, 0.22, 0.55, 0.37], [410, 220, 550, 370]


def write_script(folder: Path, box: list[float]) -> str:
    path = folder / "replies.json"
    perceived = json.dumps([{"bbox_2d": box, "label": "car"}])
    path.write_text(json.dumps({"perceiver": perceived, "reasoner": "<answer>A</answer>"}))
    return f"scripted:{path}"


@pytest.mark.parametrize(
    ("box", "words", "flag"),
    [(PIXELS, "look like pixels", "--frame pixels"), (UNIT, "look like numbers from 0 to 1", "--frame unit")],
)
def test_a_run_in_another_frame_says_so_with_the_flag(tmp_path: Path, box: list[float], words: str, flag: str) -> None:
    with pytest.warns(FrameWarning) as caught:
        run = evaluate("needles", write_script(tmp_path, box), limit=4, out=tmp_path)
    (warning,) = caught
    argument = flag.replace("--frame ", 'frame="') + '"'
    assert "needles p2r: 4 of 4 replies with boxes have numbers that do not fit" in str(warning.message)
    assert words in str(warning.message) and f"`{argument}`, or its family with `family`" in str(warning.message)
    counts = count_troubles(run)
    assert (counts["other frame"], counts["box parse failure"], counts["clipped box"]) == (4, 0, 0)
    for table in (tabulate_accuracy(run), tabulate_runs([run])):
        (note,) = (note for note in table.notes if "frame" in note)
        assert "4 of 4 replies with boxes" in note and words in note and flag in note
    assert run.folder is not None and explain_frame(score_run(run.folder).traces.values())


def test_each_run_that_reads_boxes_warns_once_with_its_name(tmp_path: Path) -> None:
    with pytest.warns(FrameWarning) as caught:
        evaluate_all(["needles"], write_script(tmp_path, PIXELS), modes=["p2r", "direct", "oracle"], limit=4)
    assert [str(each.message).split(":")[0] for each in caught] == ["needles p2r"]


def test_a_run_that_was_finished_before_warns_again(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.warns(FrameWarning, match="4 of 4"):
            evaluate("needles", write_script(tmp_path, PIXELS), limit=4, out=tmp_path)


@pytest.mark.filterwarnings("error::p2r.errors.FrameWarning")
def test_a_run_in_the_stated_frame_says_nothing_and_records_it(tmp_path: Path) -> None:
    script = write_script(tmp_path, UNIT)
    run = evaluate("needles", script, limit=4, frame="unit")
    assert count_troubles(run)["other frame"] == 0
    assert explain_frame(run.traces.values()) == ""
    assert {box.xyxy for trace in run.traces.values() for box in trace.boxes} == {(410, 220, 550, 370)}
    assert (run.settings.family, run.settings.frame) == (None, "unit")
    with pytest.warns(FrameWarning):
        plain = evaluate("needles", script, limit=4)
    assert (plain.settings.family, plain.settings.frame) == (None, None)
    assert plain.settings.roles != run.settings.roles
    with pytest.warns(FrameWarning, match="look like numbers from 0 to 1"):
        stated = evaluate("needles", script, limit=4, family="qwen2_5_vl")
    assert (stated.settings.family, stated.settings.frame) == ("qwen2_5_vl", None)


def test_runs_that_differ_in_the_frame_have_different_names(tmp_path: Path) -> None:
    script = write_script(tmp_path, PER_MILLE)
    runs = [evaluate("needles", script, limit=4), evaluate("needles", script, limit=4, frame="pixels")]
    assert [row[0] for row in tabulate_runs(runs).rows] == ["frame not set", "pixels"]


def test_the_frame_is_that_of_the_model_that_says_where_to_look(tmp_path: Path) -> None:
    script = write_script(tmp_path, UNIT)
    reasoner = ScriptedModel({"reasoner": "<answer>A</answer>"})
    run = evaluate("needles", reasoner, perceiver_model=script, limit=4, frame="unit")
    assert run.settings.frame == "unit"
    assert all(trace.boxes for trace in run.traces.values())
    with pytest.raises(ConfigError, match="loaded already"):
        evaluate("needles", script, perceiver_model=reasoner, limit=4, frame="unit")
