"""Called by `run_world` in two processes, whose shares of a step differ as they do when rows fail or groups are dead.

Writes what `update_in_all_ways` does, of groups that the second process alone has; and a run into OUT/run, in which the
second process has no group in the first step and nobody has one in the second. A run with dynamic sampling is in
OUT/drawn, and in OUT/resumed as it goes on from its first checkpoint.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from p2r.config import Recipe
from p2r.training.engines.local.distributed import World, join_world
from p2r.training.groups import Rolled, RolloutStats
from p2r.training.rollout import Roller
from p2r.training.train import run_phases
from p2r.training.watch.watcher import Watcher
from p2r.types import Sample
from tests.fakes.split_training import REWARDS, update_in_all_ways
from tests.fakes.tiny_training import make_recipe


class UnevenRoller(Roller):
    """All rows of the second process fail in the first step, and those of every process in the second."""

    rank = 0

    async def roll_out(self, rows: Sequence[Sample], step: int) -> Rolled:
        if step == 1 or (step == 0 and self.rank == 1):
            return Rolled(stats=RolloutStats(num_rows=len(rows), num_failed_rows=len(rows)))
        return await super().roll_out(rows, step)


def draw_together(out: Path, world: World) -> None:
    """Few rows and many rounds, so that steps cross a pass, and each process draws for the other."""
    schedule = 'schedule=[{role="reasoner", steps=4, lr=1e-4}]'
    changes = [schedule, "loss.estimator=dapo", "data.num_rows=5", "probe.every=9", "checkpoint.every=1"]

    def make(folder: Path) -> Recipe:
        return make_recipe(folder, [*changes, "checkpoint.keep_last=9"])

    asyncio.run(run_phases(make(out / "drawn"), Watcher(), world=world))
    if world.is_first:
        shutil.copytree(out / "drawn", out / "resumed")
        shutil.rmtree(out / "resumed" / "0-reasoner")
        for later in sorted((out / "resumed" / "checkpoints").iterdir())[1:]:
            shutil.rmtree(later)
    world.wait()
    asyncio.run(run_phases(make(out / "resumed"), Watcher(), resume=True, world=world))


def train_unevenly(out: Path, world: World) -> None:
    from p2r.training import phases

    UnevenRoller.rank = world.rank
    phases.Roller = UnevenRoller  # type: ignore[misc]
    schedule = 'schedule=[{role="perceiver", steps=3, lr=1e-4}]'
    recipe = make_recipe(out, [schedule, "probe.every=9", "checkpoint.every=1", "checkpoint.keep_last=9"])
    asyncio.run(run_phases(recipe, Watcher(), world=world))


def train_split_unevenly(out: Path) -> None:
    with join_world() as world:
        update_in_all_ways(out, world, range(len(REWARDS)) if world.rank == 1 else ())
        draw_together(out, world)
        train_unevenly(out / "run", world)
