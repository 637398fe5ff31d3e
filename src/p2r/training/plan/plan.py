"""`p2r train --plan`: what a recipe would do and what it would take, without training anything.

Rows are read and checked as for training. Memory is estimated from the checkpoint's headers. Seconds are measured: a
few prompts are rolled out and learned from twice, on a copy in memory, and the second time is scaled up to a step. Full
steps share more of their batches, so this errs toward too long.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from p2r.config import ActiveRole, Phase, Recipe
from p2r.models.checkpoint import Checkpoint
from p2r.models.load import find_checkpoint
from p2r.models.local.devices import choose_device, choose_dtype
from p2r.models.local.encoding import PromptEncoder
from p2r.prompts import PromptSet, load_prompt_set
from p2r.training.engines.local.distributed import World
from p2r.training.phases import make_roller, open_stage
from p2r.training.plan.memory import MemoryPart, count_weights, estimate_memory
from p2r.training.profile import training_profile
from p2r.training.rows.check import TrainingData, load_training_data
from p2r.training.state.run_folder import open_run
from p2r.training.train import loss_of
from p2r.training.update import judge_groups, update_policy

GIB = 2**30
LONGEST_PROBE_ROWS = 8


def describe_plan(recipe: Recipe, *, probe: bool = True) -> Iterator[str]:
    """The plan, line by line, each as soon as it is known.

    Args:
        probe: measure seconds, which loads the model.

    Raises:
        P2RError: what would stop the run before its first step.
    """
    prompts, checkpoint = load_prompt_set(recipe.rollout.prompts), find_checkpoint(recipe.model.source)
    profile = training_profile(checkpoint, recipe.model.max_pixels)
    device = choose_device(recipe.model.device)
    dtype = str(choose_dtype(recipe.model.dtype, device)).removeprefix("torch.")
    weights = count_weights(checkpoint, recipe.model.lora)
    yield (
        f"model: {recipe.model.source}, {weights.total / 1e6:,.1f} million weights ({weights.vision / 1e6:,.1f} "
        f"of them see), {dtype} on {device}, at most {profile.budget.max_pixels:,} pixels an image"
    )
    data = load_training_data(recipe.data, recipe.roles, PromptEncoder(checkpoint), profile, prompts)
    yield from (f"rows: {sentence}" for sentence in data.explain())
    yield from (
        f"rows: the {role}'s longest prompt has {longest} tokens" for role, longest in data.longest_prompt.items()
    )
    yield from _describe_phases(recipe, data)
    for role in recipe.roles:
        parts = estimate_memory(checkpoint, recipe, role, data.longest_prompt[role], in_bfloat16=dtype == "bfloat16")
        yield from _describe_memory(role, parts)
    if probe:
        yield from asyncio.run(_describe_seconds(recipe, data, checkpoint, prompts))


def _describe_phases(recipe: Recipe, data: TrainingData) -> Iterator[str]:
    total = 0
    for phase in recipe.phases():
        steps, per_step = phase.count_steps(len(data.rows), recipe.prompts_per_step), _rollouts_per_step(recipe)
        tokens = {role: recipe.rollout.max_new_tokens.of(role) for role in phase.roles}
        most = steps * per_step * sum(tokens.values()) // len(tokens)
        total += steps * per_step
        limits = ", ".join(f"{limit} tokens at most a {role}'s reply" for role, limit in tokens.items())
        yield (
            f"phase {phase.name}: {steps} steps of {recipe.prompts_per_step} rows, {per_step} rollouts each, lr "
            f"{phase.lr:g}; {steps * per_step:,} rollouts, {most:,} generated tokens at most ({limits})"
        )
    yield f"in all: {total:,} rollouts (control: {recipe.control})"


def _rollouts_per_step(recipe: Recipe) -> int:
    """Of the policy; `joint` samples both roles of half as many rows."""
    return recipe.prompts_per_step * recipe.rollout.group_size * (2 if recipe.control == "joint" else 1)


def _describe_memory(role: ActiveRole, parts: list[MemoryPart]) -> Iterator[str]:
    for part in parts:
        place = "" if part.on_device else " (host)"
        yield f"memory, {role}: {part.num_bytes / GIB:8.2f} GiB{place}  {part.name}"
    stays = [part for part in parts if not part.name.startswith(("rollout", "update"))]
    base = sum(part.num_bytes for part in stays if part.on_device)
    rollout = sum(part.num_bytes for part in parts if part.name.startswith("rollout"))
    update = sum(part.num_bytes for part in parts if part.name.startswith("update"))
    yield f"memory, {role}: {(base + max(rollout, update)) / GIB:8.2f} GiB on the device at most, estimated"


async def _describe_seconds(
    recipe: Recipe, data: TrainingData, checkpoint: Checkpoint, prompts: PromptSet
) -> list[str]:
    """Seconds of a step of each kind of phase, and of all phases."""
    lines: list[str] = []
    seconds: dict[str, float] = {}
    num_rows = min(LONGEST_PROBE_ROWS, recipe.prompts_per_step, len(data.rows))
    with tempfile.TemporaryDirectory(prefix="p2r-plan-") as folder:
        for phase in recipe.phases():
            if phase.kind not in seconds:
                seconds[phase.kind] = await _time_rows(recipe, phase, data, checkpoint, prompts, num_rows, Path(folder))
                step = seconds[phase.kind] / num_rows * recipe.prompts_per_step
                lines.append(f"time: {step:.1f} seconds a {phase.kind} step, scaled up from {num_rows} rows")
    total = sum(
        seconds[phase.kind]
        / num_rows
        * recipe.prompts_per_step
        * phase.count_steps(len(data.rows), recipe.prompts_per_step)
        for phase in recipe.phases()
    )
    lines.append(f"time: {total / 60:.1f} minutes in all, without probes and checkpoints")
    return lines


async def _time_rows(
    recipe: Recipe,
    phase: Phase,
    data: TrainingData,
    checkpoint: Checkpoint,
    prompts: PromptSet,
    num_rows: int,
    folder: Path,
) -> float:
    """Seconds to roll out and learn from so many rows, once everything is warm."""
    trial, world = recipe.model_copy(update={"out": folder / phase.name}), World()
    took = 0.0
    with open_run(trial, resume=False, world=world) as run:
        async with open_stage(trial, phase, str(checkpoint.folder), prompts, run, world) as stage:
            roller = make_roller(trial, stage, prompts)
            for attempt in range(2):
                start = time.perf_counter()
                first = attempt * num_rows % max(1, len(data.rows) - num_rows + 1)
                rolled = await roller.roll_out(data.rows[first : first + num_rows], step=attempt)
                judged = judge_groups(rolled.groups, std=recipe.advantage.std, eps=recipe.advantage.eps)
                update_policy(
                    stage.policy,
                    stage.frozen,
                    judged,
                    stage.optimizer,
                    0.0,
                    loss=loss_of(recipe, phase),
                    num_updates=recipe.optimizer.updates_per_batch,
                    micro_batch_groups=recipe.optimizer.micro_batch_groups,
                    temperature=recipe.rollout.temperature,
                )
                took = time.perf_counter() - start
    return took
