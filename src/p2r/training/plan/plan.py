"""`p2r train --plan`: what a recipe would do and what it would cost, without training anything.

Rows are read and checked as for training. Memory is estimated from the checkpoint's headers. Seconds are measured: a
few prompts are rolled out and learned from twice, on a copy in memory, and the second time is scaled up to a step. Full
steps share more of their batches, so the estimate errs toward too long.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from p2r.config import ActiveRole, JudgeSettings, Phase, Recipe, find_measuring_phase
from p2r.errors import EndpointError, count_nouns
from p2r.loop import run_blocking
from p2r.models.load import find_checkpoint
from p2r.models.local.devices import choose_device, choose_dtype
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.policy import training_profile
from p2r.training.phases import make_roller, open_phase
from p2r.training.plan.memory import MemoryPart, count_weights, estimate_memory
from p2r.training.rewards.captions import check_captions
from p2r.training.rewards.find import find_all_terms
from p2r.training.rewards.reward import describe_reward, find_unasked
from p2r.training.rewards.verifier import check_judges
from p2r.training.rows.check import TrainingData
from p2r.training.rows.choose import load_rows
from p2r.training.sft.check import load_all_demonstrations
from p2r.training.sft.demonstrations import Demonstrations
from p2r.training.state.run_folder import open_run
from p2r.training.update import learn_step
from p2r.types import Sample

GIB = 2**30
LONGEST_PROBE_ROWS = 8


def describe_plan(recipe: Recipe, *, probe: bool = True, num_processes: int = 1) -> Iterator[str]:
    """The plan, line by line, each as soon as it is known.

    Args:
        probe: measure seconds, which loads the model.
        num_processes: the processes that share the memory. Seconds are those of one.

    Raises:
        P2RError: what would stop the run before its first step.
    """
    checkpoint = find_checkpoint(recipe.model.source)
    profile = training_profile(checkpoint, recipe.model.max_pixels, recipe.model.frame)
    device = choose_device(recipe.model.device)
    dtype = str(choose_dtype(recipe.model.dtype, device)).removeprefix("torch.")
    weights = count_weights(checkpoint, recipe.model.lora)
    yield (
        f"model: {recipe.model.source}, {weights.total / 1e6:,.1f} million weights ({weights.vision / 1e6:,.1f} "
        f"million of them in the vision tower), {dtype} on {device}, "
        f"at most {profile.budget.max_pixels:,} pixels per image"
    )
    rows = load_rows(recipe)
    for data in {id(each): each for each in rows.values()}.values():
        yield from (f"rows: {sentence}" for sentence in data.explain())
        yield from (
            f"rows: the {role}'s longest prompt has {count_nouns(longest, 'token')}"
            for role, longest in data.longest_prompt.items()
        )
    demonstrations = load_all_demonstrations(recipe)
    for data in demonstrations.values():
        yield from (f"rows: {sentence}" for sentence in data.explain())
        yield f"rows: the longest has {count_nouns(data.longest, 'token')}"
    yield from _describe_phases(recipe, rows, demonstrations)
    find_all_terms(recipe)
    for phase in recipe.rewarded_phases:
        yield f"reward, {phase.name}: {describe_reward(phase)}"
        if unasked := find_unasked(phase):
            yield f"reward, {phase.name}: {unasked}"
    try:
        run_blocking(check_judges(recipe))
    except EndpointError as error:
        yield f"judge: {error.message}; it has to be there when the training starts"
    captions = run_blocking(check_captions(recipe))
    for role in recipe.roles:
        phase = next(phase for phase in recipe.phases() if role in phase.roles)
        longest = rows[phase.index].longest_prompt[role]
        frozen: ActiveRole = "reasoner" if role == "perceiver" else "perceiver"
        most = rows[phase.index].longest_prompt.get(frozen, phase.data.max_prompt_tokens.of(frozen))
        lengths, in_bfloat16 = (longest, most), dtype == "bfloat16"
        parts = estimate_memory(
            checkpoint, recipe, phase, role, *lengths, in_bfloat16=in_bfloat16, num_processes=num_processes
        )
        parts += [MemoryPart("caption model", model.num_bytes, model.device.type == device.type) for model in captions]
        yield from _describe_memory(role, parts, num_processes)
    if probe and recipe.rewarded_phases:
        alone = ", in one process" if num_processes > 1 else ""
        yield f"time: measuring on {LONGEST_PROBE_ROWS} rows or fewer of each kind of phase, twice{alone}"
        yield from run_blocking(_describe_seconds(recipe, rows))


def _describe_phases(
    recipe: Recipe, rows: Mapping[int, TrainingData], demonstrations: Mapping[int, Demonstrations]
) -> Iterator[str]:
    total = 0
    for phase in recipe.phases():
        if phase.kind == "sft":
            steps = count_nouns(phase.count_steps(len(demonstrations[phase.index].rows)), "step")
            yield f"phase {phase.name}: {steps} of {count_nouns(phase.prompts_per_step, 'row')}, lr {phase.lr:g}"
            continue
        num_before, said = _count_pre_rollouts(recipe, phase, len(rows[phase.index].rows))
        total += num_before
        if said:
            yield f"phase {phase.name}: {said}"
        steps = phase.count_steps(len(rows[phase.index].rows))
        # Rollouts of the policy; `joint` samples both roles of half as many rows.
        per_step = phase.prompts_per_step * phase.rollout.group_size * len(phase.roles)
        tokens = {role: phase.rollout.max_new_tokens.of(role) for role in phase.roles}
        most = steps * per_step * sum(tokens.values()) // len(tokens)
        total += steps * per_step
        unit = "step" if steps == 1 else "steps"
        limits = ", ".join(f"at most {limit} tokens per reply of the {role}" for role, limit in tokens.items())
        yield (
            f"phase {phase.name}: {steps} {unit} of {count_nouns(phase.prompts_per_step, 'row')}, "
            f"{count_nouns(per_step, 'rollout')} each, lr {phase.lr:g}; {count_nouns(steps * per_step, 'rollout')}, "
            f"{count_nouns(most, 'generated token')} at most ({limits})"
        )
    yield f"in all: {count_nouns(total, 'rollout')} (control: {recipe.control})"


def _count_pre_rollouts(recipe: Recipe, phase: Phase, num_rows: int) -> tuple[int, str]:
    """Count the pre-rollouts of a phase, and say what they are for; 0 and "" without any."""
    if (rule := phase.data.difficulty) is None:
        return 0, ""
    every = "" if phase.steps is not None else "; the steps below are those of all rows"
    measuring = find_measuring_phase(recipe, phase)
    if measuring.index != phase.index:
        return 0, f"trains on rows as phase {measuring.name} measures them{every}"
    num = num_rows * rule.num_rollouts
    return (
        num,
        f"{count_nouns(num, 'rollout')} before it tell which of {count_nouns(num_rows, 'row')} to train on{every}",
    )


def _describe_memory(role: ActiveRole, parts: list[MemoryPart], num_processes: int) -> Iterator[str]:
    device = "the device" if num_processes == 1 else f"each of {num_processes} devices"
    stages: dict[str, int] = {}
    for part in parts:
        place = "" if part.on_device else " (host)"
        yield f"memory, {role}: {part.num_bytes / GIB:8.2f} GiB{place}  {part.name}"
        for stage in part.name.partition(": ")[0].split(" and ") if ": " in part.name else [""]:
            stages[stage] = stages.get(stage, 0) + part.num_bytes * part.on_device
    most = stages.pop("") + max(stages.values())
    yield f"memory, {role}: {most / GIB:8.2f} GiB on {device} at most, estimated"


async def _describe_seconds(recipe: Recipe, rows: Mapping[int, TrainingData]) -> list[str]:
    """Seconds of a step of each kind of phase, and of all phases."""
    lines: list[str] = []
    seconds: dict[str, float] = {}
    total = 0.0
    with tempfile.TemporaryDirectory(prefix="p2r-plan-") as folder:
        for phase in recipe.rewarded_phases:
            own = rows[phase.index].rows
            num_rows = min(LONGEST_PROBE_ROWS, phase.prompts_per_step, len(own))
            if phase.kind not in seconds:
                took = await _time_rows(recipe, _judge_by_words(phase), own, num_rows, Path(folder))
                seconds[phase.kind] = took / num_rows
                step = seconds[phase.kind] * phase.prompts_per_step
                lines.append(
                    f"time: {step:.1f} seconds per {phase.kind} step, scaled up from {count_nouns(num_rows, 'row')}"
                )
            total += seconds[phase.kind] * phase.prompts_per_step * phase.count_steps(len(own))
    lines.append(f"time: {total / 60:.1f} minutes in all, without {', '.join(list_untimed(recipe))} and checkpoints")
    return lines


def list_untimed(recipe: Recipe) -> list[str]:
    """List what takes time in a run, besides checkpoints, and is not part of the seconds of a plan."""
    untimed = ["probes"]
    if any(phase.data.difficulty for phase in recipe.rewarded_phases):
        untimed.append("rollouts before a phase")
    if len(recipe.rewarded_phases) < len(recipe.phases()):
        untimed.append("supervised phases")
    return untimed


def _judge_by_words(phase: Phase) -> Phase:
    """The phase without a judging model behind a server, which a plan does not need and does not measure."""
    if not isinstance(phase.reward.judge, JudgeSettings):
        return phase
    return phase.model_copy(update={"reward": phase.reward.model_copy(update={"judge": "words"})})


async def _time_rows(recipe: Recipe, phase: Phase, rows: Sequence[Sample], num_rows: int, folder: Path) -> float:
    """Seconds to roll out and learn from so many rows, once everything is warm."""
    trial, took = recipe.model_copy(update={"out": folder / phase.name}), 0.0
    source = str(find_checkpoint(phase.base).folder)
    with open_run(trial, resume=False, world=World()) as run:
        async with open_phase(trial, phase, source, run, World()) as state:
            roller = make_roller(trial, state)
            for attempt in range(2):
                start = time.perf_counter()
                first = attempt * num_rows % max(1, len(rows) - num_rows + 1)
                rolled = await roller.roll_out(rows[first : first + num_rows], step=attempt)
                learn_step(state, rolled.groups, rate=0.0)
                took = time.perf_counter() - start
    return took
