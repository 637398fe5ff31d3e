"""Processor seconds of nano's update by part: reference, three forward and backward passes, the optimizer's steps.

    python -m benchmarks.speed_update [--role perceiver|reasoner] [--prompts 16] [--group 8] [--steps 3]

The recipe is recipes/nano/pra_grpo.toml; the prompts are Needles' (a reasoner's with a crop around the target), the
replies are drawn by nano, their rewards by chance. The first step warms up and is not counted. One thread; "CPU" is the
time of the process, which neighbors do not change. To compare two states of the code, run the script with each of them
in turn: the printed loss and gradient norm of the first step say whether they do the same.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")


from p2r.benchmarks.needles import Needles
from p2r.config import ActiveRole, Recipe, load_recipe
from p2r.dialogue import Decoding
from p2r.evidence import gather
from p2r.images.budget import FullImage
from p2r.prompts import load_prompt_set
from p2r.roles import perceiver_prompt, reasoner_prompt
from p2r.training.engines.base import EngineActor, as_completion, seed_rollouts
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.generate import Wanted
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import load_policy, take_snapshot
from p2r.training.groups import Group, Rollout
from p2r.training.update import Learner, learn_step
from p2r.training.watch.stopwatch import Stopwatch

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("old", "reference", "forward", "backward", "optimizer")


class ProcessorWatch(Stopwatch):
    """Adds up processor seconds in place of wall seconds."""

    @contextmanager
    def part(self, name: str) -> Generator[None, None, None]:
        began = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--role", choices=["perceiver", "reasoner"], default="perceiver")
    parser.add_argument("--prompts", type=int, default=16, help="prompts of a step")
    parser.add_argument("--group", type=int, default=8, help="replies to each")
    parser.add_argument("--steps", type=int, default=3, help="timed steps")
    arguments = parser.parse_args()
    recipe = load_recipe(ROOT / "recipes" / "nano" / "pra_grpo.toml", [f"rollout.group_size={arguments.group}"])
    policy = load_policy(recipe.model)
    [phase] = [each for each in recipe.phases() if each.kind == arguments.role]
    optimizer = Optimizer(policy.trainable, phase.optimizer, World())
    learner = Learner(phase, policy, take_snapshot(policy, batch_size=16), optimizer, World())
    actor = EngineActor("policy", policy.profile, policy.encoder, policy.engine)
    groups = draw_groups(recipe, actor, arguments.role, arguments.prompts)
    watches: list[ProcessorWatch] = []
    totals: list[float] = []
    for step in range(1 + arguments.steps):
        watch, began = ProcessorWatch(), time.process_time()
        report = learn_step(learner, groups, 1e-5, watch).report
        assert report is not None
        if step == 0:
            print(f"first step: loss {report.loss!r}, gradient norm {report.grad_norm!r}")
            continue
        watches.append(watch)
        totals.append(time.process_time() - began)
    for part in PARTS:
        print(f"{part:10} {statistics.median(watch.seconds.get(part, 0.0) for watch in watches):8.3f} s CPU")
    print(f"{'update':10} {statistics.median(totals):8.3f} s CPU, lowest {min(totals):.3f}, of {len(totals)} steps")


def draw_groups(recipe: Recipe, actor: EngineActor, role: ActiveRole, num_prompts: int) -> list[Group]:
    """Replies of the untrained policy, with rewards by chance."""
    prompts, draw = load_prompt_set(recipe.rollout.prompts), random.Random(0)
    samples = list(Needles(seed=1_000_000, num_samples=num_prompts))
    budget = actor.profile.budget
    encoded = []
    for sample in samples:
        image = FullImage(sample.image.load())
        if role == "perceiver":
            encoded.append(actor.encode(perceiver_prompt(prompts, sample, image, budget)))
        else:
            evidence = gather(image, sample.gold_boxes or ())
            encoded.append(actor.encode(reasoner_prompt(prompts, sample, evidence, budget)))
    size = recipe.rollout.group_size
    decoding = Decoding(max_new_tokens=recipe.rollout.max_new_tokens.of(role), temperature=1.0)
    wanted = [
        Wanted(prompt, seed_rollouts(0, role, 0, sample.id, size))
        for sample, prompt in zip(samples, encoded, strict=True)
    ]
    found = dict(actor.sample(wanted, decoding, num_prompts, lambda: False))
    groups: list[Group] = []
    for place, (sample, prompt) in enumerate(zip(samples, encoded, strict=True)):
        rollouts = [
            Rollout(
                one.token_ids, one.ended, as_completion(actor, prompt, one).text, None, float(draw.random() < 0.5), {}
            )
            for one in found[place]
        ]
        rollouts[:2] = [replace(rollouts[0], reward=0.0), replace(rollouts[1], reward=1.0)]  # no group is dead
        groups.append(Group(sample, role, prompt, tuple(rollouts)))
    return groups


if __name__ == "__main__":
    main()
