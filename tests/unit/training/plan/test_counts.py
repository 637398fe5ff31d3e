"""Steps, rollouts, tokens and operations of a phase, by hand."""

from __future__ import annotations

import pytest

from p2r.config import Phase, Recipe
from p2r.training.plan.counts import count_phase, needs_rows
from p2r.training.plan.flops import estimate_flops, sum_updates
from tests.fakes.training import make_recipe

PASSES = {"schedule": [{"role": "perceiver", "passes": 2}, {"role": "reasoner", "passes": 1}]}
LIMITS = ["rollout.max_new_tokens={perceiver=10, reasoner=30}", "data.max_prompt_tokens={perceiver=100, reasoner=200}"]


def first(recipe: Recipe) -> Phase:
    return recipe.phases()[0]


def test_a_phase_of_steps_needs_no_rows_and_one_of_passes_does() -> None:
    assert not needs_rows(first(make_recipe(["phase.steps=3"])))
    assert needs_rows(first(make_recipe(**PASSES)))
    assert needs_rows(first(make_recipe(["phase.steps=3", "data.difficulty.num_rollouts=4"])))


def test_passes_drop_the_rows_that_do_not_fill_a_step() -> None:
    recipe = make_recipe(LIMITS, **PASSES)
    counts = count_phase(recipe, first(recipe), 7)
    assert (counts.num_steps, counts.rollouts_per_step, counts.num_rollouts) == (6, 8, 48)
    assert (counts.num_before, counts.num_tokens) == (0, 480)


def test_a_control_takes_as_many_rollouts_as_the_phases_that_it_replaces() -> None:
    plain = make_recipe(LIMITS, **PASSES)
    in_phases = [count_phase(plain, phase, 12) for phase in plain.phases()]
    assert sum(each.num_rollouts for each in in_phases) == 144
    for control in ("joint", "single-stage"):
        recipe = make_recipe([*LIMITS, f"control={control}"], **PASSES)
        counts = count_phase(recipe, first(recipe), 12)
        assert (counts.num_steps, counts.num_rollouts) == (18, 144), control
        assert counts.num_tokens == 144 * (20 if control == "joint" else 30)


def test_rollouts_before_a_phase_are_counted_once_where_phases_share_them() -> None:
    rule = {"data": {"num_rows": 8, "difficulty": {"num_rollouts": 3, "keep": "medium"}}}
    recipe = make_recipe(["control=none"], schedule=[{"role": "reasoner", "steps": 2}] * 2, **rule)
    before = [count_phase(recipe, phase, 8).num_before for phase in recipe.phases()]
    assert before == [24, 0]


def test_the_operations_of_updates_add_up() -> None:
    assert sum_updates(1.0, 2.0, num_updates=3, has_reference=False) == 9
    assert sum_updates(1.0, 2.0, num_updates=3, has_reference=True) == 10


@pytest.mark.parametrize(
    ("changes", "per_row"),
    [
        # a row of the perceiver: 100 + 4 replies x 10; the frozen reasoner: 4 answers x (200 + 50)
        ([], (1 + 1 + 3) * 140 + 1000),
        (["loss.kl_coef=0"], (1 + 3) * 140 + 1000),
        (["optimizer.updates_per_batch=2"], (1 + 1 + 6) * 140 + 1000),
        (["model.lora.rank=4"], (1 + 1 + 2) * 140 + 1000),
        # the frozen perceiver looks once: 100 + 50
        (['schedule=[{role="reasoner"}]'], (1 + 1 + 3) * 320 + 150),
        (["control=single-stage"], (1 + 1 + 3) * 320),
        # half of the rows, both roles of each
        (["control=joint"], (1 + 1 + 3) * (140 + 320) / 2),
    ],
)
def test_the_operations_of_a_phase_are_those_of_its_longest_prompts_and_replies(
    changes: list[str], per_row: float
) -> None:
    recipe = make_recipe([*LIMITS, "partner.max_new_tokens=50", "loss.kl_coef=0.01", "phase.steps=3", *changes])
    phase = first(recipe).model_copy(update={"steps": 3})
    counts = count_phase(recipe, phase, 0)
    rows = 3 * recipe.rollout.prompts_per_step
    assert estimate_flops(recipe, phase, counts, 1000) == pytest.approx(2 * 1000 * rows * per_row)
