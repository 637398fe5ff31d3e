"""Called by `run_world`: updates on given rollouts, and one step of a whole run, over as many processes as there are.

Writes OUT/whole.pt and OUT/whole.json (gradients and report of an update on all groups), OUT/halves.pt and
OUT/halves.json (of two updates on half of them each; the gradients are the second's), the same as whole with
`reshard` into OUT/layers.* and with `reduce_once` into OUT/once.*, those of a supervised step into
OUT/demonstrations.*, and a run into OUT/run.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.distributed.fsdp import FSDPModule
from torch.utils._python_dispatch import TorchDispatchMode

from p2r.config import ModelSettings
from p2r.dialogue import Prompt
from p2r.training.engines.local.distributed import World, join_world, own_part, split_model, whole_tensor
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Policy, load_policy, take_snapshot
from p2r.training.groups import Group, Rollout
from p2r.training.sft.encode import EncodedDemonstration
from p2r.training.sft.update import learn_demonstrations
from p2r.training.train import run_phases
from p2r.training.update import Learner, learn_step
from p2r.training.watch.watcher import Watcher
from p2r.types import Sample
from tests.fakes.tiny_training import make_recipe

REWARDS = ((1.0, 0.0, 0.0), (0.0, 1.0, None), (1.0, 1.0, 1.0), (0.5, 0.0, 1.0))
"""Of four groups: one rollout could not be judged, one group is dead."""


class Canvas:
    """An image of one color."""

    uri = "canvas"

    def load(self) -> Image.Image:
        return Image.new("RGB", (96, 64), (30, 90, 150))


def make_groups(policy: Policy) -> list[Group]:
    groups: list[Group] = []
    for row, rewards in enumerate(REWARDS):
        prompt = policy.encoder.encode(Prompt("perceiver", "", f"Where is number {row}?", (Canvas().load(),), "test"))
        replies = [policy.encoder.encode(Prompt("perceiver", "", f"[{row}{k}" * (1 + k), (), "t")) for k in range(3)]
        rollouts = [
            Rollout(reply.token_ids[4 : 9 + row + k], True, "", None, reward, {})
            for k, (reply, reward) in enumerate(zip(replies, rewards, strict=True))
        ]
        groups.append(Group(Sample(str(row), Canvas(), "?"), "perceiver", prompt, tuple(rollouts)))
    return groups


class Recorder(Optimizer):
    """Keeps the gradients, whole, as they are before they are clipped."""

    gradients: dict[str, torch.Tensor]

    def step(self, rate: float) -> float:
        self.gradients = {
            name: whole_tensor(weight.grad).clone() for name, weight in self._weights.items() if weight.grad is not None
        }
        return super().step(rate)


def update_once(out: Path, world: World, own: Sequence[int], *changes: str, name: str = "whole") -> None:
    """Learn from one batch, vision tower included, with a reference that is not the policy.

    own: which of the groups are this process's. name: of the files, OUT/NAME.pt and OUT/NAME.json.
    """
    policy = load_policy(ModelSettings(source="nano", device="cpu"), world=world)
    num_whole = sum(weight.numel() for weight in policy.model.parameters())
    snapshot, groups = take_snapshot(policy, batch_size=4, world=world), make_groups(policy)
    split_model(policy.model, world, policy.device, policy.dtype)
    models = {"learns": policy.model, "frozen": snapshot.engine.model}
    with torch.no_grad():
        for weight in policy.trainable.values():
            weight.mul_(1.01)
    phase = make_recipe(out, ["optimizer.updates_per_batch=1", *changes]).phases()[0]
    recorder = Recorder(policy.trainable, phase.optimizer, world)
    learner = Learner(phase, policy, snapshot, recorder, world)
    places = {group.sample.id: place for place, group in enumerate(groups)}
    with Collectives() as told:
        report = learn_step(learner, [groups[k] for k in own], 1e-4, places=places).report
    # Shards alone, and nothing that an update gathered.
    shares = {each: count_held(model) / num_whole for each, model in models.items()}
    facts = {"shares": world.gather([shares]), "num_micros": world.gather([report.num_micro_batches])}  # type: ignore[union-attr]
    facts["collectives"] = told.counts
    facts["units"] = sum(isinstance(module, FSDPModule) for module in policy.model.modules())
    if world.is_first and report is not None:
        torch.save(recorder.gradients, out / f"{name}.pt")
        (out / f"{name}.json").write_text(json.dumps({**asdict(report), **facts}))


class Collectives(TorchDispatchMode):
    """Counts what processes tell each other, by operation; objects are not told by these."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> object:  # noqa: ANN401
        if func.namespace == "c10d":
            self.counts[func._opname] += 1
        return func(*args, **(kwargs or {}))


def count_held(model: torch.nn.Module) -> int:
    """The weights that this process holds in memory, by their storages."""
    held = {}
    for weight in model.parameters():
        storage = own_part(weight.detach()).untyped_storage()
        held[storage.data_ptr()] = storage.nbytes() // weight.element_size()
    for module in model.modules():
        if isinstance(module, FSDPModule):
            for unit in module._get_fsdp_state()._fsdp_param_group.fsdp_params:
                whole = getattr(unit, "_unsharded_param", None)
                if whole is not None:
                    storage = whole.untyped_storage()
                    held[id(unit)] = storage.nbytes() // whole.element_size()
    return sum(held.values())


def learn_demonstrations_apart(out: Path, world: World) -> None:
    """Learn a reply to a prompt with an image, and another to one without; in two processes, one of these in each."""
    policy = load_policy(ModelSettings(source="nano", device="cpu", freeze_vision=True), world=world)
    split_model(policy.model, world, policy.device, policy.dtype)
    phase = make_recipe(out).phases()[0]
    recorder, rows = Recorder(policy.trainable, phase.optimizer, world), list[EncodedDemonstration]()
    for images in ((Canvas().load(),), ()):
        prompt = policy.encoder.encode(Prompt("perceiver", "", f"Where is it? {len(images)}", images, "test"))
        rows.append(EncodedDemonstration(prompt, prompt.token_ids[-6:], (True,) * 6))
    settings = phase.optimizer
    report = learn_demonstrations(policy, recorder, world, world.share(rows), 1e-4, settings=settings, pack_tokens=1)
    if world.is_first:
        torch.save(recorder.gradients, out / "demonstrations.pt")
        (out / "demonstrations.json").write_text(json.dumps(asdict(report)))


def update_in_all_ways(out: Path, world: World, own: Sequence[int]) -> None:
    update_once(out, world, own)
    halves = ("rollout.prompts_per_step=4", "optimizer.mini_batch_prompts=2")
    update_once(out, world, own, *halves, name="halves")
    update_once(out, world, own, "optimizer.reshard=true", name="layers")
    update_once(out, world, own, "optimizer.reduce_once=true", name="once")


def train_split(out: Path) -> None:
    with join_world() as world:
        own = world.share(range(len(REWARDS)))
        update_in_all_ways(out, world, own)
        steps = '[{role="perceiver", steps=1, lr=1e-4}, {role="reasoner", steps=1, lr=1e-4}]'
        learn_demonstrations_apart(out, world)
        recipe = make_recipe(out / "run", [f"schedule={steps}"])
        asyncio.run(run_phases(recipe, Watcher(), world=world))
