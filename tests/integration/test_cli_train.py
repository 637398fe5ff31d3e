"""`p2r train` from the command line: what is wrong is a sentence, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from p2r.cli.app import app
from tests.fakes.tiny_training import make_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.json"
    path.write_text(make_recipe(tmp_path / "run").model_dump_json())
    return path


def train(recipe: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["train", str(recipe), *arguments])


def assert_error(result: Result, message: str, hint: str) -> None:
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert "hint:" in result.stderr and hint in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_setting_is_refused_with_the_nearest_known_one(recipe: Path) -> None:
    assert_error(train(recipe, "--set", "rollout.group_sizes=8"), "rollout.group_sizes", "rollout.group_size")


def test_a_group_of_one_is_refused(recipe: Path) -> None:
    assert_error(train(recipe, "--set", "rollout.group_size=1"), "rollout.group_size is 1", "at least 2")


def test_a_model_that_is_not_there_is_a_sentence(recipe: Path) -> None:
    assert_error(train(recipe, "--set", "model.source=./nowhere"), "no checkpoint folder ./nowhere", "check the path")


def test_fewer_rows_than_a_step_needs_are_a_sentence(recipe: Path) -> None:
    result = train(recipe, "--set", "data.num_rows=1", "--set", "probe.every=1")
    assert_error(result, "1 rows are fewer than one step's 2", "rollout.prompts_per_step")


def test_there_must_be_a_run_to_resume(recipe: Path) -> None:
    assert_error(train(recipe, "--resume"), "holds no run that could be resumed", "leave out --resume")


@pytest.mark.parametrize(
    "path", sorted(RECIPES.glob("*/pra_grpo*.toml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_the_recipes_that_ship_can_be_read(path: Path) -> None:
    from p2r.config import load_recipe

    recipe = load_recipe(path)
    assert [phase.name for phase in recipe.phases()] == ["0-perceiver", "1-reasoner"]
    assert recipe.rollout.group_size == 8 and recipe.loss.kl_coef == 0.01
