"""Phases with a source, rows, rewards and rates of their own, by the Python door."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import p2r
from p2r.config import Recipe
from p2r.runs.training import TrainingRun
from p2r.training.watch.watcher import Watcher
from tests.fakes.tiny_training import make_recipe, read_metrics, run

pytestmark = pytest.mark.slow

SCHEDULE = [
    {
        "role": "perceiver",
        "steps": 2,
        "lr": 1e-4,
        "reward": {"terms": {"format": 1.0, "count": 0.25}, "vetoes": []},
        "optimizer": {"updates_per_batch": 1},
    },
    {
        "role": "reasoner",
        "steps": 2,
        "lr": 1e-4,
        "source": "nano-base",
        "data": {"num_rows": 4, "seed": 5},
        "rollout": {"group_size": 2},
        "loss": {"kl_coef": 0.0},
    },
]


def make(out: Path) -> Recipe:
    return make_recipe(out, [f"schedule={_write_toml(SCHEDULE)}", "checkpoint.every=1"])


def _write_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_write_toml(each)}" for name, each in value.items()) + "}"
    return "[" + ", ".join(map(_write_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingRun, list[str]]:
    said: list[str] = []
    recipe = make(tmp_path_factory.mktemp("phases") / "whole")
    return p2r.train(recipe, watcher=Watcher(say=said.append)), said


def test_each_phase_trains_from_its_own_source(whole: tuple[TrainingRun, list[str]]) -> None:
    done, said = whole
    assert "phase 0-perceiver: steps 1 to 2, from nano" in said
    assert "phase 1-reasoner: steps 1 to 2, from nano-base" in said
    assert done.is_finished and done.checkpoint == done.folder / "1-reasoner"


def test_each_phase_has_its_own_rows(whole: tuple[TrainingRun, list[str]]) -> None:
    done, said = whole
    assert "8 of 8 rows of needles:1000000 are used" in said
    assert "4 of 4 rows of needles:1000005 are used" in said
    sources = {group.phase: done.data_of(group).seed for group in done.groups}
    assert sources == {"0-perceiver": 0, "1-reasoner": 5}


def test_each_phase_has_its_own_reward_and_group_size(whole: tuple[TrainingRun, list[str]]) -> None:
    looks, answers = ([group for group in whole[0].groups if group.role == role] for role in ("perceiver", "reasoner"))
    for rollout in (rollout for group in looks for rollout in group.rollouts):
        assert rollout.reward == rollout.terms["format"] + 0.25 * rollout.terms["count"]
    for rollout in (rollout for group in answers for rollout in group.rollouts):
        assert rollout.reward == rollout.terms["correct"]
    assert {len(group.rollouts) for group in looks} == {3}
    assert {len(group.rollouts) for group in answers} == {2}


def test_each_phase_has_its_own_loss_and_updates(whole: tuple[TrainingRun, list[str]]) -> None:
    first, second = (phase.steps for phase in whole[0].phases)
    assert all("reference" in step.timing and step.ratio == pytest.approx(1, abs=1e-6) for step in first)
    assert all("reference" not in step.timing and not step.kl for step in second)


@pytest.mark.parametrize("stop_after", [pytest.param(1, marks=pytest.mark.very_slow), 3])  # 3: in the second phase
def test_a_crashed_run_resumes_to_the_same_bits(
    whole: tuple[TrainingRun, list[str]], tmp_path: Path, stop_after: int
) -> None:
    recipe, folder = make(tmp_path / "run"), whole[0].folder
    with pytest.raises(KeyError):
        run(recipe, stop_after=stop_after)
    p2r.train(recipe, resume=True)
    for file in ("metrics.jsonl", "probes.jsonl"):
        assert read_metrics(tmp_path / "run", file) == read_metrics(folder, file)
    for phase in ("0-perceiver", "1-reasoner"):
        ours, theirs = (load_file(place / phase / "model.safetensors") for place in (tmp_path / "run", folder))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


async def test_training_works_where_a_loop_is_running(tmp_path: Path) -> None:
    """As in a notebook; the recipe as tables, with a change."""
    steps: list[int] = []
    tables = {**make_recipe(tmp_path / "run").model_dump(mode="json"), "probe": {}}
    changes = ["schedule=[{role='perceiver', steps=1}]"]
    done = p2r.train(tables, changes=changes, watcher=Watcher(step=lambda row, num: steps.append(num)))
    assert (steps, len(done.steps), done.probes) == ([1], 1, [])
    assert done.checkpoint == tmp_path / "run" / "0-perceiver"


def test_boxes_of_another_frame_are_counted_and_said_once(tmp_path: Path) -> None:
    short = 'schedule=[{role="perceiver", steps=2, lr=1e-4}, {role="reasoner", steps=1, lr=1e-4}]'
    said = run(make_recipe(tmp_path / "wrong", ['model.frame="unit"', short, "probe={}"]))
    (sentence,) = (each for each in said if "fit the frame" in each)
    assert "do not fit the frame in which they are read" in sentence and "model.frame" in sentence
    steps = read_metrics(tmp_path / "wrong")
    assert all(step["num_other_frame"] == step["num_box_replies"] for step in steps)
    assert all(step["num_box_replies"] >= 5 for step in steps[:2]), "of six"
    said = run(make_recipe(tmp_path / "right", [short, "probe={}"]))
    assert not any("fit the frame" in each for each in said)
    num_others = sum(int(str(step["num_other_frame"])) for step in read_metrics(tmp_path / "right"))
    assert num_others == 0
