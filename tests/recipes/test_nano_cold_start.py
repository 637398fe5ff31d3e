"""The cold start: what is held out, and how its rate falls."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("torch")

from p2r.benchmarks.needles.knobs import Knobs, parse_knobs
from recipes.nano.cold_start import RECIPE, split_entries, tomllib
from recipes.nano.demonstrator import Demonstrator
from recipes.nano.language import LanguagePlan, _rate
from recipes.nano.vision import VisionPlan

SETTINGS = tomllib.loads(RECIPE.read_text(encoding="utf-8"))
PLAN = LanguagePlan(**SETTINGS["language"], seed=0)


@dataclass(frozen=True)
class Entry:
    level: int
    number: int


def test_last_scenes_of_each_level_are_not_trained_on_and_those_of_the_last_are_held_out() -> None:
    entries = [Entry(level, number) for level in range(3) for number in range(5)]
    training, held_out = split_entries(entries, (1, 2, 3))  # pyright: ignore[reportArgumentType]
    assert training == [entry for entry in entries if entry.number < 5 - (entry.level + 1)]
    assert held_out == [Entry(2, 2), Entry(2, 3), Entry(2, 4)]


def test_settings_are_those_that_the_stages_take() -> None:
    assert parse_knobs(SETTINGS["needles"]) == Knobs()
    assert VisionPlan(**SETTINGS["vision"], seed=0).steps > 0
    assert len(SETTINGS["scenes"]["counts"]) == len(SETTINGS["scenes"]["held_out"]) == 3
    assert 0 < Demonstrator(**SETTINGS["demonstrator"]).overlooks < 1
    assert PLAN.warmup_steps < PLAN.steps - PLAN.decay_steps


def test_learning_rate_rises_holds_and_falls_to_a_twentieth() -> None:
    rates = [_rate(step, PLAN) for step in range(PLAN.steps)]
    assert rates[0] == pytest.approx(1 / 30) and rates[-1] == pytest.approx(0.05)
    assert set(rates[30 : PLAN.steps - PLAN.decay_steps]) == {1.0}
    assert rates[30:] == sorted(rates[30:], reverse=True)
