"""Training runs as a page: what is read of a run, which curves are drawn, and how groups are shown."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from p2r.benchmarks import load_benchmark
from p2r.cli.app import app
from p2r.config import ActiveRole
from p2r.errors import StorageError
from p2r.images.load import FileImage
from p2r.report.kit.page import Headline
from p2r.report.training.curves import (
    PROBE_CHARTS,
    SHARES,
    STEP_CHARTS,
    draw_probe_charts,
    draw_step_charts,
    place_phases,
)
from p2r.report.training.groups import view_groups
from p2r.report.training.page import build_training_report, find_alarms, write_alarms, write_training_lede
from p2r.report.training.tables import list_training_tables, tabulate_probes
from p2r.runs.guards import find_collapse
from p2r.runs.training import (
    METRICS_FILE,
    PROBES_FILE,
    RECIPE_FILE,
    ROLLOUTS_FILE,
    LogRow,
    Probe,
    QuotedGroup,
    QuotedRollout,
    Step,
    TrainingRun,
    find_training_folders,
    interval_of,
    read_training_run,
    value_of,
)
from p2r.training.groups import RolloutStats
from p2r.training.watch.metrics import measure_step
from p2r.training.watch.probe import describe_probe
from p2r.types import Answer, Box, Completion, Failure, Perception, Sample, Trace, Verdict
from tests.fakes.training import make_recipe

SAMPLE = load_benchmark("needles", seed=1_000_000, num_samples=3)[2]
HEADLINE = Headline("Training", "It goes up.")
SCHEDULE = 'schedule=[{role="perceiver", steps=3}, {role="reasoner", steps=2}]'


def make_step(phase: str, step: int, **changes: float) -> Step:
    timing = {"rollout": 1.5, "rollout_sample": 1.0, "backward": 0.5, "seconds": 2.0}
    measured = measure_step(phase, step, [], RolloutStats(), None, 1e-6, timing)
    return measured.model_copy(update={"reward": 0.5, **changes})


def make_probe(phase: str, step: int, accuracy: float = 0.5) -> Probe:
    metrics = dict.fromkeys(describe_probe(phase, step, [], [], []).intervals, accuracy)
    intervals = {name: (value - 0.1, value + 0.1) for name, value in metrics.items()}
    return Probe(phase=phase, step=step, num_samples=10, intervals=intervals, **metrics)


def make_trace(letter: str, *boxes: Box, sample: Sample = SAMPLE) -> Trace:
    return Trace(
        sample_id=sample.id,
        image=sample.image.uri,
        question=sample.question,
        perception=Perception(source="model:policy", boxes=boxes),
        reasoning=Completion(text=f"<answer>{letter}</answer>", finish_reason="stop", model="frozen"),
        answer=Answer(text=letter, span=(8, 9)),
        verdict=Verdict(correct=letter == "A", score=float(letter == "A"), judge="text"),
    )


def make_group(phase: str, step: int, role: ActiveRole, traces: Sequence[Trace | None]) -> QuotedGroup:
    judged = [None if trace is None or trace.verdict is None else trace.verdict.score for trace in traces]
    rollouts = [
        QuotedRollout(
            text="<script>alert(1)</script>",
            reward=reward,
            advantage=None if reward is None else 0.25,
            terms={"correct": 1.0},
            trace=trace,
        )
        for trace, reward in zip(traces, judged, strict=True)
    ]
    sample_id = next((trace.sample_id for trace in traces if trace), SAMPLE.id)
    return QuotedGroup(phase=phase, step=step, sample_id=sample_id, role=role, rollouts=tuple(rollouts))


def write_run(
    folder: Path,
    steps: Sequence[LogRow] = (),
    probes: Sequence[LogRow] = (),
    groups: Sequence[LogRow] = (),
    changes: Sequence[str] = (),
) -> TrainingRun:
    folder.mkdir(parents=True)
    (folder / RECIPE_FILE).write_text(make_recipe([SCHEDULE, *changes]).model_dump_json())
    for file, rows in ((METRICS_FILE, steps), (PROBES_FILE, probes), (ROLLOUTS_FILE, groups)):
        (folder / file).write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return read_training_run(folder)


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    """Three perceiver steps and one of two reasoner steps, with a group of each kind."""
    steps = [*(make_step("0-perceiver", step, reward=step / 10) for step in (1, 2, 3)), make_step("1-reasoner", 1)]
    probes = [make_probe("0-perceiver", 0, 0.4), make_probe("0-perceiver", 3, 0.7), make_probe("1-reasoner", 0, 0.7)]
    gold, away = SAMPLE.gold_boxes[0], Box(x1=0, y1=0, x2=5, y2=5, label="nothing")
    failed = make_trace("B").model_copy(
        update={
            "verdict": None,
            "failure": Failure(stage="reason", kind="EndpointError", message="the server has gone"),
        }
    )
    groups = [
        make_group("0-perceiver", 1, "perceiver", [make_trace("A", gold), make_trace("B", away), failed, None]),
        make_group("1-reasoner", 1, "reasoner", [make_trace("A", gold), make_trace("A", gold)]),
    ]
    folder = tmp_path / "runs" / "seed0"
    write_run(folder, steps, probes, groups)
    (folder / "0-perceiver").mkdir()
    return read_training_run(folder)


def test_runs_are_found_by_their_recipe_and_sorted_as_people_count(tmp_path: Path) -> None:
    for name in ("seed10", "seed2"):
        write_run(tmp_path / name)
    assert [folder.name for folder in find_training_folders(tmp_path)] == ["seed2", "seed10"]
    assert find_training_folders(tmp_path / "seed2") == [tmp_path / "seed2"]
    assert find_training_folders(tmp_path / "nowhere") == []


def test_a_run_knows_its_phases_and_how_far_they_are(run: TrainingRun) -> None:
    assert [(phase.name, len(phase.steps), phase.num_planned) for phase in run.phases] == [
        ("0-perceiver", 3, 3),
        ("1-reasoner", 1, 2),
    ]
    assert [phase.is_finished for phase in run.phases] == [True, False]
    assert not run.is_finished
    assert "step 1 of 2 of phase 1-reasoner" in write_training_lede([run])
    (run.folder / "1-reasoner").mkdir()
    assert read_training_run(run.folder).is_finished


def test_a_line_that_a_kill_cut_off_is_left_out(run: TrainingRun) -> None:
    for file in (METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE):
        with (run.folder / file).open("a") as log:
            log.write('{"phase": "1-reasoner", "st')
    again = read_training_run(run.folder)
    assert (len(again.steps), len(again.probes), len(again.groups)) == (4, 3, 2)


def test_a_run_without_a_step_is_a_page_that_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "new")
    html, problems = build_training_report([run], Headline("Training", write_training_lede([run])))
    assert "new: no step yet." in html and "No group yet." in html
    assert "<svg" not in html and problems == []


def test_a_broken_group_is_one_sentence_that_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"rollouts\.jsonl, line 1, has no usable sample_id"):
        write_run(tmp_path / "run", groups=[LogRow(phase="0-perceiver", step=1)])


def test_the_same_phases_of_several_runs_are_aligned(tmp_path: Path) -> None:
    names = ("0-perceiver", "1-reasoner")
    long = write_run(tmp_path / "a", [make_step(name, step) for name in names for step in (1, 2, 3)])
    short = write_run(tmp_path / "b", [make_step("0-perceiver", 1)])
    assert place_phases([short, long]) == {"0-perceiver": (0, 3), "1-reasoner": (3, 6)}


def test_a_control_lies_over_the_schedule_from_its_first_step(run: TrainingRun, tmp_path: Path) -> None:
    steps = [make_step("0-joint", step) for step in (1, 2, 3, 4, 5)]
    control = write_run(tmp_path / "joint", steps, changes=["control=joint"])
    reward = draw_step_charts([run, control], ["run", "joint"])[0].drawing
    lines = re.findall(r'class="line" d="M([\d.]+) ', reward)
    assert len(lines) == 2 and lines[0] == lines[1]
    assert "0-perceiver" not in reward and 'class="between"' not in reward


def test_every_chart_draws_a_metric_that_is_logged(run: TrainingRun) -> None:
    step = {*Step.model_fields, "timing/seconds", "timing/mfu"} | {
        "timing/generated_tokens_per_second",
        "timing/trained_tokens_per_second",
    }
    drawn = {name for chart in STEP_CHARTS for name in (chart.metric, chart.second) if name}
    needed = {part for name in drawn & set(SHARES) for part in (SHARES[name][0], *SHARES[name][1])}
    assert (drawn - set(SHARES)) | needed <= step


def test_every_probe_chart_draws_a_metric_that_a_probe_writes_with_its_interval() -> None:
    samples = load_benchmark("needles", num_samples=4)
    boxes = [sample.gold_boxes for sample in samples]
    traces = [make_trace(letter, *found) for letter, found in zip("AABA", boxes, strict=True)]
    probe = describe_probe(
        "0-perceiver", 0, samples, traces, [*traces[:3], make_trace("A").model_copy(update={"verdict": None})]
    )
    drawn = {name for chart in PROBE_CHARTS for name in (chart.metric, chart.second) if name}
    for name in drawn:
        value, interval = value_of(probe, name), interval_of(probe, name)
        assert value is not None and interval is not None and interval[0] <= value <= interval[1], name
    assert (value_of(probe, "accuracy_p2r"), value_of(probe, "hit_rate")) == (0.75, 1.0)
    assert value_of(probe, "accuracy_direct") == pytest.approx(2 / 3)  # what was not judged does not count
    assert value_of(probe, "mean_boxes") == sum(map(len, boxes)) / 4


def test_a_chart_with_nothing_to_show_is_left_out(run: TrainingRun) -> None:
    titles = {chart.title for chart in draw_step_charts([run], ["run"])}
    assert "Reward" in titles and "MFU, %" not in titles
    assert draw_probe_charts([write_run(run.folder.parent / "bare")], ["bare"]) == []


def test_curves_of_several_runs_have_colors_of_their_own_and_stop_between_phases(run: TrainingRun) -> None:
    [reward] = [chart for chart in draw_step_charts([run, run], ["a", "b"]) if chart.title == "Reward"]
    groups = [element for element in ET.fromstring(reward.drawing) if element.tag == "g"]
    assert [group.get("class") for group in groups] == [
        "curve solid s0",
        "curve solid s0",
        "curve solid s1",
        "curve solid s1",
    ]
    assert [len(group.findall("path")) for group in groups] == [1, 0, 1, 0]  # a single step is a dot


def test_shares_are_drawn_in_per_cent_with_the_intervals_that_the_probe_states(run: TrainingRun) -> None:
    accuracy = draw_probe_charts([run], ["run"])[0].drawing
    assert "run, step 0: 40 (30 to 50)" in accuracy
    assert accuracy.count('class="band"') == 2 and accuracy.count('class="whisker"') == 2


def test_failures_are_drawn_as_shares_of_what_was_asked(tmp_path: Path) -> None:
    changes: Mapping[str, int] = {"num_rollouts": 8, "num_unjudged": 2, "num_groups": 3, "num_failed_rows": 1}
    run = write_run(tmp_path / "run", [make_step("0-perceiver", 1, **changes)])
    [chart] = [chart for chart in draw_step_charts([run], ["run"]) if chart.title.startswith("Not judged")]
    assert re.findall(r"step 1: ([\d.]+)", chart.drawing) == ["25", "25"]


def test_alarms_say_from_when_to_when_a_guard_saw_a_collapse(tmp_path: Path) -> None:
    entropies = [0.5, 0.0, 0.0, 0.5, 0.0]
    steps = [make_step("0-perceiver", k, entropy=entropy) for k, entropy in enumerate(entropies, start=1)]
    run = write_run(tmp_path / "run", steps, changes=["guards.patience=1", "guards.entropy_floor=0.1"])
    assert [(alarm.first, alarm.last) for alarm in find_alarms(run)] == [(2, 3), (5, 5)]
    for step in range(1, 6):
        rings = any(alarm.first <= step <= alarm.last for alarm in find_alarms(run))
        assert rings == bool(find_collapse(steps[:step], [], run.recipe.guards))
    assert write_alarms([run], ["run"])[0].startswith("0-perceiver, steps 2 to 3: entropy is 0.0000 nats")


def test_the_perceivers_rollouts_have_images_of_their_own_and_the_reasoners_share_one(run: TrainingRun) -> None:
    (perceiver, reasoner), problems = view_groups([run], ["run"])
    assert problems == []
    assert perceiver.image is not None and perceiver.evidence is None
    assert [len(rollout.boxes) for rollout in perceiver.rollouts] == [1, 1, 0, 0]
    assert reasoner.evidence is not None and reasoner.image is None
    assert len(perceiver.gold) >= 1


def test_what_could_not_be_judged_is_masked_and_neither_right_nor_wrong(run: TrainingRun) -> None:
    (perceiver, reasoner), _ = view_groups([run], ["run"])
    assert [rollout.verdict for rollout in perceiver.rollouts] == ["right", "wrong", "failed", "failed"]
    assert [rollout.reward_text for rollout in perceiver.rollouts] == ["1", "0", "masked", "masked"]
    assert [rollout.masked for rollout in perceiver.rollouts] == [
        "",
        "",
        "masked: the server has gone",
        "masked: it was not judged",
    ]
    assert perceiver.flags == ("0:asked", "0:mixed", "0:failed")
    assert reasoner.flags == ("0:asked", "0:right")


def test_a_question_that_is_no_longer_in_the_data_says_so(run: TrainingRun) -> None:
    moved = run.recipe.data.model_copy(update={"num_rows": 1})
    cards, problems = view_groups([run], ["run"], data=moved)
    assert problems == ["1 of 1 questions are not in needles:1000000."]
    assert all(card.image is None and "was not found" in card.problem for card in cards)
    gone = run.recipe.data.model_copy(update={"source": "folder:nowhere"})
    assert view_groups([run], ["run"], data=gone)[1][0].startswith("The images were not found: ")


def test_the_page_needs_nothing_else_and_shows_replies_as_text(run: TrainingRun) -> None:
    html, _ = build_training_report([run], HEADLINE)
    assert not re.search(r"https?://|@import|url\((?!data:image/webp;base64,)", html)
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html
    assert html.count("<article") == 2 and html.count("data:image/webp") >= 3
    assert "the server has gone" in html


def test_an_image_of_another_question_is_not_shown(run: TrainingRun) -> None:
    other = make_group("0-perceiver", 1, "perceiver", [make_trace("A", sample=replace(SAMPLE, question="Who?"))])
    [card], _ = view_groups([write_run(run.folder.parent / "other", groups=[other])], ["run"])
    assert card.image is None and card.question == "Who?"


def test_groups_are_drawn_evenly_when_there_are_too_many(run: TrainingRun) -> None:
    cards, _ = view_groups([run], ["run"], max_groups=1)
    assert [card.number for card in cards] == [1]
    html, _ = build_training_report([run], HEADLINE, max_groups=1)
    assert "drawn evenly from 2" in html


def test_several_runs_can_be_told_apart_on_one_page(run: TrainingRun, tmp_path: Path) -> None:
    other = write_run(tmp_path / "seed1", [make_step("0-perceiver", 1)], changes=["seed=1"])
    html, _ = build_training_report([run, other], HEADLINE)
    assert '<span class="s0">seed0</span><span class="s1">seed1</span>' in html
    recipe = list_training_tables([run, other])[-1]
    assert recipe.columns == ("setting", "seed0", "seed1") and recipe.rows[0] == ("seed", "0", "1")


def test_the_best_probe_is_marked_once(run: TrainingRun) -> None:
    marked = [row[0] for row in tabulate_probes([run], ["run"]).rows if "*" in row[0]]
    assert marked == ["0-perceiver after 3 *"]


def test_the_command_takes_training_runs_beside_evaluations(
    run: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("replies.json").write_text(json.dumps({"reasoner": "<answer>A</answer>"}))
    done = CliRunner().invoke(app, ["report", "runs", "--tables", "made"])
    assert done.stdout.split() == ["report.html", "made/training.md", "made/training.tex", "made/training.json"]
    asked = ["eval", "needles", "--limit", "2", "--mode", "direct", "--model", "scripted:replies.json"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert CliRunner().invoke(app, ["report", "runs"]).stdout.split() == ["report.html", "report-training.html"]
    assert "Progress" not in Path("report.html").read_text()
    assert "Progress" in Path("report-training.html").read_text()


def test_rows_that_have_moved_are_found_where_the_caller_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Image.new("RGB", (96, 64)).save("data/a.png")
    row = {"id": "q1", "image": "a.png", "question": "Which one?", "target": "A"}
    Path("data/questions.jsonl").write_text(json.dumps(row) + "\n")
    [sample] = load_benchmark("folder:data/questions.jsonl")
    group = make_group(
        "0-perceiver", 1, "perceiver", [make_trace("A", sample=replace(sample, image=FileImage("gone")))]
    )
    write_run(
        tmp_path / "run", [make_step("0-perceiver", 1)], groups=[group], changes=["data.source=folder:gone.jsonl"]
    )
    done = CliRunner().invoke(app, ["report", "run"])
    assert done.exit_code == 0 and "The images were not found" in done.stderr
    assert "data:image" not in Path("report.html").read_text()
    assert CliRunner().invoke(app, ["report", "run", "--benchmark", "folder:data/questions.jsonl"]).stderr == ""
    assert "data:image" in Path("report.html").read_text()
