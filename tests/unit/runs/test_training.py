"""The files of a training run: what training writes is what readers get back, masked rollouts included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from p2r.config import AdvantageSettings
from p2r.errors import StorageError
from p2r.models.local.encoding import EncodedPrompt
from p2r.report.training.groups import view_groups
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training import METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE, TrainingRun, read_training_run
from p2r.runs.training_log import LogRow, Probe, QuotedGroup, Step, interval_of, read_rows, value_of
from p2r.training.advantages import compare_groups
from p2r.training.groups import Group, Rollout, RolloutStats
from p2r.training.update import UpdateReport
from p2r.training.watch.metrics import describe_groups, measure_step, quote_group
from p2r.training.watch.probe import describe_probe
from tests.fakes.training import make_recipe, make_sample

REPORT = UpdateReport(0.5, 0.4, 0.1, 1.25, 0.0, 1.0, 2.0, 10, 20, 15, 30, 60, 1)


def make_group(*rewards: float | None) -> Group:
    rollouts = [Rollout((1, 2), True, f"reply {k}", None, reward, {"correct": 1.0}) for k, reward in enumerate(rewards)]
    return Group(make_sample(), "perceiver", EncodedPrompt((1,), (), (), ()), tuple(rollouts))


def make_step(**changes: object) -> Step:
    facts = describe_groups(compare_groups([make_group(None, 1.0, 0.0)], AdvantageSettings()))
    step = measure_step("0-perceiver", 1, facts, RolloutStats(), REPORT, 1e-6, {"seconds": 2.0})
    return step.model_copy(update=changes)


def write_run(folder: Path, steps: list[LogRow], probes: list[LogRow], groups: list[LogRow]) -> TrainingRun:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECIPE_FILE).write_text(make_recipe().model_dump_json())
    for file, rows in ((METRICS_FILE, steps), (PROBES_FILE, probes), (ROLLOUTS_FILE, groups)):
        (folder / file).write_text("".join(json.dumps(row.model_dump(mode="json")) + "\n" for row in rows))
    return read_training_run(folder)


def test_a_masked_rollout_is_written_read_back_and_shown_as_masked(tmp_path: Path) -> None:
    [compared] = compare_groups([make_group(None, 1.0, 0.0)], AdvantageSettings())
    quoted = quote_group("0-perceiver", 1, compared)
    run = write_run(tmp_path, [make_step()], [], [quoted])
    assert run.groups == (quoted,)
    assert [rollout.advantage is None for rollout in run.groups[0].rollouts] == [True, False, False]
    [view], _ = view_groups([run], ["run"])
    assert [rollout.advantage_text for rollout in view.rollouts] == ["masked", "+0.71", "-0.71"]
    assert [rollout.masked for rollout in view.rollouts] == ["masked: it was not judged", "", ""]
    assert [rollout.reward_text for rollout in view.rollouts] == ["masked", "1", "0"]


def test_every_row_comes_back_as_it_was_written(tmp_path: Path) -> None:
    step, probe = make_step(), describe_probe("0-perceiver", 0, [], [], [])
    run = write_run(tmp_path, [step], [probe], [])
    assert (run.steps, run.probes) == ([step], [probe])
    assert run.checkpoint is None and run.best is None


def test_training_fills_in_every_key() -> None:
    """A default is for folders of older versions, never for a metric that the writer forgot."""
    [compared] = compare_groups([make_group(1.0, 0.0)], AdvantageSettings())
    quoted = quote_group("0-perceiver", 1, compared)
    step = measure_step("0-perceiver", 1, [], RolloutStats(), None, 1e-6, {})
    for row in (step, describe_probe("0-perceiver", 0, [], [], []), quoted, quoted.rollouts[0]):
        assert row.model_fields_set == set(type(row).model_fields)


def test_folders_of_older_and_newer_versions_still_open(tmp_path: Path) -> None:
    write_run(tmp_path, [], [], [])
    (tmp_path / METRICS_FILE).write_text('{"phase": "0-perceiver", "step": 1, "reward": 0.5, "invented": 3}\n')
    (tmp_path / PROBES_FILE).write_text('{"phase": "0-perceiver", "step": 0, "hit_rate": 0.25}\n')
    run = read_training_run(tmp_path)
    assert (run.steps[0].reward, run.steps[0].kl, run.probes[0].hit_rate) == (0.5, None, 0.25)


def test_a_line_that_is_not_a_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / METRICS_FILE
    path.write_text('{"phase": "0-perceiver", "step": 1}\n{"phase": "0-perceiver"}\n')
    with pytest.raises(StorageError, match=r"line 2 of .*metrics\.jsonl is not usable: step is missing"):
        read_rows(path, Step)
    assert read_rows(tmp_path / ROLLOUTS_FILE, QuotedGroup) == []


def test_finished_phases_name_their_checkpoints(tmp_path: Path) -> None:
    steps = [make_step(), make_step(phase="1-reasoner")]
    write_run(tmp_path, list(steps), [], [])
    for name in ("0-perceiver", "best"):
        (tmp_path / name).mkdir()
    run = read_training_run(tmp_path)
    assert (run.checkpoint, run.best, run.is_finished) == (tmp_path / "0-perceiver", tmp_path / "best", False)
    (tmp_path / "1-reasoner").mkdir()
    run = read_training_run(tmp_path)
    assert run.checkpoint == tmp_path / "1-reasoner" and run.is_finished


def test_a_run_is_told_in_one_line_and_its_folder_may_be_a_text(tmp_path: Path) -> None:
    write_run(tmp_path, [make_step(), make_step(phase="1-reasoner")], [], [])
    (tmp_path / "0-perceiver").mkdir()
    told = f"<TrainingRun in {tmp_path}: 1 of 2 phases finished, 2 steps, "
    run = read_training_run(str(tmp_path))
    assert run.folder == tmp_path and repr(run) == f"{told}no probe>"
    probes = [Probe(phase="0-perceiver", step=k, accuracy_p2r=accuracy) for k, accuracy in enumerate((0.25, 0.625))]
    write_run(tmp_path, list(run.steps), list(probes), [])
    assert repr(read_training_run(tmp_path)) == f"{told}last probe 62.5% right>"


def test_metrics_are_found_by_name() -> None:
    step = make_step(terms={"format": 0.5})
    probe = Probe(phase="0-perceiver", step=0, hit_rate=0.5, intervals={"hit_rate": (0.4, 0.6), "mean_iou": None})
    assert value_of(step, "grad_norm") == 2.0
    assert (value_of(step, "timing/seconds"), value_of(step, "terms/format")) == (2.0, 0.5)
    assert [value_of(step, name) for name in ("timing/mfu", "invented", "phase", "kl/x")] == [None] * 4
    assert interval_of(probe, "hit_rate") == (0.4, 0.6)
    assert (interval_of(probe, "mean_iou"), interval_of(step, "reward")) == (None, None)
