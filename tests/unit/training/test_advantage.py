"""Advantages by rule (paper, equation 4)."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from p2r.config import AdvantageSettings  # noqa: E402
from p2r.training.advantages import compute_advantages  # noqa: E402

NAN = float("nan")
TINY = 1e-12


def advantages(rewards: list[float], valid: list[bool] | None = None, **options: object) -> list[float]:
    valid_PG = torch.tensor([valid or [True] * len(rewards)])
    settings = AdvantageSettings.model_validate(options)
    computed = compute_advantages(torch.tensor([rewards], dtype=torch.float64), valid_PG, settings)
    return computed.advantages_PG[0].tolist()


def test_the_release_divides_by_the_standard_deviation_of_a_sample() -> None:
    # mean 1/4, squares 1/16 x 3 + 9/16 = 3/4, by n - 1 = 3: variance 1/4.
    assert advantages([0, 0, 1, 0], eps=TINY) == pytest.approx([-0.5, -0.5, 1.5, -0.5])


def test_the_population_s_standard_deviation_by_name() -> None:
    deviation = math.sqrt(3) / 4
    expected = [-0.25 / deviation, -0.25 / deviation, 0.75 / deviation, -0.25 / deviation]
    assert advantages([0, 0, 1, 0], std="population", eps=TINY) == pytest.approx(expected)


def test_dr_grpo_takes_off_the_mean_alone() -> None:
    assert advantages([0, 0, 1, 0], std="none") == pytest.approx([-0.25, -0.25, 0.75, -0.25])


def test_eps_is_added_to_the_deviation() -> None:
    assert advantages([0, 0, 1, 0], eps=0.5) == pytest.approx([-0.25, -0.25, 0.75, -0.25])


@pytest.mark.parametrize("failed", [0.0, 1.0, NAN])
def test_what_could_not_be_judged_neither_counts_nor_is_taught(failed: float) -> None:
    assert advantages([0, failed, 1, 0, 0], [True, False, True, True, True], eps=TINY) == pytest.approx(
        [-0.5, 0, 1.5, -0.5, -0.5]
    )


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1])
@pytest.mark.parametrize("std", ["sample", "population", "none"])
def test_equal_rewards_teach_nothing_and_are_counted_as_dead(reward: float, std: str) -> None:
    settings = AdvantageSettings.model_validate({"std": std})
    computed = compute_advantages(torch.full((1, 7), reward), torch.ones(1, 7, dtype=torch.bool), settings)
    assert computed.advantages_PG.tolist() == [[0.0] * 7]
    assert computed.dead_P.tolist() == [True]
    assert computed.dropped_P.tolist() == [False]


def test_a_group_with_fewer_than_two_judged_rollouts_is_dropped() -> None:
    rewards = torch.tensor([[1.0, NAN, NAN], [1.0, 0.0, NAN], [NAN, NAN, NAN]])
    computed = compute_advantages(rewards, ~rewards.isnan(), AdvantageSettings())
    assert computed.dropped_P.tolist() == [True, False, True]
    assert computed.dead_P.tolist() == [False, False, False]
    assert computed.advantages_PG[[0, 2]].tolist() == [[0.0] * 3] * 2
    assert computed.advantages_PG[1].tolist() == pytest.approx([math.sqrt(0.5), -math.sqrt(0.5), 0.0], rel=1e-5)


def test_groups_do_not_mix() -> None:
    rewards = torch.rand(5, 8, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(5, 8, dtype=torch.bool)
    together = compute_advantages(rewards, valid, AdvantageSettings()).advantages_PG
    alone = [
        compute_advantages(rewards[p : p + 1], valid[p : p + 1], AdvantageSettings()).advantages_PG for p in range(5)
    ]
    assert torch.equal(together, torch.cat(alone))
