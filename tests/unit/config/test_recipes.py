"""Recipes: read, changed, refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.config import load_recipe, parse_recipe, save_recipe
from p2r.errors import ConfigError

LEAST = {"out": "runs/x", "data": {"num_rows": 100}}


def test_defaults_are_the_papers_table_6() -> None:
    recipe = parse_recipe(LEAST)
    assert (recipe.rollout.prompts_per_step, recipe.rollout.group_size) == (64, 8)
    assert (recipe.optimizer.lr, recipe.loss.kl_coef, recipe.loss.reduction) == (1e-6, 0.01, "token-mean")
    assert (recipe.data.max_prompt_tokens.perceiver, recipe.data.max_prompt_tokens.reasoner) == (2560, 8704)
    assert (recipe.rollout.max_new_tokens.perceiver, recipe.rollout.max_new_tokens.reasoner) == (1024, 2048)
    assert [phase.name for phase in recipe.phases()] == ["0-perceiver", "1-reasoner"]
    assert recipe.advantage.std == "sample"
    assert [phase.count_steps(10_000, 64) for phase in recipe.phases()] == [156, 156]


def test_a_saved_recipe_is_read_back_as_it_was(tmp_path: Path) -> None:
    recipe = parse_recipe({**LEAST, "loss": {"estimator": "dapo"}}, ["model.lora.rank=8"])
    save_recipe(recipe, tmp_path / "recipe.json")
    assert load_recipe(tmp_path / "recipe.json") == recipe


def test_set_changes_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        'out = "a"\nschedule = [{role = "perceiver"}, {role = "reasoner", steps = 3}]\n[data]\nnum_rows = 9\n'
    )
    changes = ["out=runs/new", "rollout.temperature=0.7", "schedule.0.steps=5", "phase.lr=2e-5", "model.dtype=float32"]
    recipe = load_recipe(path, changes)
    assert recipe.out == Path("runs/new")
    assert recipe.rollout.temperature == 0.7
    assert [(phase.steps, phase.lr) for phase in recipe.phases()] == [(5, 2e-5), (3, 2e-5)]
    assert recipe.model.dtype == "float32"


def test_estimators_fill_in_what_the_recipe_does_not_say() -> None:
    dapo = parse_recipe({**LEAST, "loss": {"estimator": "dapo", "clip_high": 0.3}})
    assert (dapo.loss.kl_coef, dapo.loss.clip_low, dapo.loss.clip_high) == (0.0, 0.2, 0.3)
    assert (dapo.rollout.dynamic_sampling, dapo.reward.overlong) == (True, 1.0)
    dr_grpo = parse_recipe(LEAST, ["loss.estimator=dr-grpo"])
    assert (dr_grpo.advantage.std, dr_grpo.loss.reduction, dr_grpo.loss.kl_coef) == ("none", "dr-grpo", 0.0)
    gspo = parse_recipe(LEAST, ["loss.estimator=gspo", "loss.kl_coef=0.02"])
    assert (gspo.loss.ratio, gspo.loss.reduction, gspo.loss.kl_coef) == ("sequence", "sequence-mean", 0.02)


def test_iterations_repeat_the_schedule() -> None:
    recipe = parse_recipe(LEAST, ["iterations=2", "schedule=[{role='reasoner', steps=4}, {role='perceiver'}]"])
    assert [(phase.name, phase.steps) for phase in recipe.phases()] == [
        ("0-reasoner", 4),
        ("1-perceiver", None),
        ("2-reasoner", 4),
        ("3-perceiver", None),
    ]
    assert recipe.roles == ("perceiver", "reasoner")


@pytest.mark.parametrize(("control", "rows"), [("single-stage", 64), ("joint", 32)])
def test_controls_run_as_many_steps_and_rollouts_as_the_schedule(control: str, rows: int) -> None:
    recipe = parse_recipe(
        LEAST, [f"control={control}", "schedule=[{role='perceiver', steps=7}, {role='reasoner', steps=3}]"]
    )
    (phase,) = recipe.phases()
    assert (phase.name, phase.count_steps(999, 64), recipe.prompts_per_step) == (f"0-{control}", 10, rows)
    assert rows * len(phase.roles) == 64


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("rolout.group_size=4", "unknown setting rolout", "did you mean rollout?"),
        ("rollout.group_sze=4", "unknown setting rollout.group_sze", "did you mean rollout.group_size?"),
        ("model.lora.rnk=4", "unknown setting model.lora.rnk", "did you mean model.lora.rank?"),
        ("schedule.0.stps=4", "unknown setting schedule.0.stps", "did you mean schedule.0.steps?"),
        ("rollout.xyz=4", "unknown setting rollout.xyz", "there are group_size"),
        ("rollout.group_size=1", "rollout.group_size is 1", "at least 2"),
        ("rollout.temperature=0", "rollout.temperature is 0", "above 0"),
        ("loss.estimator=ppo", "loss.estimator is 'ppo'", ""),
        ("reward.weights={luck=1}", "reward.weights", ""),
        ("partner.kind=endpoint", "an endpoint needs url", ""),
        ("partner.url='http://x/v1'", "url and launch belong to", ""),
        ("control=joint", "has to be even", ""),
        ("schedule.7.steps=4", "'7' is not the number of an entry", "there are 1"),
        ("seed.x=4", "seed is 3, which has no settings", ""),
        ("rollout", "sets nothing", "--set"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(change: str, message: str, hint: str) -> None:
    table = {**LEAST, "seed": 3, "rollout": {"prompts_per_step": 3}, "schedule": [{"role": "perceiver"}]}
    with pytest.raises(ConfigError) as caught:
        parse_recipe(table, [change])
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_needles_need_a_number() -> None:
    with pytest.raises(ConfigError, match=r"data\.num_rows is needed"):
        parse_recipe({"out": "x"})


def test_a_recipe_without_a_folder_says_so() -> None:
    with pytest.raises(ConfigError, match="out: field required") as caught:
        parse_recipe({"data": {"num_rows": 1}})
    assert "runs/" in caught.value.hint


def test_files_that_are_no_recipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("out = \n")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_recipe(tmp_path / "broken.toml")
