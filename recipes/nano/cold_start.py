"""Train the nano model's cold start: one command, seeded and resumable.

    python -m recipes.nano.cold_start --out runs/nano

Stages: scenes are rendered (pool.py), the vision tower learns what is where (vision.py), its features are cached, a
fresh language model learns both roles on them (language.py), and the checkpoint is written to OUT/checkpoint in the
layout of its big siblings. What it learns has faults on purpose (demonstrator.py): reinforcement learning from answers
is what comes next.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch
from transformers import set_seed

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

from p2r.benchmarks.needles.knobs import parse_knobs
from recipes.nano.architecture import build_model, save_checkpoint
from recipes.nano.demonstrator import Demonstrator
from recipes.nano.encode import install_fast_vision
from recipes.nano.features import cache_features, load_features
from recipes.nano.language import LanguagePlan, train_language
from recipes.nano.pool import Entry, build_pool, load_pool
from recipes.nano.tokenizer import build_tokenizer
from recipes.nano.vision import VisionPlan, train_vision
from recipes.nano.wording import SHIPPED, TRAINED

RECIPE = Path(__file__).with_suffix(".toml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for scenes, states, logs and the checkpoint")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="TOML file with the settings")
    arguments = parser.parse_args()
    recipe, folder = tomllib.loads(arguments.recipe.read_text()), arguments.out
    seed = recipe["seed"]
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe["threads"])
    install_fast_vision()
    began = time.perf_counter()

    tokenizer = build_tokenizer(SHIPPED, TRAINED.all_texts())
    scenes = recipe["scenes"]
    build_pool(folder / "pool", tuple(scenes["counts"]), scenes["seed"], parse_knobs(recipe["needles"]))
    training, held_out = split_entries(load_pool(folder / "pool"), scenes["held_out"])
    _tell("scenes", began)

    set_seed(seed)
    model = build_model(tokenizer)
    tower = folder / "vision.pt"
    if not tower.exists():
        train_vision(model, tokenizer, training, VisionPlan(**recipe["vision"], seed=seed), folder)
        torch.save(model.state_dict(), tower)
    _tell("vision", began)

    set_seed(seed + 1)
    model = build_model(tokenizer)
    model.load_state_dict(torch.load(tower))
    model.model.visual.requires_grad_(False)
    features = folder / "features.pt"
    if not features.exists():
        cache_features(model, training, features)
    training.clear()
    cached = load_features(features)
    _tell("features", began)
    plan = LanguagePlan(**recipe["language"], seed=seed)
    train_language(model, tokenizer, cached, held_out, plan, Demonstrator(**recipe["demonstrator"]), folder)
    _tell("language", began)
    save_checkpoint(model, tokenizer, folder / "checkpoint")
    print(f"checkpoint: {folder / 'checkpoint'}")


def split_entries(entries: Sequence[Entry], held_out: Sequence[int]) -> tuple[list[Entry], list[Entry]]:
    """The scenes to train on, and those of the last level that are held out; `held_out` counts them by level."""
    training, kept = list[Entry](), list[Entry]()
    for level, count in enumerate(held_out):
        mine = [entry for entry in entries if entry.level == level]
        training += mine[:-count]
        kept = mine[-count:]
    return training, kept


def _tell(stage: str, began: float) -> None:
    print(f"{stage}: done after {(time.perf_counter() - began) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
