"""The cold start: what is held out, and when it stops."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("torch")

from p2r.benchmarks.needles.knobs import Knobs, parse_knobs
from recipes.nano.cold_start import RECIPE, split_entries, tomllib
from recipes.nano.language import LanguagePlan, heed_scores
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
    assert 0 < PLAN.stop_hit < 1 and 0 < PLAN.stop_right < 1


@pytest.mark.parametrize(
    ("hit", "right", "decays", "rests"), [(0.1, 0.1, 800, 800), (0.9, 0.1, 240, 800), (0.1, 0.9, 800, 240)]
)
def test_each_goal_is_noted_when_it_is_reached(hit: float, right: float, decays: int, rests: int) -> None:
    turns = {"decay_from": 800.0, "rest_from": 800.0}
    heed_scores({"hit": hit, "right_free_form": right, "right_choice": right}, PLAN, 240, turns)
    assert turns == {"decay_from": decays, "rest_from": rests}


def test_goal_that_was_reached_stays_reached_at_its_first_step() -> None:
    turns = {"decay_from": 800.0, "rest_from": 800.0}
    for step, hit in ((240, 0.9), (280, 0.1), (320, 0.95)):
        heed_scores({"hit": hit, "right_free_form": 0.0, "right_choice": 0.0}, PLAN, step, turns)
    assert turns["decay_from"] == 240


def test_reasoner_is_judged_by_both_forms_together() -> None:
    turns = {"decay_from": 800.0, "rest_from": 800.0}
    heed_scores({"hit": 0.0, "right_free_form": 1.0, "right_choice": 0.6}, PLAN, 240, turns)
    assert turns["rest_from"] == 800
    heed_scores({"hit": 0.0, "right_free_form": 1.0, "right_choice": 0.8}, PLAN, 280, turns)
    assert turns["rest_from"] == 280
