"""One of two processes in a group that something else has made: train, then use the group again.

Neither RANK nor WORLD_SIZE is set, as torchrun would: the group alone tells. Writes OUT/run, and OUT/RANK.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch.distributed as dist

from p2r.training.train import train
from tests.fakes.tiny_training import make_recipe


def train_in_given_group(out: Path, rank: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{out / 'meet'}", rank=rank, world_size=2)
    train(make_recipe(out / "run", ["schedule.0.steps=1", "schedule.1.steps=1", "probe.num=1", "probe.every=9"]))
    ranks: list[int | None] = [None, None]
    dist.all_gather_object(ranks, rank)  # the group is still there
    (out / f"{rank}.json").write_text(json.dumps({"ranks": ranks}))
    dist.destroy_process_group()
