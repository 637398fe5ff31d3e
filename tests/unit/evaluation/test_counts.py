"""Boxes of another frame are counted apart, and many of them are said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2r.errors import ConfigError
from p2r.evaluation.compare import tabulate_runs
from p2r.evaluation.counts import count_troubles, explain_frame
from p2r.evaluation.evaluate import evaluate
from p2r.evaluation.scorecard import tabulate_accuracy
from p2r.evaluation.scoring import score_run
from p2r.models.scripted import ScriptedModel
from p2r.types import BoxParse, Perception, Trace

PIXELS, UNIT, PER_MILLE = [1490, 1873, 1720, 1995], [0.41, 0.22, 0.55, 0.37], [410, 220, 550, 370]
FITTING = BoxParse(step="strict")
OTHER = BoxParse(step="strict", num_other_frame=1, other_frame="pixels")
NONE = BoxParse(step="none", reason="the reply names no box")


def write_script(folder: Path, box: list[float]) -> str:
    path = folder / "replies.json"
    perceived = json.dumps([{"bbox_2d": box, "label": "car"}])
    path.write_text(json.dumps({"perceiver": perceived, "reasoner": "<answer>A</answer>"}))
    return f"scripted:{path}"


def make_traces(*parses: BoxParse | None) -> list[Trace]:
    return [
        Trace(
            sample_id=str(number),
            image="image",
            question="What?",
            perception=None if parse is None else Perception(source="model:m", boxes=(), parse=parse),
        )
        for number, parse in enumerate(parses)
    ]


@pytest.mark.parametrize(
    ("box", "words", "flag"),
    [(PIXELS, "look like pixels", "--frame pixels"), (UNIT, "look like numbers from 0 to 1", "--frame unit")],
)
def test_a_run_in_another_frame_says_so_with_the_flag(tmp_path: Path, box: list[float], words: str, flag: str) -> None:
    run = evaluate("needles", write_script(tmp_path, box), limit=4, out=tmp_path)
    counts = count_troubles(run)
    assert (counts["other frame"], counts["box parse failure"], counts["clipped box"]) == (4, 0, 0)
    for table in (tabulate_accuracy(run), tabulate_runs([run])):
        (note,) = (note for note in table.notes if "frame" in note)
        assert "4 of 4 replies with boxes" in note and words in note and flag in note
    assert run.folder is not None and explain_frame(score_run(run.folder).traces.values())


def test_a_run_in_the_stated_frame_says_nothing_and_records_it(tmp_path: Path) -> None:
    script = write_script(tmp_path, UNIT)
    run = evaluate("needles", script, limit=4, frame="unit")
    assert count_troubles(run)["other frame"] == 0
    assert explain_frame(run.traces.values()) == ""
    assert {box.xyxy for trace in run.traces.values() for box in trace.boxes} == {(410, 220, 550, 370)}
    assert (run.settings.family, run.settings.frame) == (None, "unit")
    plain = evaluate("needles", script, limit=4)
    assert (plain.settings.family, plain.settings.frame) == (None, None)
    assert plain.settings.roles != run.settings.roles
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


def test_one_reply_in_twenty_is_many() -> None:
    assert explain_frame(make_traces(OTHER, *[FITTING] * 19)).startswith("1 of 20 replies with boxes has numbers")
    assert explain_frame(make_traces(OTHER, *[FITTING] * 20)) == ""
    assert explain_frame(make_traces(OTHER, *[NONE] * 40, None)).startswith("1 of 1 reply with boxes has numbers")
    assert explain_frame(make_traces(NONE, None)) == explain_frame([]) == ""


def test_the_sentence_names_the_frame_of_most_replies_or_none() -> None:
    unit = OTHER.model_copy(update={"other_frame": "unit"})
    unclear = OTHER.model_copy(update={"other_frame": None})
    assert "--frame unit (" in explain_frame(make_traces(OTHER, unit, unit))
    assert "--frame (" in explain_frame(make_traces(unclear))
