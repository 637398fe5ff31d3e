"""Train the nano model's cold start: one command, seeded and resumable.

    python -m recipes.nano.cold_start --out runs/nano

Stages: scenes are rendered (pool.py), the vision tower learns what is where (vision.py), its features are cached, a
fresh language model learns both roles on them (language.py), and the checkpoint is written to OUT/checkpoint in the
layout of its big siblings. Perception is left imperfect on purpose: reinforcement learning from answers is what comes
next.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch
from transformers import set_seed

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

from p2r.prompts import load_prompt_set
from recipes.nano.architecture import build_model, save_checkpoint
from recipes.nano.encode import install_fast_vision
from recipes.nano.language import LanguagePlan, cache_features, load_features, train_language
from recipes.nano.pool import build_pool, load_pool
from recipes.nano.tokenizer import build_tokenizer
from recipes.nano.vision import VisionPlan, train_vision

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

    prompts = load_prompt_set("release")
    tokenizer = build_tokenizer(prompts)
    build_pool(folder / "pool", tuple(recipe["scenes"]["counts"]), recipe["scenes"]["seed"])
    entries = load_pool(folder / "pool")
    _tell("scenes", began)

    set_seed(seed)
    model = build_model(tokenizer)
    tower = folder / "vision.pt"
    if not tower.exists():
        train_vision(model, tokenizer, entries, VisionPlan(**recipe["vision"], seed=seed), folder)
        torch.save(model.state_dict(), tower)
    _tell("vision", began)

    set_seed(seed + 1)
    model = build_model(tokenizer)
    model.load_state_dict(torch.load(tower))
    model.model.visual.requires_grad_(False)
    training, held_out = [], []
    for level, count in enumerate(recipe["scenes"]["held_out"]):
        mine = [entry for entry in entries if entry.level == level]
        training += mine[:-count]
        held_out = mine[-count:]
    features = folder / "features.pt"
    if not features.exists():
        cache_features(model, training, features)
    del entries, training
    cached = load_features(features)
    _tell("features", began)
    train_language(model, tokenizer, prompts, cached, held_out, LanguagePlan(**recipe["language"], seed=seed), folder)
    _tell("language", began)
    save_checkpoint(model, tokenizer, folder / "checkpoint")
    print(f"checkpoint: {folder / 'checkpoint'}")


def _tell(stage: str, began: float) -> None:
    print(f"{stage}: done after {(time.perf_counter() - began) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
