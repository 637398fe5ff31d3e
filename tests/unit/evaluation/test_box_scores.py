"""Boxes on ReasonSeg as VLM-R1 and Visual-RFT ask for, read, and score them, beside our own score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import p2r
from p2r.boxes.peers import read_visual_rft, read_vlm_r1, read_vlm_r1_od, visual_rft_iou, vlm_r1_iou
from p2r.cli.app import app
from p2r.evaluation.breakdowns import tabulate_first_boxes
from p2r.evaluation.scorecard import make_scorecard
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.images.load import MemoryImage
from p2r.models.profiles import PROFILES
from p2r.models.scripted import ScriptedModel
from p2r.modes import Mode
from p2r.runs.evaluation import RunSettings, read_run, write_facts
from p2r.runs.store import TraceStore
from p2r.types import Box, EvidenceRecord, Perception, Sample, Trace
from tests.fakes.benchmark_files import write_reasonseg

IMAGE = MemoryImage(Image.new("RGB", (8, 8)), name="image")
GOLD = Box(x1=100, y1=100, x2=300, y2=300)


def store(folder: Path, *found: Box | None, image_wh: tuple[int, int] = (1000, 1000)) -> ScoredRun:
    """A run that was scored by boxes."""
    samples = [Sample(str(k), IMAGE, "?", gold_boxes=(GOLD,)) for k in range(len(found))]
    settings = RunSettings(benchmark="reasonseg", scored_by="box", mode="p2r:vlm-r1", model="m")
    with TraceStore(folder, settings) as kept:
        write_facts(folder, samples)
        for sample, box in zip(samples, found, strict=True):
            boxes = () if box is None else (box, GOLD)
            trace = Trace(sample_id=sample.id, image="i", question="?", perception=Perception(source="m", boxes=boxes))
            kept.append(trace.model_copy(update={"evidence": EvidenceRecord(image_wh=image_wh)}))
    return score_run(read_run(folder))


def test_half_is_right_to_us_and_wrong_to_vlm_r1(tmp_path: Path) -> None:
    run = store(tmp_path, Box(x1=100, y1=100, x2=300, y2=500), None)
    table = tabulate_first_boxes(run)
    assert [row[:3] for row in table.rows] == [("p2r", "2", "50.0%"), ("vlm_r1", "2", "0.0%"), ("visual_rft", "2", "-")]
    assert [row[4] for row in table.rows] == ["0.250"] * 3
    assert table.rows[1][3].startswith("0.0 -") and table.rows[2][3] == "-"
    assert table in make_scorecard(run)


def test_a_shared_edge_of_a_pixel_counts_to_us_alone(tmp_path: Path) -> None:
    (ours, theirs, _) = tabulate_first_boxes(store(tmp_path, Box(x1=299, y1=100, x2=302, y2=300))).rows
    assert (ours[4], theirs[4]) == ("0.005", "0.000")


@pytest.mark.parametrize(
    ("box", "counts"),
    [(Box(x1=299.4, y1=100, x2=310, y2=300), True), (Box(x1=100, y1=298.5, x2=300, y2=400), False)],
)
def test_pixels_are_those_of_the_file(tmp_path: Path, box: Box, counts: bool) -> None:
    (_, theirs, _) = tabulate_first_boxes(store(tmp_path, box, image_wh=(2000, 500))).rows  # 1.2 pixels, and 0.75
    assert (theirs[4] != "0.000") == counts


def test_small_boxes_lose_to_visual_rft() -> None:
    tiny = Box(x1=500, y1=500, x2=501, y2=501)
    assert visual_rft_iou(tiny, tiny) == pytest.approx(0.5)
    assert visual_rft_iou(GOLD, Box(x1=200, y1=200, x2=400, y2=400)) == pytest.approx(1 / 7, abs=1e-5)
    assert visual_rft_iou(GOLD, tiny) == visual_rft_iou(tiny, GOLD) == 0
    assert visual_rft_iou(GOLD, Box(x1=100, y1=400, x2=300, y2=500)) == 0


@pytest.mark.parametrize("move", [(0, 0), (2, 0), (0, 2), (-2, -3)])
def test_two_shared_pixels_count(move: tuple[int, int]) -> None:
    (right, down), box = move, (10.0, 10.0, 14.0, 14.0)
    gold = (10.0 + right, 10.0 + down, 14.0 + right, 14.0 + down)
    shared = (4 - abs(right)) * (4 - abs(down))
    assert vlm_r1_iou(box, gold) == (0 if abs(down) == 3 else shared / (32 - shared))


def test_readers_take_what_the_scripts_take() -> None:
    assert read_vlm_r1("<answer>[9,9,9,9] {[1,2,3,4] [5, 6,\n7,8]} [0,0,0,0]</answer>") == (5, 6, 7, 8)
    for reply in ("<answer>{[1,2,3,4]</answer>", "<answer>[1,2,3,4]}</answer>", "<answer>} [1,2,3,4] {</answer>"):
        assert read_vlm_r1(reply) is None
    assert read_vlm_r1("<answer>none</answer><answer>{[1,2,3,4]}</answer>") is None
    assert read_vlm_r1(f"<answer>{{[1,2,3,{'9' * 5000}]}}</answer>") is None
    first = '```json\n[{"bbox_2d": [1.5, -2, 3, 4]}, {"bbox_2d": [5, 6, 7, 8]}]\n```'
    assert read_vlm_r1_od(first) == (1.5, -2, 3, 4)
    for body in ("[]", "{}", '[{"bbox": [1, 2, 3, 4]}]', '[{"bbox_2d": [1, 2, 3]}]', '[{"bbox_2d": "1234"}]', "[[", ""):
        assert read_vlm_r1_od(f"```json\n{body}\n```{first}") is None
    for numbers in ("1, 2, 3, true", '"1", 2, 3, 4', "1, 2, 3, 4, 5"):
        assert read_vlm_r1_od(f'```json[{{"bbox_2d": [{numbers}]}}]```') is None
    assert read_vlm_r1_od('```json\f[{"bbox_2d": [1, 2, 3, 4]}]\xa0```') == (1, 2, 3, 4)
    assert read_vlm_r1_od("[" * 100_000) is read_vlm_r1_od(f"```json{'[' * 100_000}```") is None
    assert read_visual_rft("a (1,2) (3,4), ( 5 ,\n6 ),(7,8),(9,9)") == (3, 4, 5, 6)
    assert read_visual_rft("(-1,2),(3,4)") is read_visual_rft("((1,2),3),(4)") is None


@pytest.mark.parametrize(
    ("mode", "reply", "acc"),
    [
        ("p2r:vlm-r1", '<answer>[{{"bbox_2d": [{x1}.0, {y1}, {x2}, {y2}]}}]</answer>', 1.0),
        ("p2r:vlm-r1:released", '<answer>[{{"bbox_2d": [{x1}.0, {y1}, {x2}, {y2}]}}]</answer>', 0.0),
        ("p2r:vlm-r1:released", '<answer>[{{"bbox_2d": [{x1}, {y1}, {x2}, {y2}]}}]</answer>', 1.0),
        ("p2r:visual-rft", "<answer>({u1}, {v1}), ({u2}.0, {v2})</answer>", 1.0),
        ("p2r:visual-rft:released", "<answer>({u1}, {v1}), ({u2}.0, {v2})</answer>", 0.0),
        ("p2r:visual-rft:released", "<answer>({u1}, {v1}), ({u2}, {v2})</answer>", 1.0),
    ],
)
def test_reasonseg_is_asked_and_scored_by_a_rule(tmp_path: Path, mode: Mode, reply: str, acc: float) -> None:
    path = write_reasonseg(tmp_path / "val")  # 80 x 60, seen at 84 x 56; the target from (10, 10) to (41, 31)
    corners = {"x1": 11, "y1": 9, "x2": 43, "y2": 29, "u1": 125, "v1": 167, "u2": 512, "v2": 517}
    model = ScriptedModel({"perceiver": reply.format(**corners)}, profile=PROFILES["qwen2_5_vl"])
    run = p2r.evaluate(f"reasonseg:{path}", model, mode=mode, out=tmp_path)
    assert run.accuracy == acc
    assert [row.trace.reasoning for row in run.rows] == [None, None]
    assert run.settings.prompts == "release; for boxes p2r's words"
    ours, theirs, _ = tabulate_first_boxes(run).rows
    assert ours[2] == theirs[2] == f"{acc:.1%}"
    assert (ours[4] > "0.95") == bool(acc)


def test_the_command_prints_both_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_reasonseg(tmp_path / "val")
    reply = '<answer>{"bbox": [11, 9, 43, 29]}</answer>'
    Path("replies.json").write_text(json.dumps({"perceiver": reply}))
    arguments = ["eval", "reasonseg:val", "--model", "scripted:replies.json", "--family", "qwen2_5_vl"]
    done = CliRunner().invoke(app, [*arguments, "--mode", "p2r:vlm-r1:released", "--mode", "p2r"])
    assert done.exit_code == 0, done.output
    assert done.output.count("The first box by other systems' measures: reasonseg p2r:vlm-r1:released") == 1
    assert done.output.count("The first box by") == 1
    Path("both.json").write_text(json.dumps({"perceiver": reply, "reasoner": "<answer>A</answer>"}))
    answered = [*arguments, "--mode", "p2r:vlm-r1", "--limit", "1"]
    answered[1], answered[3] = "needles", "scripted:both.json"
    done = CliRunner().invoke(app, answered)
    assert done.exit_code == 0 and "The first box by" not in done.output, done.output
    scored = CliRunner().invoke(app, ["score", "runs/reasonseg/p2r"])
    assert "The first box by other systems' measures: reasonseg p2r" in scored.output
