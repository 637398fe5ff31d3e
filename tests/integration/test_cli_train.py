"""`p2r train` from the command line: what is wrong is a sentence, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from p2r.cli.app import app
from p2r.config import Recipe
from p2r.errors import ConfigError
from p2r.training.plan import plan
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
    assert_error(result, "1 row is fewer than one step's 2", "rollout.prompts_per_step")


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


@pytest.fixture
def impossible(tmp_path: Path) -> Path:
    """Rows whose targets no reply can reach."""
    Image.new("RGB", (256, 256), "navy").save(tmp_path / "a.png")
    row = {"image": "a.png", "question": "What pattern is on the blue triangle?", "target": "zzz unheard of"}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row | {"id": f"r{number}"}) + "\n" for number in range(2)))
    return path


def test_a_training_that_learns_nothing_says_so_at_its_end_and_in_its_report(
    recipe: Path, impossible: Path, tmp_path: Path
) -> None:
    nothing = "the rewards of every group were alike"
    result = train(
        recipe,
        *("--set", f"data.source={impossible}", "--set", "data.num_rows=2", "--set", "rollout.group_size=2"),
        *("--set", 'schedule=[{role="reasoner", steps=1, lr=1e-5}]', "--set", "probe.num=1"),
        *("--set", "guards.patience=1", "--set", "guards.dead_groups=false", "--set", "guards.entropy_floor=100"),
    )
    assert result.exit_code == 0, result.output
    assert "guard: entropy is" in result.stderr  # another guard does not silence the sentence
    said = [line for line in result.stderr.splitlines() if nothing in line]
    assert len(said) == 1
    assert said[0].startswith("phase 0-reasoner: ") and "nothing was learned" in said[0]
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(tmp_path / "run"), "--out", str(page)])
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert f"Nothing was learned in 0-reasoner: {nothing}." in page.read_text(encoding="utf-8")


def test_a_plan_says_at_once_that_it_measures(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe_nothing(_: Recipe, *, num_processes: int) -> Iterator[str]:
        assert num_processes == 3
        raise ConfigError("nothing was measured")
        yield ""

    monkeypatch.setattr(plan, "describe_plan", describe_nothing)
    result = train(recipe, "--plan", "--processes", "3")
    assert (result.exit_code, result.stdout) == (1, "")
    first, second = result.stderr.splitlines()[:2]
    assert (
        first.startswith("reading the rows, then measuring a trial of each kind of phase")
        and "a minute or two" in first
    )
    assert second == "error: nothing was measured"
