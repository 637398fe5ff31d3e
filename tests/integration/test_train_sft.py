"""Supervised phases of a real run: they learn, resume to the bit, and hand their weights on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("torch")

from safetensors.torch import load_file

from p2r.cli.app import app
from p2r.config import Recipe, parse_recipe
from p2r.models.load import find_checkpoint
from tests.fakes.tiny_training import read_metrics, run

pytestmark = pytest.mark.slow


def make_tables(folder: Path, name: str, *, lora: bool = False) -> dict[str, object]:
    colors = ("red", "green", "blue", "yellow")
    for color in colors:
        Image.new("RGB", (96, 96), color).save(folder / f"{color}.png")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"<image>Question: What color is it? ({number})"},
                {"role": "assistant", "content": f"<answer>{color}</answer>"},
            ],
            "images": [f"{color}.png"],
        }
        for number in range(2)
        for color in colors
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model: dict[str, object] = {"source": "nano-base", "device": "cpu", "freeze_vision": True}
    return {
        "out": str(folder / name),
        "schedule": [
            {
                "role": "answerer",
                "method": "sft",
                "passes": 5,
                "lr": 3e-3,
                "data": {"source": str(folder / "rows.jsonl"), "num_rows": 8},
                "optimizer": {"scheduler": "cosine", "warmup_share": 0.1},
            },
            {"role": "answerer", "steps": 1},
        ],
        "model": model | ({"lora": {"rank": 4, "alpha": 8}} if lora else {}),
        "data": {"source": "needles", "num_rows": 2},
        "rollout": {"group_size": 2, "prompts_per_step": 2, "max_new_tokens": {"perceiver": 8, "reasoner": 8}},
        "sft": {"rows_per_step": 4, "pack_tokens": 100},
        "checkpoint": {"every": 3},
    }


def make_recipe(folder: Path, name: str, *, lora: bool = False) -> Recipe:
    return parse_recipe(make_tables(folder, name, lora=lora))


@pytest.mark.parametrize("lora", [False, True])
def test_a_supervised_phase_learns_and_resumes_to_the_bit(tmp_path: Path, lora: bool) -> None:
    if lora:
        pytest.importorskip("peft")
    whole, killed = (make_recipe(tmp_path, name, lora=lora) for name in ("whole", "killed"))
    said = run(whole)
    assert any("8 of 8 rows" in text for text in said)
    steps = read_metrics(whole.out)
    assert [step["phase"] for step in steps] == ["0-sft"] * 10 + ["1-answerer"]
    losses = [step["loss"] for step in steps[:10]]
    assert losses[-1] < losses[0] / (1.2 if lora else 2)  # type: ignore[operator]
    assert all(step["num_learned_tokens"] and step["num_rows"] == 4 for step in steps[:10])
    with pytest.raises(KeyError, match="crash"):
        run(killed, stop_after=8)
    run(killed, resume=True)
    assert read_metrics(killed.out) == steps
    for phase in ("0-sft", "1-answerer"):
        one, two = (load_file(each.out / phase / "model.safetensors") for each in (whole, killed))
        assert all((one[name] == two[name]).all() for name in one)
        assert one.keys() == two.keys()


def test_a_tower_that_is_frozen_in_the_warm_up_learns_in_the_next_phase(tmp_path: Path) -> None:
    tables = make_tables(tmp_path, "run")
    warmup, _ = tables["schedule"]  # type: ignore[misc]
    first, second = warmup | {"freeze_vision": True, "passes": 1}, warmup | {"passes": 1}
    run(parse_recipe(tables | {"schedule": [first, second], "model": {"source": "nano-base", "device": "cpu"}}))
    start = load_file(find_checkpoint("nano-base").folder / "model.safetensors")
    frozen, freed = (load_file(tmp_path / "run" / name / "model.safetensors") for name in ("0-sft", "1-sft"))
    tower = [name for name in start if ".visual." in name]
    assert tower and all((frozen[name] == start[name].float()).all() for name in tower)
    assert any((freed[name] != frozen[name]).any() for name in tower)
    assert any((frozen[name] != start[name].float()).any() for name in start)


def test_the_command_stops_after_the_supervised_phases_and_training_continues(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(make_tables(tmp_path, "run")), encoding="utf-8")
    done = CliRunner().invoke(app, ["sft", str(path)])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "run" / "0-sft")
    assert not (tmp_path / "run" / "1-answerer").exists()
    more = CliRunner().invoke(app, ["train", str(path), "--resume"])
    assert more.exit_code == 0, more.output
    assert more.stdout.split() == [str(tmp_path / "run" / name) for name in ("0-sft", "1-answerer")]


def test_a_plan_says_what_is_learned(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(make_tables(tmp_path, "run")), encoding="utf-8")
    done = CliRunner().invoke(app, ["sft", str(path), "--plan"])
    assert done.exit_code == 0, done.output
    assert "phase 0-sft: 10 steps of 4 rows, lr 0.003" in done.stdout
    assert "8 of 8 rows" in done.stdout
    assert "measuring a trial" in done.stderr
    assert "seconds per sft step" in done.stdout


def test_a_recipe_without_a_supervised_phase_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["sft", "nano", "--set", f"out={tmp_path}"])
    assert done.exit_code != 0
    assert "the first phase of nano is not a supervised one" in done.output
