"""What is missing is said first: the rows, with the command that makes them, then the model; and before torch loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2r.config import DataSettings, Recipe, load_recipe, parse_recipe
from p2r.errors import ConfigError, DataError, ModelError
from p2r.training.sources import check_sources

RECIPES = Path("recipes").resolve()
MAKE = "python -m recipes.pebr_r1.captions --out runs/pebr-rows"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_recipe(*changes: str, **data: object) -> Recipe:
    return parse_recipe({"out": "run", "model": {"source": "nano"}, "data": data}, changes)


def test_rows_that_are_missing_are_named_with_the_command_that_makes_them() -> None:
    for name in ("warm_up", "train"):
        with pytest.raises(DataError) as error:
            check_sources(load_recipe(RECIPES / "pebr_r1/nano.toml"))
        assert error.value.message == f"there is no file or folder runs/pebr-rows/{name}.jsonl"
        assert error.value.hint == f"the recipe's rows are made by `{MAKE}`; for others set data.source"
        rows = Path(f"runs/pebr-rows/{name}.jsonl")
        rows.parent.mkdir(parents=True, exist_ok=True)
        rows.touch()
    check_sources(load_recipe(RECIPES / "pebr_r1/nano.toml"))


@pytest.mark.parametrize("source", ["rows.jsonl", "a/b/c", "./rows", "rows:rows.parquet", "p2r10k:there/is/none"])
def test_a_path_where_nothing_is_is_not_taken_for_a_name(source: str) -> None:
    place = source.partition(":")[2] or source
    with pytest.raises(DataError) as error:
        check_sources(make_recipe(source=source))
    assert place.removeprefix("./") in error.value.message
    assert "there is no file or folder" in error.value.message
    assert error.value.hint == "check the path and the working directory"
    with pytest.raises(DataError, match="there is no file or folder") as error:
        check_sources(make_recipe(source=source, made_by="make rows"))
    assert "`make rows`" in error.value.hint


def test_rows_of_the_probe_and_models_of_phases_are_looked_for() -> None:
    check_sources(make_recipe(source="needles", num_rows=4))
    with pytest.raises(DataError, match=r"there is no file or folder probe\.jsonl"):
        check_sources(make_recipe("probe.source=probe.jsonl", source="needles", num_rows=4))
    with pytest.raises(ModelError, match="unknown model 'gpt-5'"):
        check_sources(make_recipe("model.source=gpt-5", source="needles", num_rows=4))


def test_a_phase_with_rows_of_its_own_does_not_say_how_the_recipes_are_made() -> None:
    recipe = make_recipe('schedule=[{role="perceiver",data={source="own.jsonl"}}]', source="x.jsonl", made_by="make x")
    with pytest.raises(DataError) as error:
        check_sources(recipe)
    assert "own.jsonl" in error.value.message and "make x" not in error.value.hint


def test_a_run_may_be_resumed_with_another_word_on_where_its_rows_come_from() -> None:
    pytest.importorskip("torch")
    from p2r.training.state.changes import list_recipe_changes

    before, now = (make_recipe(source="needles", num_rows=4, made_by=each).model_dump(mode="json") for each in "ab")
    assert list_recipe_changes(before, now) == []
    assert DataSettings().made_by is None


def test_a_study_is_not_taken_for_a_recipe() -> None:
    path = RECIPES / "study/paper_in_miniature.toml"
    with pytest.raises(ConfigError, match="is a study, not a recipe") as error:
        load_recipe(path)
    assert error.value.hint == f"p2r study {path}"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sample", "needles", "--num", "4", "--model", "gpt-5"], "unknown model 'gpt-5'"),
        (["sample", "none.jsonl"], "there is no file or folder none.jsonl"),
        (["train", "nano", "--set", "model.source=gpt-5"], "unknown model 'gpt-5'"),
        (["train", "nano", "--set", "data.source=none.jsonl", "--plan"], "there is no file or folder none.jsonl"),
        (["ask", "x.png", "What?", "--model", "gpt-5"], "unknown model 'gpt-5'"),
        (["eval", "needles", "--limit", "2", "--model", "gpt-5"], "unknown model 'gpt-5'"),
    ],
)
def test_commands_say_so_before_they_import_torch(command: list[str], said: str) -> None:
    Path("x.png").write_bytes((RECIPES / "nano/curves.png").read_bytes())
    code = f"""
import importlib.abc, sys
class NoTorch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        assert name != "torch", "torch is imported"
class Real:
    pass
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: Real() if name == "torch" else found(name, package)
sys.meta_path.insert(0, NoTorch())
sys.argv = ["p2r", *{command!r}]
from p2r.cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    assert f"error: {said}" in done.stderr, done.stderr


def test_a_family_that_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_5_moe", "image_token_id": 1}')
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match="is of the family qwen3_5, whose layers of linear attention are not") as error:
        check_sources(make_recipe(f"model.source={tmp_path}", source="needles", num_rows=4))
    assert error.value.hint == "train a model of the family qwen3_vl or qwen2_5_vl or qwen2_vl"
    (tmp_path / "config.json").write_text(
        '{"model_type": "qwen3_vl", "image_token_id": 1, "quantization_config": {"quant_method": "awq"}}'
    )
    with pytest.raises(ModelError, match=r"are quantized \(awq\)"):
        check_sources(make_recipe(f"model.source={tmp_path}", source="needles", num_rows=4))
