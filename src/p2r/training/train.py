"""PRA-GRPO, from a recipe to trained checkpoints (paper: algorithm 1).

A run is phases; a phase is steps; a step is: take rows, roll them out and judge them, compare the rollouts of each
group, learn. Everything else here watches, keeps and resumes. What a step does depends on the recipe, the weights and
its number alone, so a run that is killed and resumed goes the same way to the bit on a CPU.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from p2r.config import Phase, Recipe
from p2r.errors import ConfigError, TrainingError
from p2r.models.local.devices import is_out_of_memory
from p2r.prompts import PromptSet, load_prompt_set
from p2r.runs.guards import find_collapse
from p2r.runs.training import BEST_FOLDER, METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE, Probe, Step
from p2r.training.engines.local.distributed import World, whole_weights
from p2r.training.engines.local.optimizer import rate_at
from p2r.training.engines.local.policy import describe_weights
from p2r.training.groups import Rolled
from p2r.training.loss import LossConfig
from p2r.training.phases import Stage, make_roller, open_stage, save_stage
from p2r.training.rollout import Roller
from p2r.training.rows.choose import choose_phase_rows, load_probe, load_rows
from p2r.training.rows.difficulty import Choice
from p2r.training.state.checkpoint import Position, seed_random_states
from p2r.training.state.run_folder import RunFolder, open_run
from p2r.training.update import judge_groups, update_policy
from p2r.training.watch.metrics import describe_groups, measure_step, quote_group, sum_stats, time_step
from p2r.training.watch.probe import measure_probe
from p2r.training.watch.stopwatch import Stopwatch
from p2r.training.watch.trackers import Trackers
from p2r.types import Sample


@dataclass(frozen=True, slots=True)
class Watcher:
    """Callbacks that follow a run. Only the first process calls them.

    say: called with a sentence. step: with a step's metrics and the number of steps of its phase.
    """

    say: Callable[[str], None]
    step: Callable[[Step, int], None]
    probe: Callable[[Probe], None]


@dataclass(slots=True)
class Training:
    """A run under way.

    run_step: steps done in all phases. row_position: in the phase's order of rows. best: accuracy of the best probe.
    """

    recipe: Recipe
    world: World
    watcher: Watcher
    run: RunFolder
    trackers: Trackers
    prompts: PromptSet
    rows: Sequence[Sample]
    probed: Sequence[Sample]
    run_step: int = 0
    row_position: int = 0
    best: float | None = None
    alarms: set[str] = field(default_factory=set[str])

    def say(self, text: str) -> None:
        if self.world.is_first:
            self.watcher.say(text)


async def train(recipe: Recipe, watcher: Watcher, *, resume: bool = False, world: World | None = None) -> None:
    """Train as the recipe says, into its folder.

    Raises:
        P2RError: rows, model or settings are not usable; too much failed; a guard stopped it; numbers that are none; no
            memory or no space left. What was saved before is whole, and --resume goes on from there.
    """
    world = world or World()
    if recipe.prompts_per_step % world.size:
        raise ConfigError(
            f"{recipe.prompts_per_step} prompts a step cannot be shared by {world.size} processes",
            hint="make rollout.prompts_per_step a multiple of the number of processes",
        )
    prompts = load_prompt_set(recipe.rollout.prompts)
    data = await asyncio.to_thread(load_rows, recipe, prompts)
    probed = await asyncio.to_thread(load_probe, recipe)
    with open_run(recipe, resume=resume, world=world) as run:
        done = run.position
        run_step = done.run_step if done is not None else 0
        with Trackers(recipe.trackers if world.is_first else None, run.folder, first_step=run_step) as trackers:
            training = Training(recipe, world, watcher, run, trackers, prompts, data.rows, probed, run_step)
            training.best = done.best if done is not None else None
            for sentence in data.explain():
                training.say(sentence)
            source = recipe.model.source
            for phase in recipe.phases():
                if not run.has_finished(phase):
                    await _run_phase(training, phase, source)
                source = str(run.folder / phase.name)


async def _run_phase(training: Training, phase: Phase, source: str) -> None:
    """One phase, from the checkpoint that it begins from to the one that it leaves."""
    recipe, run, world = training.recipe, training.run, training.world
    try:
        async with open_stage(recipe, phase, source, training.prompts, run, world) as stage:
            choice = await choose_phase_rows(recipe, stage, training.rows, training.prompts, run, world)
            num_steps = phase.count_steps(len(choice.rows), recipe.prompts_per_step)
            roller = make_roller(recipe, stage, training.prompts)
            first = _go_on(training, stage)
            left_out = f", {choice.num_left_out} rows left out" if choice.num_left_out else ""
            training.say(f"phase {phase.name}: steps {first + 1} to {num_steps}, from {source}{left_out}")
            if first == 0:
                await _probe(training, stage, 0)
            for step in range(first, num_steps):
                await _take_step(training, stage, roller, choice, step, num_steps)
                is_last = step + 1 == num_steps
                if is_last or (step + 1) % recipe.probe.every == 0:
                    await _probe(training, stage, step + 1)
                collapse = _sound_alarms(training)
                if is_last or collapse or (step + 1) % recipe.checkpoint.every == 0:
                    _save(training, stage, step + 1)
                if collapse and recipe.guards.action == "stop":
                    raise TrainingError(
                        f"stopped at step {step + 1} of phase {phase.name}: {'; '.join(collapse)}",
                        hint="a checkpoint was kept; a new run may have a higher loss.kl_coef or a lower rate, or "
                        'guards.action = "warn"',
                    )
            save_stage(stage, run.folder / phase.name, world)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory in phase {phase.name}: {str(error).partition('. ')[0]}",
            hint="--resume goes on from the last checkpoint, with smaller optimizer.micro_batch_groups, "
            "rollout.prompts_at_once or partner.concurrency, or model.gradient_checkpointing = true; optimizer.kind "
            "'adamw8bit' or 'offload' needs a new run",
        ) from error


def _go_on(training: Training, stage: Stage) -> int:
    """Bring a phase to where its last checkpoint stands; the steps that are done."""
    run, done = training.run, training.run.position
    run.recall(stage.phase)
    training.row_position, training.alarms = 0, set()
    if done is None or done.phase != stage.phase.index:
        seed_random_states(training.recipe.seed + stage.phase.index)
        return 0
    training.row_position = done.row_position
    training.alarms = set(find_collapse(run.steps, run.probes, training.recipe.guards))
    stage.memo.load(json.loads(run.checkpoints.restore(done, stage.policy, stage.optimizer)))
    return done.step


async def _take_step(
    training: Training, stage: Stage, roller: Roller, choice: Choice, step: int, num_steps: int
) -> None:
    """Take rows, roll them out, compare, learn."""
    recipe, world, watch = training.recipe, training.world, Stopwatch()
    rate = rate_at(recipe.optimizer, stage.phase.lr, step, num_steps)
    num_updates = recipe.optimizer.updates_per_batch
    with watch.part("rollout"), whole_weights(stage.policy.model):
        rolled = await _roll_out(training, roller, choice, step)
    judged = judge_groups(rolled.groups, std=recipe.advantage.std, eps=recipe.advantage.eps)
    report = update_policy(
        stage.policy,
        stage.frozen,
        judged,
        stage.optimizer,
        rate,
        loss=loss_of(recipe, stage.phase),
        num_updates=num_updates,
        micro_batch_groups=recipe.optimizer.micro_batch_groups,
        temperature=recipe.rollout.temperature,
        world=world,
        watch=watch,
    )
    training.run_step += 1
    stats = sum_stats(rolled.stats, world)
    facts = world.gather(describe_groups(judged))
    timing = time_step(stage.policy, watch, stats, report, world, num_updates=num_updates)
    row = measure_step(stage.phase.name, step + 1, facts, stats, report, rate, timing)
    training.run.steps.append(row)
    training.run.write(METRICS_FILE, row)
    training.trackers.send(row.model_dump(mode="json"), training.run_step)
    if judged:
        training.run.write(ROLLOUTS_FILE, quote_group(stage.phase.name, step + 1, judged[0]))
    if world.is_first:
        training.watcher.step(row, num_steps)


async def _roll_out(training: Training, roller: Roller, choice: Choice, step: int) -> Rolled:
    """The groups of this process's rows."""
    recipe, world = training.recipe, training.world

    def draw(count: int) -> list[Sample]:
        places, training.row_position = choice.order.take(training.row_position, count * world.size)
        return [choice.rows[place] for place in world.share(places)]

    own = recipe.prompts_per_step // world.size
    if not recipe.rollout.dynamic_sampling:
        return await roller.roll_out(draw(own), step)
    return await roller.roll_out_alive(draw, own, step, max_rounds=recipe.rollout.max_rounds)


async def _probe(training: Training, stage: Stage, step: int) -> None:
    """Look at the probe's questions, and keep the best checkpoint."""
    run, world = training.run, training.world
    if not training.probed:
        return
    batch_size = training.recipe.partner.concurrency
    with whole_weights(stage.policy.model):
        row = await measure_probe(
            stage.policy,
            training.probed,
            training.prompts,
            phase=stage.phase.name,
            step=step,
            batch_size=batch_size,
            world=world,
        )
    run.probes.append(row)
    run.write(PROBES_FILE, row)
    training.trackers.send({"probe": row.model_dump(mode="json", exclude={"phase", "step"})}, training.run_step)
    if world.is_first:
        training.watcher.probe(row)
    accuracy = row.accuracy_p2r
    if accuracy is not None and (training.best is None or accuracy > training.best):
        training.best = accuracy
        save_stage(stage, run.folder / BEST_FOLDER, world)


def _sound_alarms(training: Training) -> list[str]:
    """What a guard sees that it did not see a step ago."""
    now = find_collapse(training.run.steps, training.run.probes, training.recipe.guards)
    new = [text for name, text in now.items() if name not in training.alarms]
    training.alarms = set(now)
    for text in new:
        training.say(f"guard: {text}")
    return new


def _save(training: Training, stage: Stage, step: int) -> None:
    """A checkpoint to resume from."""
    position = Position(
        phase=stage.phase.index,
        step=step,
        run_step=training.run_step,
        row_position=training.row_position,
        model=describe_weights(stage.policy),
        num_processes=training.world.size,
        log_bytes=training.run.log_bytes(),
        best=training.best,
    )
    training.run.checkpoints.save(position, stage.policy, stage.optimizer, json.dumps(stage.memo.dump()))


def loss_of(recipe: Recipe, phase: Phase) -> LossConfig:
    """The recipe's loss for a phase."""
    settings = recipe.loss
    return LossConfig(
        clip_low=settings.clip_low,
        clip_high=settings.clip_high,
        kl_coef=settings.kl_coef,
        reduction=settings.reduction,
        ratio=settings.ratio,
        max_response_tokens=max(recipe.rollout.max_new_tokens.of(role) for role in phase.roles),
    )
