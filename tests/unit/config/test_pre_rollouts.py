"""Pre-rollouts by right answers: what they are rewarded by, and which phases share them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from p2r.config import Recipe, as_measured, find_measuring_phase, parse_recipe
from p2r.errors import ConfigError

EASY, MEDIUM = {"difficulty": {"keep": "easy"}}, {"difficulty": {"keep": "medium"}}


def make(first: Mapping[str, object], second: Mapping[str, object], **tables: object) -> Recipe:
    data = {"source": "rows.jsonl", "difficulty": {"num_rollouts": 8}}
    schedule = [{"role": "answerer", "data": EASY, **first}, {"role": "answerer", "data": MEDIUM, **second}]
    return parse_recipe({"out": "runs/x", "data": data, "schedule": schedule, **tables})


def shares(recipe: Recipe) -> bool:
    first, second = recipe.rewarded_phases
    assert find_measuring_phase(recipe, first) == first
    return find_measuring_phase(recipe, second) == first


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        ({}, {}, True),
        # What a step is made of, what is rewarded, and how it is learned
        ({"rollout": {"group_size": 4, "prompts_per_step": 560}}, {"rollout": {"prompts_per_step": 512}}, True),
        ({"rollout": {"prompts_at_once": 3}}, {"rollout": {"dynamic_sampling": True, "max_rounds": 9}}, True),
        ({"reward": {"terms": {"format": 1.0}}}, {"reward": {"terms": {"correct": 0.9, "format": 0.1}}}, True),
        ({"reward": {"set": "paper"}}, {"optimizer": {"lr": 5e-7}}, True),
        ({"data": {**EASY, "seed": 3}}, {"data": {**MEDIUM, "skip_bad": 2}}, True),
        ({"passes": 1}, {"passes": 2}, True),
        # What a reply, its judgment, or the rows depend on
        ({}, {"role": "reasoner"}, False),
        ({}, {"source": "nano-base"}, False),
        ({"rollout": {"temperature": 1.2}}, {}, False),
        ({"rollout": {"top_p": 0.9}}, {}, False),
        ({"rollout": {"prompts": "paper"}}, {}, False),
        ({"rollout": {"max_new_tokens": {"perceiver": 9, "reasoner": 9}}}, {}, False),
        ({}, {"reward": {"judge": "partner"}}, False),
        ({}, {"data": {"source": "other.jsonl", **MEDIUM}}, False),
        ({}, {"data": {"num_rows": 5, **MEDIUM}}, False),
        ({}, {"data": {"difficulty": {"keep": "medium", "num_rollouts": 4}}}, False),
        # A phase that goes by rewards measures its own
        ({"data": {"difficulty": {"rule": "drop"}}}, {}, False),
        ({"data": {"difficulty": {"rule": "drop"}}, "reward": {"set": "paper"}}, {}, False),
    ],
)
def test_phases_that_ask_the_same_share_a_measurement(
    first: Mapping[str, object], second: Mapping[str, object], is_shared: bool
) -> None:
    assert shares(make(first, second)) is is_shared


def test_needles_of_another_seed_are_other_rows() -> None:
    needles = {"source": "needles", "num_rows": 9, "difficulty": {"num_rollouts": 8}}
    assert shares(make({}, {}, data=needles))
    assert not shares(make({}, {"data": {**MEDIUM, "seed": 5}}, data=needles))


def test_a_phase_of_each_iteration_reads_what_the_first_has_measured_and_a_warm_up_measures_nothing() -> None:
    recipe = make({}, {}, iterations=2)
    assert [find_measuring_phase(recipe, phase).index for phase in recipe.phases()] == [0, 0, 0, 0]
    warm_up = {"role": "answerer", "method": "sft", "data": {"source": "sft.jsonl"}}
    tables = recipe.model_dump(mode="json", exclude={"schedule"})
    schedule = [warm_up, *({"role": "answerer", "data": each} for each in (EASY, MEDIUM))]
    recipe = parse_recipe({**tables, "schedule": schedule, "iterations": 1})
    assert [find_measuring_phase(recipe, phase).index for phase in recipe.rewarded_phases] == [1, 1]


def test_rows_are_kept_by_right_answers_whatever_is_rewarded() -> None:
    recipe = make({"reward": {"terms": {"format": 1.0}, "vetoes": ["format"], "judge": "partner"}}, {})
    measured = as_measured(recipe.phases()[0])
    assert measured.reward.active_terms == {"correct": 1.0} and measured.reward.active_vetoes == ()
    assert measured.reward.judge == "partner" and not measured.reward.overlong
    plain = make({"data": {"difficulty": {"rule": "drop"}}}, {}).phases()[0]
    assert as_measured(plain) == plain


def test_a_phase_sets_only_what_it_keeps() -> None:
    easy, medium = make({}, {}).phases()
    assert easy.data.difficulty is not None and medium.data.difficulty is not None
    assert (easy.data.difficulty.num_rollouts, easy.data.difficulty.keep) == (8, "easy")
    assert (medium.data.difficulty.num_rollouts, medium.data.difficulty.keep) == (8, "medium")


def test_a_saved_recipe_is_read_back() -> None:
    recipe = make({}, {})
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.difficulty.keep=hard", "data.difficulty.keep is 'hard': it must be 'easy' or 'medium'"),
        ("data.difficulty={keep='easy', rule='weight'}", "leave out one of them"),
        ("data.difficulty={keep='easy', num_rollouts=1}", "num_rollouts is 1: it must be at least 2"),
    ],
)
def test_what_cannot_be_kept_is_refused(change: str, said: str) -> None:
    with pytest.raises(ConfigError, match="difficulty") as caught:
        parse_recipe({"out": "runs/x", "data": {"source": "rows.jsonl"}}, [change])
    assert said in caught.value.message + caught.value.hint
