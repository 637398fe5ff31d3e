"""Two processes learn what one does: the same loss and gradients, with weights and gradients split by FSDP2."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.processes import run_world
from tests.fakes.split_training import train_split
from tests.fakes.tiny_training import read_metrics
from tests.fakes.uneven_training import train_split_unevenly

pytestmark = pytest.mark.slow

LONGEST_WAIT_S = 900.0


def start(out: Path, num_processes: int, train: Callable[[Path], None] = train_split) -> Path:
    out.mkdir()
    run_world(num_processes, train, out, longest_wait_s=LONGEST_WAIT_S)
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(tmp_path_factory.mktemp("split") / "alone", 1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(tmp_path_factory.mktemp("split") / "pair", 2)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(tmp_path_factory.mktemp("split") / "uneven", 2, train_split_unevenly)


@pytest.fixture(params=["pair", "uneven"])
def two_processes(request: pytest.FixtureRequest) -> Path:
    """Each process has two of the groups, or one of them has all."""
    return request.getfixturevalue(request.param)


def test_two_processes_have_the_loss_of_one(alone: Path, two_processes: Path) -> None:
    check_losses(alone / "whole.json", two_processes / "whole.json")


def test_two_processes_have_the_loss_of_one_in_mini_batches(alone: Path, two_processes: Path) -> None:
    check_losses(alone / "halves.json", two_processes / "halves.json")


def check_losses(alone: Path, together: Path) -> None:
    one, two = (json.loads(path.read_text()) for path in (alone, together))
    for name in ("loss", "policy", "kl", "entropy", "grad_norm"):
        assert two[name] == pytest.approx(one[name], rel=1e-5, abs=1e-7), name
    assert two["num_tokens"] == one["num_tokens"]
    assert one["kl"] > 0


@pytest.mark.parametrize("name", ["whole", "layers", "once"])
def test_of_two_processes_each_holds_half_of_the_policy_and_of_its_frozen_copy(
    alone: Path, two_processes: Path, name: str
) -> None:
    """After an update; what it gathered is gone."""
    one, two = (json.loads((folder / f"{name}.json").read_text()) for folder in (alone, two_processes))
    assert one["shares"] == [{"learns": 1, "frozen": 1}]
    assert len(two["shares"]) == 2 and all(0.49 < share < 0.51 for each in two["shares"] for share in each.values())


def test_groups_are_dealt_out_again_wherever_they_were_sampled(two_processes: Path) -> None:
    assert json.loads((two_processes / "whole.json").read_text())["num_micros"] == [2, 2]


def test_weights_are_gathered_once_for_an_update(two_processes: Path) -> None:
    """Policy and reference; of one micro-batch each layer else three times, and the outermost unit twice."""
    whole, layers, once = (
        json.loads((two_processes / f"{name}.json").read_text()) for name in ("whole", "layers", "once")
    )
    units, micros = whole["units"], 2
    assert units > 2
    assert count(whole, "allgather_base") == count(once, "allgather_base") == 2 * units
    assert count(layers, "allgather_base") == micros * (3 * units - 1)
    assert count(whole, "reduce_scatter_base") == count(layers, "reduce_scatter_base") == micros * units
    assert count(once, "reduce_scatter_base") == units


def count(facts: Mapping[str, Any], collective: str) -> int:
    return facts["collectives"][f"_{collective}_"]


@pytest.mark.parametrize("name", ["layers", "once"])
def test_what_is_held_during_an_update_changes_no_loss_and_no_gradient(
    alone: Path, two_processes: Path, name: str
) -> None:
    check_losses(alone / f"{name}.json", two_processes / f"{name}.json")
    check_gradients(alone / f"{name}.pt", two_processes / f"{name}.pt", 1e-5)
    check_losses(two_processes / "whole.json", two_processes / f"{name}.json")


def test_two_processes_have_the_gradients_of_one(alone: Path, two_processes: Path) -> None:
    check_gradients(alone / "whole.pt", two_processes / "whole.pt", 1e-5)


def test_two_processes_have_the_gradients_of_one_in_the_second_mini_batch(alone: Path, two_processes: Path) -> None:
    # Between the two, AdamW has moved weights without a gradient by the sign of rounding.
    check_gradients(alone / "halves.pt", two_processes / "halves.pt", 1e-2)


def test_processes_learn_from_rows_with_and_without_an_image(alone: Path, pair: Path) -> None:
    one, two = (json.loads((folder / "demonstrations.json").read_text()) for folder in (alone, pair))
    assert two == {name: pytest.approx(value, rel=1e-5) for name, value in one.items()}
    check_gradients(alone / "demonstrations.pt", pair / "demonstrations.pt", 1e-5)


def check_gradients(alone: Path, together: Path, tolerance: float) -> None:
    one, two = (torch.load(path, weights_only=True) for path in (alone, together))
    assert one.keys() == two.keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    assert largest > 0
    apart = {name: float((two[name] - gradient).abs().max()) for name, gradient in one.items()}
    assert max(apart.values()) < tolerance * largest


def test_a_run_of_two_processes_rolls_out_and_rewards_as_that_of_one(alone: Path, pair: Path) -> None:
    one, two = read_metrics(alone / "run")[0], read_metrics(pair / "run")[0]
    for name in ("reward", "accuracy", "num_rollouts", "num_generated_tokens", "unique_evidence", "mean_boxes"):
        assert two[name] == one[name], name
    for name in ("loss", "grad_norm", "entropy"):
        assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-6), name


def test_a_run_of_two_processes_leaves_whole_checkpoints(pair: Path) -> None:
    assert (pair / "run" / "1-reasoner" / "model.safetensors").is_file()
    parts = sorted(path.name for path in (pair / "run" / "checkpoints" / "001-000001").iterdir())
    assert parts == ["part-0.pt", "part-1.pt", "state.json"]


def test_a_step_without_groups_is_recorded_and_the_run_goes_on(uneven: Path) -> None:
    half, nothing, whole = read_metrics(uneven / "run")
    assert [step["num_groups"] for step in (half, nothing, whole)] == [1, 0, 2]
    assert [step["num_failed_rows"] for step in (half, nothing, whole)] == [1, 2, 0]
    assert half["loss"] is not None and half["grad_norm"], "the groups of the other process count"
    assert nothing["reward"] is None and nothing["loss"] is None
    assert whole["loss"] is not None
    before, after = (load_weights(uneven / "run", step) for step in (1, 2))
    assert all(torch.equal(weight, before[name]) for name, weight in after.items())


def test_processes_that_draw_together_resume_as_if_undisturbed(uneven: Path) -> None:
    whole, resumed = uneven / "drawn", uneven / "resumed"
    assert read_metrics(resumed) == read_metrics(whole)
    states = [sorted((run / "checkpoints").glob("*/state.json")) for run in (whole, resumed)]
    ours, theirs = ([json.loads(path.read_text())["row_position"] for path in paths] for paths in states)
    assert ours == theirs and len(ours) == 4
    for rank in (0, 1):
        ours, theirs = (load_weights(run, 4, rank) for run in (resumed, whole))
        assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
    rounds = [step["num_rows"] for step in read_metrics(whole)]
    assert max(rounds) > 2, "some step needs more rows than it wants groups"
    assert max(rounds) <= 5, "no row is asked twice in a step"


def load_weights(run: Path, step: int, rank: int = 0) -> dict[str, torch.Tensor]:
    part = run / "checkpoints" / f"000-{step:06d}" / f"part-{rank}.pt"
    return torch.load(part, weights_only=True)["weights"]
