"""Steps, rollouts, tokens and operations of a phase, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from p2r.config import Phase, Recipe, RolloutSettings
from p2r.training.plan.counts import count_phase, needs_rows
from p2r.training.plan.flops import estimate_flops, sum_updates
from p2r.training.plan.seconds import GPUS, Gpu, compute_seconds, describe_computed, describe_sampler
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
        (["partner.kind=vllm"], (1 + 1 + 3) * 140 + 1000),
        (["partner={kind='endpoint', url='http://localhost:1/v1'}"], (1 + 1 + 3) * 140),
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


LAYERS = {"num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 80}
KV_BYTES = 2 * 2 * 10 * 2 * 10
"""Keys and values of a token, in bfloat16."""


@pytest.mark.parametrize("kind", ["endpoint", "local", "vllm"])
def test_the_seconds_of_a_step_are_arithmetic_reading_or_operations_and_handing_weights_over(kind: str) -> None:
    url = ", url='http://localhost:1/v1#m'" if kind == "endpoint" else ""
    sizes = ["rollout.group_size=8", "rollout.prompts_per_step=16", "rollout.prompts_at_once=4"]
    recipe = make_recipe([*LIMITS, *sizes, f"partner={{kind='{kind}', max_new_tokens=50, concurrency=32{url}}}"])
    phase, checkpoint = first(recipe), SimpleNamespace(config={"text_config": LAYERS})
    gpu = Gpu(flops_per_s=1e9, bytes_per_s=1e6)
    step = count_phase(recipe, phase.model_copy(update={"steps": 1}), 0)
    arithmetic = estimate_flops(recipe, phase, step, 1000) / 0.3e9
    # four lots of 4 x 8 replies, of 10 tokens to prompts of 100; 128 walks of the frozen role, 32 at once
    shared = (2000 + KV_BYTES * (4 * 100 + 32 * 5)) / 0.8e6
    single = (2000 + KV_BYTES * (32 * 100 + 32 * 5)) / 0.8e6
    frozen = 4 * 50 * (2000 + KV_BYTES * (32 * 200 + 32 * 25)) / 0.8e6 if kind != "endpoint" else 0
    local = compute_seconds(gpu, recipe, phase, checkpoint, 1000, "local")  # type: ignore[arg-type]
    assert local == pytest.approx(arithmetic + 4 * 10 * shared + frozen)
    vllm = compute_seconds(gpu, recipe, phase, checkpoint, 1000, "vllm")  # type: ignore[arg-type]
    assert vllm == pytest.approx(arithmetic + 4 * 10 * single + frozen + 2000 / 1e9)
    fast = Gpu(flops_per_s=1e9, bytes_per_s=1e12)
    operated = 10 * 80 * 8e-6 * (40 + (4 * 50 if kind == "local" else 0))
    found = compute_seconds(fast, recipe, phase, checkpoint, 1000, "local")  # type: ignore[arg-type]
    assert found == pytest.approx(arithmetic + operated, rel=1e-2)


def test_a_plan_says_computed_seconds_of_each_kind_of_phase_with_and_without_vllm() -> None:
    recipe, checkpoint = make_recipe(**PASSES), SimpleNamespace(config={"text_config": LAYERS})
    lines = [*describe_computed(recipe, checkpoint, 10**9)]  # type: ignore[arg-type]
    assert len(lines) == 2
    phase = first(recipe)
    told = [
        f'with rollout.engine = "{engine}" '
        + " and ".join(
            f"{compute_seconds(GPUS[gpu], recipe, phase, checkpoint, 10**9, engine):.3g} on an {gpu}"  # type: ignore[arg-type]
            for gpu in ("H100", "H200")
        )
        for engine in ("local", "vllm")
    ]
    assert f"computed, not measured: seconds per perceiver step at most, {told[0]}; {told[1]}" in lines


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, "beside the policy, in one process"),
        (
            {"url": "http://me:key@n1:8001"},
            "behind http://***@n1:8001, a server that is there; it is given the weights",
        ),
        ({"url": "http://n1:8001", "launch": "serve"}, "behind http://n1:8001, a server that the trainer launches;"),
    ],
)
def test_a_plan_says_where_vllm_samples(settings: dict[str, str], where: str) -> None:
    assert where in describe_sampler(RolloutSettings.model_validate({"engine": "vllm", **settings}))
