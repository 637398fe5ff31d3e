"""A training with reward functions and a judge of its own: recorded, resumed to the bit, shown in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

import p2r
from p2r.config import Recipe, load_recipe
from p2r.errors import EndpointError
from p2r.report.training.curves import draw_step_charts
from p2r.report.training.groups import view_groups
from p2r.report.training.page import write_training_lede
from p2r.runs.guards import UNJUDGED
from p2r.runs.training import read_training_run
from tests.fakes.endpoint_server import completion, serve
from tests.fakes.tiny_training import make_recipe, read_metrics, run

pytestmark = pytest.mark.slow

REWARDS = """
def short(num_tokens):
    return 1.0 if num_tokens < 30 else 0.5

async def agrees(answer, reply):
    return None if sum(map(ord, reply)) % 2 == 0 else 1.0
"""


def make(folder: Path, name: str, *changes: str) -> Recipe:
    """A recipe in a file, beside its rewards."""
    (folder / "mine.py").write_text(REWARDS)
    terms = {"correct": 1.0, "mine.py:short": 0.5, "mine.py:agrees": 0.25}
    tables = make_recipe(folder / name).model_dump(mode="json", exclude_none=True) | {"reward": {"terms": terms}}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(tables))
    schedule = "schedule=[{role='perceiver', steps=3, lr=1e-4}]"
    return load_recipe(path, [schedule, "partner.max_error_rate=1", "checkpoint.every=1", *changes])


def test_terms_are_recorded_resumed_and_shown(tmp_path: Path) -> None:
    whole = make(tmp_path, "whole")
    run(whole)
    (tmp_path / "half").mkdir()
    half = make(tmp_path / "half", "run")
    with pytest.raises(KeyError):
        run(half, stop_after=2)
    said = run(half, resume=True)
    assert not any("mine.py" in each for each in said)
    steps = read_metrics(whole.out)
    assert read_metrics(half.out) == steps
    terms = {name for step in steps for name in cast("dict[str, float]", step["terms"])}
    assert {"correct", "mine.py:short", "mine.py:agrees"} <= terms
    causes = {cause for step in steps for cause in cast("dict[str, int]", step["failures"])}
    assert causes == {"the reward term mine.py:agrees cannot tell"}
    assert sum(cast("int", step["num_unjudged"]) for step in steps) > 0
    read = read_training_run(whole.out)
    assert "Reward term: mine.py:short" in {chart.title for chart in draw_step_charts([read], ["run"])}
    rollouts = [rollout for group in view_groups([read], ["run"])[0] for rollout in group.rollouts]
    assert "masked: the reward term mine.py:agrees cannot tell" in {rollout.masked for rollout in rollouts}
    assert any("mine.py:short 1" in rollout.terms_text for rollout in rollouts)


def test_a_run_whose_reward_never_can_tell_says_that_nothing_was_learned(tmp_path: Path) -> None:
    recipe = make(tmp_path, "run", "schedule=[{role='perceiver', steps=1, lr=1e-4}]", "probe={}")
    (tmp_path / "mine.py").write_text("def short(reply): return None\n\n\ndef agrees(reply): return 1.0\n")
    assert f"phase 0-perceiver: {UNJUDGED}" in run(recipe)
    assert "no group had two rollouts that were judged" in write_training_lede([read_training_run(recipe.out)])


def test_a_changed_function_is_said_when_the_run_is_resumed(tmp_path: Path) -> None:
    recipe = make(tmp_path, "run")
    with pytest.raises(KeyError):
        run(recipe, stop_after=1)
    (tmp_path / "mine.py").write_text(REWARDS + "# another\n")
    said = run(recipe, resume=True)
    assert sum("has changed since the run last used it" in each for each in said) == 2


def test_boxes_are_rewarded_without_a_partner(tmp_path: Path) -> None:
    """Its server is neither started nor asked."""
    reward = "schedule=[{role='perceiver', steps=2, reward={terms={box_f1=1, box_iou=0.5}, vetoes=[]}}]"
    partner = "partner={kind='endpoint', url='http://127.0.0.1:9/v1', launch='no-such-program'}"
    done = p2r.train(make_recipe(tmp_path / "run", [reward, partner]))
    assert [step.num_partner_calls for step in done.steps] == [0, 0]
    for group in done.groups:
        for rollout in group.rollouts:
            assert rollout.reward == pytest.approx(rollout.terms["box_f1"] + 0.5 * rollout.terms["box_iou"])


def test_a_judge_that_is_gone_stops_the_training_before_its_first_step(tmp_path: Path) -> None:
    with serve(completion("yes"), models=["m"]) as server:
        url = server.url
    recipe = make_recipe(tmp_path / "run", [f"reward.judge={{url='{url}'}}"])
    with pytest.raises(EndpointError, match="the judge of free answers"):
        p2r.train(recipe)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
