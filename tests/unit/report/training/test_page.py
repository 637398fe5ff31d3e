"""Training runs as a page: progress, alarms, tables, and the command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from pydantic import JsonValue
from typer.testing import CliRunner

from p2r.benchmarks import load_benchmark
from p2r.cli.app import app
from p2r.errors import StorageError
from p2r.images.load import FileImage
from p2r.report.kit.page import Headline
from p2r.report.training.page import (
    build_training_report,
    find_alarms,
    list_training_facts,
    write_alarms,
    write_training_lede,
)
from p2r.report.training.tables import list_training_tables, tabulate_phases, tabulate_probes
from p2r.runs.guards import find_collapse
from p2r.runs.training import (
    CHANGES_FILE,
    METRICS_FILE,
    PROBES_FILE,
    ROLLOUTS_FILE,
    TrainingRun,
    find_training_folders,
    read_training_run,
)
from p2r.runs.training_log import LogRow, RecipeChange
from tests.fakes.training_runs import SFT_SCHEDULE, make_group, make_sft_step, make_step, make_trace, write_run

HEADLINE = Headline("Training", "It goes up.")


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
    lede = write_training_lede([run])
    assert "step 1 of 2 of phase 1-reasoner" in lede
    assert f"or `p2r train {run.folder}/recipe.json --resume` resumes it." in lede
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
    with pytest.raises(StorageError, match=r"line 1 of .*rollouts\.jsonl is not usable: sample_id is missing"):
        write_run(tmp_path / "run", groups=[LogRow(phase="0-perceiver", step=1)])


def test_alarms_say_from_when_to_when_a_guard_saw_a_collapse(tmp_path: Path) -> None:
    entropies = [0.5, 0.0, 0.0, 0.5, 0.0]
    steps = [make_step("0-perceiver", k, entropy=entropy) for k, entropy in enumerate(entropies, start=1)]
    run = write_run(tmp_path / "run", steps, changes=["guards.patience=1", "guards.entropy_floor=0.1"])
    assert [(alarm.first, alarm.last) for alarm in find_alarms(run)] == [(2, 3), (5, 5)]
    for step in range(1, 6):
        rings = any(alarm.first <= step <= alarm.last for alarm in find_alarms(run))
        assert rings == bool(find_collapse(steps[:step], [], run.recipe.guards))
    assert write_alarms([run], ["run"])[0].startswith("0-perceiver, steps 2 to 3: entropy is 0.0000 nats")


def test_each_step_has_the_guards_of_its_time(tmp_path: Path) -> None:
    """Blind at first, then sharp from step 3 on, then blind again in the next phase."""
    steps = [make_step("0-perceiver", k, entropy=0.0) for k in range(1, 5)]
    steps += [make_step("1-reasoner", k, entropy=0.0) for k in range(1, 4)]
    run = write_run(tmp_path / "run", steps, changes=["guards.patience=1", "guards.entropy_floor=0"])
    assert find_alarms(run) == []
    sharp: dict[str, JsonValue] = {"guards.entropy_floor": 0.1}
    blind: dict[str, JsonValue] = {"guards.entropy_floor": 0.0}
    changes = [
        RecipeChange(phase="0-perceiver", step=2, was=blind, now=sharp),
        RecipeChange(phase="1-reasoner", step=1, was={**sharp, "seed": 1}, now={**blind, "seed": 2}),
    ]
    run = replace(run, changes=tuple(changes))
    found = [(alarm.phase, alarm.first, alarm.last) for alarm in find_alarms(run)]
    assert found == [("0-perceiver", 3, 4), ("1-reasoner", 1, 1)]
    floors = [run.guards_at("0-perceiver", step).entropy_floor for step in (1, 2, 3, 4)]
    assert floors == [0.0, 0.0, 0.1, 0.1]


def test_a_guard_that_an_earlier_version_did_not_have_is_as_it_is_now(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [make_step("0-perceiver", 1)], changes=["guards.zero_rewards=false"])
    change = RecipeChange(phase="0-perceiver", step=1, was={"guards.zero_rewards": None}, now={})
    assert replace(run, changes=(change,)).guards_at("0-perceiver", 1) == run.recipe.guards


def test_the_page_needs_nothing_else_and_shows_replies_as_text(run: TrainingRun) -> None:
    html, _ = build_training_report([run], HEADLINE)
    assert not re.search(r"https?://|@import|url\((?!data:image/webp;base64,)", html)
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html
    assert html.count("<article") == 2 and html.count("data:image/webp") >= 3
    assert "the server has gone" in html


def test_several_runs_can_be_told_apart_on_one_page(run: TrainingRun, tmp_path: Path) -> None:
    other = write_run(tmp_path / "seed1", [make_step("0-perceiver", 1)], changes=["seed=1"])
    html, _ = build_training_report([run, other], HEADLINE)
    assert '<span class="s0">seed0</span><span class="s1">seed1</span>' in html
    recipe = list_training_tables([run, other])[-1]
    assert recipe.columns == ("setting", "seed0", "seed1") and recipe.rows[0] == ("seed", "0", "1")


def test_a_supervised_run_shows_what_it_learned_and_nothing_of_rollouts(tmp_path: Path) -> None:
    only = SFT_SCHEDULE.replace(', {role="perceiver"}', "")
    run = write_run(tmp_path / "warm-up", [make_sft_step(1, loss=2), make_sft_step(2, loss=0.5)], changes=[only])
    html, _ = build_training_report([run], HEADLINE)
    assert "0 groups" not in html and "Guards" not in html and "of the training demonstrations." in html
    phases = tabulate_phases([run], ["run"])
    assert phases.columns == ("phase", "steps", "rate", "loss", "learned", "s per step")
    assert phases.rows == (("0-sft", "2", "1e-06", "2.00 → 0.50", "40", "1.5"),)
    assert "rollout" not in " ".join(phases.notes).lower()
    facts = dict(list_training_facts([run]))
    assert (facts["Data"], facts["Demonstrations per step"]) == ("rows.jsonl", "64")
    assert not {"Rollouts per step", "Reward", "Estimator"} & set(facts)
    assert "The loss of the demonstrations of 0-sft: 0.500 nats per token, 2.000 at first." in write_training_lede(
        [run]
    )


def test_a_phase_with_rollouts_after_a_supervised_one_is_counted_apart(tmp_path: Path) -> None:
    steps = [make_sft_step(1, loss=2), make_step("1-perceiver", 1, num_rollouts=8, num_generated_tokens=80, loss=9.0)]
    group = make_group("1-perceiver", 1, "perceiver", [make_trace("A")])
    run = write_run(tmp_path / "run", steps, groups=[group], changes=[SFT_SCHEDULE, "rollout.group_size=3"])
    html, _ = build_training_report([run], HEADLINE)
    assert "1 group with images" in html and "</span> group</h2>" in html
    facts = dict(list_training_facts([run]))
    assert facts["Data"] == f"rows.jsonl, {run.recipe.data.source}"
    assert facts["Rollouts per step"] == f"{run.recipe.rollout.prompts_per_step} × 3"
    phases = tabulate_phases([run], ["run"])
    cells = [dict(zip(phases.columns, row, strict=True)) for row in phases.rows]
    shown = ("loss", "reward", "rollouts", "tokens", "learned", "not judged")
    assert [[row[name] for name in shown] for row in cells] == [
        ["2.00", "-", "-", "-", "20", "-"],
        ["-", "0.50", "8", "80", "-", "0"],
    ]
    assert "p2r" not in phases.columns


def test_settings_that_were_changed_on_the_way_have_a_table(run: TrainingRun) -> None:
    assert all(table.title != "Changed on the way" for table in list_training_tables([run]))
    change = RecipeChange(
        phase="0-perceiver",
        step=2,
        was={"guards.patience": 10, "schedule.1": None},
        now={"guards.patience": 5, "schedule.1": {"role": "reasoner", "steps": None}},
    )
    (run.folder / CHANGES_FILE).write_text(change.model_dump_json() + "\n")
    changed = read_training_run(run.folder)
    [table] = [table for table in list_training_tables([changed]) if table.title == "Changed on the way"]
    assert table.rows == (
        ("step 2 of 0-perceiver", "guards.patience", "10", "5"),
        ("step 2 of 0-perceiver", "schedule.1.role", "not set", "reasoner"),
    )
    assert "Changed on the way" in build_training_report([changed], HEADLINE)[0]


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


def test_on_a_phone_each_phase_is_a_list_with_the_names_of_its_numbers(run: TrainingRun) -> None:
    """The phase table's cells bear the names of their columns, which the style sheet shows instead of its head."""
    html, _ = build_training_report([run], HEADLINE)
    phases = tabulate_phases([run], ["run"])
    table = html.split('id="progress"')[1].split("</table>")[0]
    assert re.findall(r'data-name="(.*?)"', table) == [*phases.columns[1:]] * len(phases.rows)
    assert "content: attr(data-name)" in html
