"""The curves of a training report."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import pytest

from p2r.benchmarks import load_benchmark
from p2r.report.training.curves import (
    PROBE_CHARTS,
    ROLLOUT_CHARTS,
    SHARES,
    SUPERVISED_CHARTS,
    UPDATE_CHARTS,
    draw_probe_charts,
    draw_step_charts,
    place_phases,
)
from p2r.runs.training import TrainingRun
from p2r.runs.training_log import Step, interval_of, value_of
from p2r.training.watch.probe import describe_probe
from tests.fakes.training_runs import SFT_SCHEDULE, make_sft_step, make_step, make_trace, write_run


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
    charts = (*SUPERVISED_CHARTS, *ROLLOUT_CHARTS, *UPDATE_CHARTS)
    drawn = {name for chart in charts for name in (chart.metric, chart.second) if name}
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
    changes: Mapping[str, int] = {"num_rollouts": 8, "num_unjudged": 2, "num_rows": 4, "num_failed_rows": 1}
    run = write_run(tmp_path / "run", [make_step("0-perceiver", 1, **changes)])
    [chart] = [chart for chart in draw_step_charts([run], ["run"]) if chart.title.startswith("Not judged")]
    assert re.findall(r"step 1: ([\d.]+)", chart.drawing) == ["25", "25"]


def test_a_supervised_phase_has_a_curve_of_its_loss_and_none_of_rollouts(tmp_path: Path) -> None:
    learned = [make_sft_step(1, loss=0.5)]
    only = draw_step_charts([write_run(tmp_path / "only", learned, changes=[SFT_SCHEDULE])], ["only"])
    titles = [chart.title for chart in only]
    assert titles[:2] == ["Loss of demonstrations, nats per token", "Rows that failed, %"]
    assert titles[2:] == ["Learning rate", "Tokens trained on per second", "Seconds per step"]
    rolled = make_step("1-perceiver", 1, num_rollouts=8, loss=0.25)
    both = write_run(tmp_path / "both", [*learned, rolled], changes=[SFT_SCHEDULE])
    charts = {chart.title: chart for chart in draw_step_charts([both], ["both"])}
    assert re.findall(r"step (\d): ([\d.]+)", charts[titles[0]].drawing) == [("1", "0.5")]
    assert re.findall(r"step (\d): ([\d.]+)", charts["Reward"].drawing) == [("2", "0.5")]
    assert "step 1" not in charts["Length of a reply, tokens"].drawing


def test_what_dynamic_sampling_left_out_has_curves_only_where_it_was_used(tmp_path: Path) -> None:
    changes = {"drawn_reward": 0.25, "drawn_accuracy": 0.25, "drawn_dead_groups": 0.75}
    plain, drawn = (
        write_run(tmp_path / name, [make_step("0-perceiver", 1, **each)]) for name, each in (("p", {}), ("d", changes))
    )
    assert not [chart for chart in draw_step_charts([plain], ["p"]) if "drawn" in chart.title]
    charts = [chart for chart in draw_step_charts([drawn], ["d"]) if "drawn" in chart.title]
    assert [re.findall(r"step 1: ([\d.]+)", chart.drawing) for chart in charts] == [["0.25"], ["25"], ["75"]]
