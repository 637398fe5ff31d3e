"""`p2r train --plan`: what a recipe would do and what it would cost, without training anything.

Rows are read and checked as for training. Memory is estimated from the checkpoint's headers. Seconds are measured: a
few prompts are rolled out and learned from twice, or a few written replies learned, on a copy in memory, and the second
time is scaled up to a step. Full steps share more of their batches, so the estimate errs toward too long.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from p2r.config import OTHER_ROLE, ROLES, ActiveRole, JudgeSettings, Phase, Recipe, find_measuring_phase
from p2r.errors import EndpointError, count_nouns
from p2r.loop import run_blocking
from p2r.models.load import find_checkpoint
from p2r.models.local.devices import choose_device, choose_dtype
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.policy import training_profile
from p2r.training.phases import PhaseState, make_roller, open_phase
from p2r.training.plan.counts import PhaseCounts, count_phase
from p2r.training.plan.memory import MemoryPart, count_weights, estimate_memory
from p2r.training.plan.seconds import describe_computed, describe_sampler
from p2r.training.resting import check_resting
from p2r.training.rewards.captions import check_captions
from p2r.training.rewards.find import find_all_terms
from p2r.training.rewards.reward import describe_reward, find_unasked
from p2r.training.rewards.verifier import check_judges
from p2r.training.rows.check import TrainingData
from p2r.training.rows.choose import load_rows
from p2r.training.sft.check import load_all_demonstrations
from p2r.training.sft.demonstrations import Demonstration, Demonstrations
from p2r.training.sft.step import take_sft_step
from p2r.training.sources import check_sources
from p2r.training.starts import Start
from p2r.training.state.run_folder import open_run
from p2r.training.update import learn_step
from p2r.types import Sample

Row = TypeVar("Row")

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
    check_sources(recipe)
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
    if recipe.model.has_adapters_per_role:
        yield f"adapters: one for each role, of {count_nouns(weights.adapters, 'weight')} each, on the same base"
    rows = load_rows(recipe)
    for data in {id(each): each for each in rows.values()}.values():
        yield from (f"rows: {sentence}" for sentence in data.explain())
        using = [phase for phase in recipe.rewarded_phases if rows[phase.index] is data]
        for role, longest in data.longest_prompt.items():
            names = dict.fromkeys(_name_learner(phase, role) for phase in using if role in phase.roles)
            yield f"rows: the longest prompt of the {' and the '.join(names)} has {count_nouns(longest, 'token')}"
    demonstrations = load_all_demonstrations(recipe)
    for data in demonstrations.values():
        yield from (f"rows: {sentence}" for sentence in data.explain())
        yield f"rows: the longest has {count_nouns(data.longest, 'token')}"
    yield from _describe_phases(recipe, rows, demonstrations)
    find_all_terms(recipe)
    check_resting(recipe)
    for phase in recipe.rewarded_phases:
        yield f"reward, {phase.name}: {describe_reward(phase)}"
        if unasked := find_unasked(phase):
            yield f"reward, {phase.name}: {unasked}"
    try:
        run_blocking(check_judges(recipe))
    except EndpointError as error:
        yield f"judge: {error.message}; it has to be there when the training starts"
    captions = run_blocking(check_captions(recipe))
    for name, (phase, role) in _find_learners(recipe).items():
        longest, most = _measure_prompts(phase, role, rows, demonstrations)
        parts = estimate_memory(
            checkpoint, recipe, phase, role, longest, most, in_bfloat16=dtype == "bfloat16", num_processes=num_processes
        )
        if phase.roles:
            used = [(model.num_bytes, model.device.type == device.type) for model in captions]
            parts += [MemoryPart("caption model", *each) for each in used]
        yield from _describe_memory(name, parts, num_processes)
    yield from describe_computed(recipe, checkpoint, weights.total)
    if probe:
        alone = ", in one process" if num_processes > 1 else ""
        yield f"time: measuring on {LONGEST_PROBE_ROWS} rows or fewer of each kind of phase, twice{alone}"
        yield from run_blocking(_describe_seconds(recipe, rows, demonstrations))


def _name_learner(phase: Phase, role: ActiveRole) -> str:
    """The role as the recipe names it: who answers without boxes is an answerer."""
    return "answerer" if phase.kind == "answerer" else role


def _find_learners(recipe: Recipe) -> dict[str, tuple[Phase, ActiveRole]]:
    """The first phase in which each role learns, by the role's name; supervised phases are told by their name."""
    found: dict[str, tuple[Phase, ActiveRole]] = {}
    for phase in recipe.phases():
        for role in phase.roles or ROLES[:1]:
            found.setdefault(phase.name if phase.kind == "sft" else _name_learner(phase, role), (phase, role))
    return found


def _measure_prompts(
    phase: Phase, role: ActiveRole, rows: Mapping[int, TrainingData], demonstrations: Mapping[int, Demonstrations]
) -> tuple[int, int]:
    """Tokens of the longest prompt of a role, or of the longest row to learn, and of the frozen role's."""
    if phase.kind == "sft":
        return demonstrations[phase.index].longest, 0
    prompts = rows[phase.index].longest_prompt
    frozen = OTHER_ROLE[role]
    return prompts[role], prompts.get(frozen, phase.data.max_prompt_tokens.of(frozen))


def _describe_phases(
    recipe: Recipe, rows: Mapping[int, TrainingData], demonstrations: Mapping[int, Demonstrations]
) -> Iterator[str]:
    total = 0
    for phase in recipe.phases():
        if phase.kind == "sft":
            steps = count_nouns(phase.count_steps(len(demonstrations[phase.index].rows)), "step")
            yield f"phase {phase.name}: {steps} of {count_nouns(phase.prompts_per_step, 'row')}, lr {phase.lr:g}"
            continue
        counts = count_phase(recipe, phase, len(rows[phase.index].rows))
        total += counts.num_before + counts.num_rollouts
        if said := _explain_pre_rollouts(recipe, phase, counts, len(rows[phase.index].rows)):
            yield f"phase {phase.name}: {said}"
        tokens = {_name_learner(phase, role): phase.rollout.max_new_tokens.of(role) for role in phase.roles}
        unit = "step" if counts.num_steps == 1 else "steps"
        limits = ", ".join(f"at most {limit} tokens per reply of the {role}" for role, limit in tokens.items())
        yield (
            f"phase {phase.name}: {counts.num_steps} {unit} of {count_nouns(phase.prompts_per_step, 'row')}, "
            f"{count_nouns(counts.rollouts_per_step, 'rollout')} each, lr {phase.lr:g}; "
            f"{count_nouns(counts.num_rollouts, 'rollout')}, "
            f"{count_nouns(counts.num_tokens, 'generated token')} at most ({limits})"
        )
        if phase.rollout.engine == "vllm":
            yield f"phase {phase.name}: {describe_sampler(phase.rollout)}"
        if phase.loss.resting_kl_coef:
            yield _describe_resting(recipe, phase, _measure_prompts(phase, phase.roles[0], rows, demonstrations)[1])
    yield f"in all: {count_nouns(total, 'rollout')} (control: {recipe.control})"


def _describe_resting(recipe: Recipe, phase: Phase, frozen_tokens: int) -> str:
    """Say what it takes to keep the role at rest. frozen_tokens: of its longest prompt."""
    rows, most = phase.prompts_per_step, frozen_tokens + recipe.partner.max_new_tokens
    return (
        f"phase {phase.name}: the {OTHER_ROLE[phase.kind]} rests, and each step also trains on at most "
        f"{count_nouns(rows, 'reply', 'replies')} of it, of at most {count_nouns(most, 'token')} with the prompt"
    )


def _explain_pre_rollouts(recipe: Recipe, phase: Phase, counts: PhaseCounts, num_rows: int) -> str:
    """Say what the pre-rollouts of a phase are for; "" without any."""
    if phase.data.difficulty is None:
        return ""
    every = "" if phase.steps is not None else "; the steps below are those of all rows"
    measuring = find_measuring_phase(recipe, phase)
    if measuring.index != phase.index:
        return f"trains on rows as phase {measuring.name} measures them{every}"
    before = count_nouns(counts.num_before, "rollout")
    return f"{before} before it tell which of {count_nouns(num_rows, 'row')} to train on{every}"


def _describe_memory(learner: str, parts: list[MemoryPart], num_processes: int) -> Iterator[str]:
    device = "the device" if num_processes == 1 else f"each of {num_processes} devices"
    stages: dict[str, int] = {}
    for part in parts:
        place = "" if part.on_device else " (host)"
        yield f"memory, {learner}: {part.num_bytes / GIB:8.2f} GiB{place}  {part.name}"
        for stage in part.name.partition(": ")[0].split(" and ") if ": " in part.name else [""]:
            stages[stage] = stages.get(stage, 0) + part.num_bytes * part.on_device
    most = stages.pop("") + max(stages.values())
    yield f"memory, {learner}: {most / GIB:8.2f} GiB on {device} at most, estimated"


async def _describe_seconds(
    recipe: Recipe, rows: Mapping[int, TrainingData], demonstrations: Mapping[int, Demonstrations]
) -> list[str]:
    """Seconds of a step of each kind of phase, and of all phases."""
    lines: list[str] = []
    seconds: dict[str, float] = {}
    total = 0.0
    with tempfile.TemporaryDirectory(prefix="p2r-plan-") as folder:
        for phase in recipe.phases():
            is_sft = phase.kind == "sft"
            num = len(demonstrations[phase.index].rows if is_sft else rows[phase.index].rows)
            num_rows = min(LONGEST_PROBE_ROWS, phase.prompts_per_step, num)
            if phase.kind not in seconds:
                if is_sft:
                    took = await _time_demonstrations(recipe, phase, demonstrations[phase.index].rows, num_rows, folder)
                else:
                    took = await _time_rows(recipe, _judge_by_words(phase), rows[phase.index].rows, num_rows, folder)
                seconds[phase.kind] = took / num_rows
                step = seconds[phase.kind] * phase.prompts_per_step
                lines.append(
                    f"time: {step:.1f} seconds per {phase.kind} step, scaled up from {count_nouns(num_rows, 'row')}"
                )
            total += seconds[phase.kind] * phase.prompts_per_step * phase.count_steps(num)
    lines.append(f"time: {total / 60:.1f} minutes in all, without {', '.join(list_untimed(recipe))} and checkpoints")
    return lines


def list_untimed(recipe: Recipe) -> list[str]:
    """List what takes time in a run, besides checkpoints, and is not part of the seconds of a plan."""
    untimed = ["probes"]
    if any(phase.data.difficulty for phase in recipe.rewarded_phases):
        untimed.append("rollouts before a phase")
    return untimed


def _judge_by_words(phase: Phase) -> Phase:
    """The phase without a judging model behind a server, which a plan does not need and does not measure."""
    if not isinstance(phase.reward.judge, JudgeSettings):
        return phase
    return phase.model_copy(update={"reward": phase.reward.model_copy(update={"judge": "words"})})


async def _time_rows(recipe: Recipe, phase: Phase, rows: Sequence[Sample], num_rows: int, folder: str) -> float:
    """Seconds to roll out and learn from so many rows, once everything is warm."""
    async with _open_trial(recipe, phase, folder) as (trial, state):
        roller = make_roller(trial, state)

        async def take_step(attempt: int, tried: Sequence[Sample]) -> None:
            with state.ready_to_sample():
                rolled = await roller.roll_out(tried, step=attempt)
            learn_step(state, rolled.groups, rate=0.0)

        return await _time_second(take_step, rows, num_rows)


async def _time_demonstrations(
    recipe: Recipe, phase: Phase, rows: Sequence[Demonstration], num_rows: int, folder: str
) -> float:
    """Seconds to learn so many rows of a supervised phase, once everything is warm."""
    async with _open_trial(recipe, phase, folder) as (_, state):

        async def take_step(attempt: int, tried: Sequence[Demonstration]) -> None:
            await take_sft_step(state, tried, attempt, num_steps=2)

        return await _time_second(take_step, rows, num_rows)


@asynccontextmanager
async def _open_trial(recipe: Recipe, phase: Phase, folder: str) -> AsyncGenerator[tuple[Recipe, PhaseState], None]:
    """A phase on a copy in memory of the model that it starts from, or that the phases before it start from."""
    trial = recipe.model_copy(update={"out": Path(folder) / phase.name})
    source = str(find_checkpoint(phase.base).folder)
    start = Start(source, source if recipe.model.has_adapters_per_role else None)
    with open_run(trial, resume=False, world=World()) as run:
        async with open_phase(trial, phase, start, run, World()) as state:
            yield trial, state


async def _time_second(
    take_step: Callable[[int, Sequence[Row]], Awaitable[None]], rows: Sequence[Row], num_rows: int
) -> float:
    """Seconds of the second of two steps, each with rows of its own where there are enough."""
    took = 0.0
    for attempt in range(2):
        start = time.perf_counter()
        first = attempt * num_rows % max(1, len(rows) - num_rows + 1)
        await take_step(attempt, rows[first : first + num_rows])
        took = time.perf_counter() - start
    return took
