"""Trackers: one run of theirs for each run of ours, with its recipe and its rollouts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("torch")

from p2r.config import Recipe, parse_recipe
from p2r.errors import ConfigError
from p2r.training.watch.trackers import MOST_ROLLOUTS, Trackers
from p2r.types import Box
from tests.fakes.tracker_modules import Call, Table, install_tracker
from tests.fakes.training_runs import make_group, make_trace


def make(folder: Path, name: str, **more: object) -> Recipe:
    folder.mkdir(parents=True, exist_ok=True)
    return parse_recipe({"out": str(folder), "data": {"num_rows": 8}, "trackers": {name: True}, **more})


def follow(recipe: Recipe, first_step: int = 0) -> None:
    with Trackers(recipe, recipe.out, first_step=first_step) as trackers:
        trackers.send({"reward": 0.5, "phase": "0-perceiver", "timing": {"rollout": 2}}, first_step + 1)
        box = Box(x1=1.4, y1=2, x2=30, y2=40)
        traces = [make_trace("A", box), None, *[make_trace("B")] * MOST_ROLLOUTS]
        trackers.send_group(make_group("0-perceiver", 1, "perceiver", traces), first_step + 1)


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, name: str) -> None:
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    with pytest.raises(ConfigError, match=f"trackers.{name} is on") as caught:
        Trackers(make(tmp_path, name), tmp_path, first_step=0)
    assert f"pip install {name}" in caught.value.hint


def find(calls: list[Call], name: str) -> list[dict[str, object]]:
    return [given for called, given in calls if called == name]


@pytest.mark.parametrize(("name", "key"), [("wandb", "id"), ("trackio", "name")])
def test_a_resumed_run_goes_on_and_one_of_the_same_folder_name_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    calls = install_tracker(monkeypatch, name)
    first, other = make(tmp_path / "a" / "seed0", name), make(tmp_path / "b" / "seed0", name)
    for recipe in (first, first, other):
        follow(recipe)
    one, resumed, another = find(calls, "init")
    assert one[key] == resumed[key] != another[key]
    assert str(one["name"]).startswith("seed0") and one["resume"] == "allow"
    assert len(find(calls, "finish")) == 3


def test_hyper_parameters_are_sent_without_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install_tracker(monkeypatch, "wandb")
    partner = {"kind": "endpoint", "url": "http://me:secret@host/v1"}
    follow(make(tmp_path, "wandb", partner=partner, seed=7))
    config = find(calls, "init")[0]["config"]
    assert isinstance(config, dict)
    assert config["seed"] == 7 and config["loss"]["kl_coef"] == 0.01
    assert "secret" not in str(config)


def test_metrics_and_a_table_of_rollouts_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install_tracker(monkeypatch, "wandb")
    follow(make(tmp_path, "wandb"), first_step=4)
    metrics, rollouts = find(calls, "log")
    assert metrics == {"reward": 0.5, "timing/rollout": 2.0, "step": 5}
    table = rollouts["rollouts"]
    assert isinstance(table, Table) and rollouts["step"] == 5
    assert len(table.data) == MOST_ROLLOUTS
    first = dict(zip(table.columns, table.data[0], strict=True))
    assert (first["boxes"], first["answer"], first["reward"], first["advantage"]) == (
        "[[1, 2, 30, 40]]",
        "A",
        1.0,
        0.25,
    )
    assert first["question"] and first["reply"] == "<script>alert(1)</script>"
    assert table.data[1][3:7] == ["", "<script>alert(1)</script>", "[]", None]


def test_tensorboard_gets_metrics_recipe_and_rollouts(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    follow(make(tmp_path, "tensorboard"))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"reward", "timing/rollout"} <= set(events.Tags()["scalars"])
    assert events.Scalars("reward")[0].value == 0.5
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert '"kl_coef": 0.01' in texts["recipe/text_summary"]
    table = texts["rollouts/text_summary"].splitlines()
    assert len(table) == MOST_ROLLOUTS + 2 and "[[1, 2, 30, 40]]" in table[2]


def test_no_tracker_writes_nothing(tmp_path: Path) -> None:
    with Trackers(None, tmp_path, first_step=0) as trackers:
        trackers.send({"reward": 1.0}, 1)
    assert list(tmp_path.iterdir()) == []
