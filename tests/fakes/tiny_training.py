"""A training run of seconds: the nano model, two rows a step, three rollouts a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2r.config import Recipe, parse_recipe
from p2r.training.train import train
from p2r.training.watch.watcher import Watcher

PERCEIVER_STEPS, REASONER_STEPS = 3, 2


def make_recipe(out: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe, with changes as for `--set`."""
    return parse_recipe(
        {
            "out": str(out),
            "schedule": [
                {"role": "perceiver", "steps": PERCEIVER_STEPS, "lr": 1e-4},
                {"role": "reasoner", "steps": REASONER_STEPS, "lr": 1e-4},
            ],
            "model": {"source": "nano", "device": "cpu", "gradient_checkpointing": False, "freeze_vision": True},
            "data": {"source": "needles", "num_rows": 8},
            "rollout": {
                "group_size": 3,
                "prompts_per_step": 2,
                "max_new_tokens": {"perceiver": 48, "reasoner": 32},
            },
            "optimizer": {"updates_per_batch": 2},
            "partner": {"max_new_tokens": 32},
            "checkpoint": {"every": 2},
            "probe": {"source": "needles", "seed": 7, "num": 2, "every": 2},
        },
        changes,
    )


def run(recipe: Recipe, *, resume: bool = False, stop_after: int | None = None) -> list[str]:
    """Train in this process; returns what was said.

    Args:
        stop_after: raise KeyError after so many steps, as a crash would.
    """
    said: list[str] = []
    num_done = 0

    def count(*_: object) -> None:
        nonlocal num_done
        num_done += 1
        if num_done == stop_after:
            raise KeyError("crash")

    train(recipe, resume=resume, watcher=Watcher(say=said.append, step=count))
    return said


def read_metrics(out: Path, file: str = "metrics.jsonl") -> list[Mapping[str, object]]:
    """The rows of a log, without timing."""
    rows = [json.loads(line) for line in (out / file).read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "timing"} for row in rows]
