"""A training that rewards descriptions as PeBR-R1's first stage does: checked, recorded, resumed to the bit, shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from PIL import Image
from typer.testing import CliRunner

from p2r.answers.sections import DESCRIPTION, find_section
from p2r.cli.app import app
from p2r.config import Recipe, parse_recipe
from p2r.errors import DataError, ModelError
from p2r.report.training.curves import draw_step_charts
from p2r.runs.training import read_training_run
from p2r.training.rewards import captions
from p2r.training.train import train
from tests.fakes.tiny_clip import make_clip
from tests.fakes.tiny_training import read_metrics, run

pytestmark = pytest.mark.slow

COLORS = ("red", "green", "blue", "white")
TERMS = {"keywords": 0.4, "sections": 0.1, "length": 0.1, "caption_similarity": 0.4, "correct": 0.0}


def make_tables(folder: Path, name: str, *, warm_up: int = 24) -> dict[str, object]:
    """A warm-up that teaches to begin with a description, then a phase that is rewarded for it."""
    make_clip(folder / "clip")
    asked, taught = list[str](), list[str]()
    for color in COLORS:
        Image.new("RGB", (96, 96), color).save(folder / f"{color}.png")
        row = {"qid": color, "problem": "<image>Which color?", "answer": color, "images": [f"{color}.png"]}
        asked.append(json.dumps(row | {"key_word": [color, "block"]}))
        turns = [("human", "<image>Which color?"), ("gpt", f"{DESCRIPTION} {color}")]
        chat = [{"from": who, "value": text} for who, text in turns]
        taught.append(json.dumps({"conversations": chat, "images": [f"{color}.png"]}))
    (folder / "asked.jsonl").write_text("\n".join(asked))
    (folder / "taught.jsonl").write_text("\n".join(taught))
    sft = {"role": "answerer", "method": "sft", "steps": warm_up, "lr": 5e-3}
    return {
        "out": str(folder / name),
        "schedule": [
            sft | {"data": {"source": str(folder / "taught.jsonl")}},
            {"role": "answerer", "steps": 3, "lr": 1e-5},
        ],
        "model": {"source": "nano-base", "device": "cpu", "gradient_checkpointing": False},
        "data": {"source": str(folder / "asked.jsonl")},
        "rollout": {
            "prompts": "pebr_r1",
            "group_size": 4,
            "prompts_per_step": 2,
            "max_new_tokens": {"perceiver": 8, "reasoner": 32},
        },
        "reward": {"terms": TERMS, "caption": {"model": str(folder / "clip")}},
        "sft": {"rows_per_step": 4, "prompt": "role"},
        "checkpoint": {"every": 2},
    }


def make_recipe(folder: Path, name: str, *changes: str) -> Recipe:
    return parse_recipe(make_tables(folder, name), changes)


def test_descriptions_are_rewarded_recorded_resumed_and_shown(tmp_path: Path) -> None:
    whole = make_recipe(tmp_path, "whole")
    run(whole)
    steps = read_metrics(whole.out)[-3:]
    assert all(set(cast("dict[str, float]", step["terms"])) == {*TERMS, "format"} for step in steps)
    assert all(step["num_unjudged"] == 0 and not step["failures"] for step in steps)
    done = read_training_run(whole.out)
    rollouts = [rollout for group in done.groups for rollout in group.rollouts]
    described = [each for each in rollouts if find_section(each.text, DESCRIPTION)]
    assert described and any(each.terms["caption_similarity"] > 0 for each in described)
    for each in rollouts:
        assert each.reward == pytest.approx(sum(weight * each.terms[name] for name, weight in TERMS.items()))
        assert each in described or each.terms["caption_similarity"] == 0.0
    titles = {chart.title for chart in draw_step_charts([done], ["run"])}
    assert {f"Reward term: {name}" for name in ("keywords", "length", "caption similarity")} <= titles

    captions.open_caption_model.cache_clear()
    killed = make_recipe(tmp_path, "killed")
    with pytest.raises(KeyError, match="crash"):
        run(killed, stop_after=25)
    captions.open_caption_model.cache_clear()
    run(killed, resume=True)
    assert read_metrics(killed.out) == read_metrics(whole.out)


def test_each_of_two_processes_compares_its_own_rollouts(tmp_path: Path) -> None:
    tables = make_tables(tmp_path, "run")
    reward = {"terms": {"length": 0.1, "caption_similarity": 0.4}, "caption": {"model": str(tmp_path / "clip")}}
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(tables | {"schedule": [{"role": "answerer", "steps": 1}], "reward": reward}))
    command = [sys.executable, "-m", "p2r", "train", str(path), "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (step,) = read_metrics(tmp_path / "run")
    assert (step["num_rollouts"], step["num_unjudged"]) == (8, 0)
    assert "caption_similarity" in cast("dict[str, float]", step["terms"])


def test_a_wrong_model_is_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        train(make_recipe(tmp_path, "run", "reward.caption.model=nowhere"))
    assert not (tmp_path / "run").exists()


def test_rows_without_key_words_are_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, "run")
    rows = (tmp_path / "asked.jsonl").read_text().replace('["green", "block"]', "[]")
    (tmp_path / "asked.jsonl").write_text(rows)
    with pytest.raises(DataError, match="row 'green' cannot be trained on: it has no key words"):
        train(recipe)


def test_the_plan_counts_the_model_and_says_what_compares(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(make_tables(tmp_path, "run")))
    done = CliRunner().invoke(app, ["train", str(path), "--plan"])
    assert done.exit_code == 0, done.output
    assert "memory, answerer:     0.00 GiB  caption model" in done.output
    reward = "0.4 x keywords + 0.1 x sections + 0.1 x length + 0.4 x caption_similarity + 0 x correct"
    assert f"reward, 1-answerer: {reward}; descriptions are compared with the image by {tmp_path}/clip" in done.output
