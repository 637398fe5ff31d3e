"""What looks like a collapse, and what does not."""

from __future__ import annotations

import pytest

from p2r.config import GuardSettings
from p2r.runs.guards import earns_nothing, find_collapse, judges_nothing, learns_nothing
from p2r.runs.training_log import Probe, Step

GUARDS = GuardSettings(patience=4)
HEALTHY = Step(phase="0-perceiver", step=1, entropy=0.8, kl=0.01, one_box=0.5, reward=0.5)


def make_steps(num: int = 8, **last: float | None) -> list[Step]:
    """Healthy steps, the last four of which have other metrics."""
    return [HEALTHY.model_copy(update=last if step >= num - 4 else {}) for step in range(num)]


def make_probes(*hit_rates: float, num: int = 200) -> list[Probe]:
    return [Probe(phase="0-perceiver", step=0, hit_rate=rate, num_findable=num) for rate in hit_rates]


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("entropy_floor", {"entropy": 0.001}),
        ("kl_ceiling", {"kl": 1.5}),
        ("box_count", {"one_box": 1.0}),
        ("dead_groups", {"dead_groups": 1.0}),
        ("dead_groups", {"dead_groups": None, "drawn_dead_groups": 1.0, "reward": None, "drawn_reward": 1.0}),
        ("zero_rewards", {"reward": 0.0}),
        ("zero_rewards", {"reward": 0.0, "accuracy": 0.0, "dead_groups": 1.0}),
        ("zero_rewards", {"reward": -0.25, "accuracy": 0.0}),  # too long as well
        ("zero_rewards", {"reward": None, "drawn_reward": 0.0, "drawn_accuracy": 0.0, "drawn_dead_groups": 1.0}),
    ],
)
def test_a_collapse_is_found_and_named(name: str, metrics: dict[str, float | None]) -> None:
    found = find_collapse(make_steps(**metrics), [], GUARDS)
    assert list(found) == [name]
    if name == "dead_groups":  # advice for a phase that keeps rows by right answers, too
        assert 'data.difficulty with rule = "drop" leaves out rows whose rewards are alike' in found[name]


def test_a_healthy_run_alarms_nobody() -> None:
    assert find_collapse(make_steps(), make_probes(0.5, 0.55), GUARDS) == {}


def test_one_box_from_the_beginning_is_not_a_collapse() -> None:
    assert find_collapse([HEALTHY.model_copy(update={"one_box": 1.0})] * 8, [], GUARDS) == {}


def test_nothing_is_said_before_there_are_enough_steps() -> None:
    assert find_collapse([HEALTHY.model_copy(update={"entropy": 0.0})] * 3, [], GUARDS) == {}


def test_metrics_that_are_not_known_alarm_nobody() -> None:
    assert find_collapse([Step(phase="0-perceiver", step=1)] * 8, [], GUARDS) == {}


def test_a_reward_that_rises_while_the_boxes_hit_less_is_told() -> None:
    found = find_collapse(make_steps(reward=0.7), make_probes(0.6, 0.4), GUARDS)
    assert found == {"reward_without_hit": "the reward rose by 0.200 while the probe's hit rate fell by 0.200"}


def test_a_fall_within_chance_is_not_told() -> None:
    assert find_collapse(make_steps(reward=0.7), make_probes(0.6, 0.55), GUARDS) == {}


def test_guards_can_be_switched_off() -> None:
    settings = GuardSettings(patience=4, box_count=False, reward_without_hit=False)
    assert find_collapse(make_steps(one_box=1.0, reward=0.7), make_probes(0.6, 0.2), settings) == {}


def test_a_run_learns_as_long_as_one_group_differs() -> None:
    dead = HEALTHY.model_copy(update={"dead_groups": 1.0})
    assert learns_nothing([dead, dead])
    assert not learns_nothing([dead, dead.model_copy(update={"dead_groups": 0.99})])
    assert not learns_nothing([dead, HEALTHY]), "the share is not known"
    assert not learns_nothing([])
    assert find_collapse([dead] * 8, [], GUARDS.model_copy(update={"dead_groups": False})) == {}


def test_a_run_judges_nothing_when_every_group_is_dropped() -> None:
    dropped = HEALTHY.model_copy(update={"dropped_groups": 1.0})
    assert judges_nothing([dropped, dropped])
    assert not judges_nothing([dropped, dropped.model_copy(update={"dropped_groups": 0.9})])
    assert not judges_nothing([])


def test_one_right_answer_is_a_reward() -> None:
    nothing = HEALTHY.model_copy(update={"reward": 0.0, "accuracy": 0.0})
    assert earns_nothing([nothing, nothing])
    for other in ({"reward": 0.01}, {"reward": None}, {"reward": -0.1, "accuracy": 0.1}, {"drawn_reward": 0.5}):
        assert not earns_nothing([nothing, nothing.model_copy(update=other)])
    assert not earns_nothing([])
    assert find_collapse([nothing] * 8, [], GUARDS.model_copy(update={"zero_rewards": False})) == {}


def test_the_sentence_about_rewards_says_where_to_look() -> None:
    [text] = find_collapse(make_steps(reward=0.0), [], GUARDS).values()
    assert text.startswith("no rollout earned a reward in 4 steps: ") and "targets" in text and "rollouts" in text
