"""PRA-GRPO, from a recipe to trained checkpoints (paper: algorithm 1).

A run is phases, a phase is steps, and a step is: take rows, roll them out (`rollout`), reward them (`reward`), compare
the rollouts of each group and update the active role (`update`). That is all that is here. What is due after a step is
in `after_step`, what is kept of it in `state/saving`, and everything else that belongs to a run in `run`.

What a step does depends only on the recipe, the weights and the step's number, so a run that was killed and resumed is
the same to the bit on a CPU.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from p2r.config import Phase, Recipe, load_recipe, parse_recipe
from p2r.errors import ConfigError, TrainingError, count_nouns, excerpt
from p2r.loop import run_apart, run_blocking
from p2r.models.local.devices import is_out_of_memory, quote_out_of_memory
from p2r.models.local.lora import describe_loss
from p2r.runs.training import TrainingRun, read_training_run
from p2r.training.after_step import finish_step, probe_policy
from p2r.training.engines.local.distributed import World, join_world
from p2r.training.engines.local.optimizer import rate_at
from p2r.training.groups import Rolled
from p2r.training.phases import PhaseState, make_roller, open_phase, save_weights
from p2r.training.resting import check_resting
from p2r.training.rewards.captions import check_captions
from p2r.training.rewards.find import find_all_terms, note_sources
from p2r.training.rewards.reward import find_unasked
from p2r.training.rewards.verifier import check_judges
from p2r.training.rollout import Roller
from p2r.training.rows.choose import choose_phase_rows, load_probe, load_rows, order_rows
from p2r.training.rows.difficulty import ChosenRows
from p2r.training.rows.order import RowOrder
from p2r.training.run import RunPhase, Training
from p2r.training.sft.check import load_all_demonstrations
from p2r.training.sft.demonstrations import Demonstration
from p2r.training.sft.step import take_sft_step
from p2r.training.sources import check_sources
from p2r.training.starts import Start, find_start
from p2r.training.state.run_folder import open_run
from p2r.training.state.saving import check_stop, describe_kept, note_state, restore, saving_when_stopped
from p2r.training.stopping import Interrupted, StopRequest, StopRequested
from p2r.training.update import learn_step
from p2r.training.watch.alarms import recall_alarms, review_phase
from p2r.training.watch.metrics import describe_groups, measure_step, quote_group, sum_stats, time_step
from p2r.training.watch.stopwatch import Stopwatch
from p2r.training.watch.trackers import Trackers
from p2r.training.watch.watcher import Watcher
from p2r.types import Sample


def train(
    recipe: Path | str | Mapping[str, object] | Recipe,
    *,
    changes: Sequence[str] = (),
    resume: bool = False,
    watcher: Watcher | None = None,
    run_phase: RunPhase | None = None,
) -> TrainingRun:
    """Train as the recipe says, into its folder. Also works in a notebook, and in each process that torchrun starts.

    Args:
        recipe: a TOML file, its tables, or a checked recipe.
        changes: settings of the file or the tables to change, such as "rollout.group_size=4".
        resume: continue the run in the recipe's folder.
        watcher: is told how the run goes.
        run_phase: trains a phase in the place of this process, such as `Verl.run_phase`.

    Returns:
        The finished run: its metrics, probes and groups, and the folder of its final checkpoint.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM. The state as of the last finished step is kept: `Interrupted` says so. A
            second signal ends the run at once, without a checkpoint.
        ConfigError: `recipe` or `changes` is of another type; `changes` to a checked recipe, in which defaults and
            presets are filled in already.
        P2RError: rows, model or settings are not usable; too much failed; a guard stopped the run; a gradient is not
            finite; no memory or no space is left. Whatever was saved before is whole, and `resume` continues from it.
    """
    _check_recipe(recipe)
    if isinstance(recipe, Recipe):
        if changes:
            raise ConfigError(
                "a checked recipe cannot be changed", hint="give its file or tables, or the `changes` to load_recipe"
            )
        checked = recipe
    elif isinstance(recipe, Mapping):
        checked = parse_recipe(recipe, changes)
    else:
        checked = load_recipe(recipe, changes)
    watcher = watcher or Watcher()
    with join_world() as world:
        stop = StopRequest((watcher if world.is_first else Watcher()).say)
        work = run_phases(checked, watcher, resume=resume, world=world, stop=stop, run_phase=run_phase)
        with stop.heeding_signals():
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                asyncio.run(work)  # in this thread, so that an interrupt waits until servers have ended
            else:
                run_blocking(work)
    if stop.sign is not None and stop.was_heeded:
        raise Interrupted(stop.sign, stop.kept)
    return read_training_run(checked.out)


def _check_recipe(recipe: object) -> None:
    if not isinstance(recipe, (Recipe, Mapping, str, Path)):
        raise ConfigError(
            f"recipe is {excerpt(recipe)}, which is not a recipe",
            hint='give a TOML file, such as `recipe="first.toml"`, its tables as a dictionary, or a Recipe',
        )


async def run_phases(
    recipe: Recipe,
    watcher: Watcher,
    *,
    resume: bool = False,
    world: World | None = None,
    stop: StopRequest | None = None,
    run_phase: RunPhase | None = None,
) -> None:
    """Train the phases of the schedule, one after the other (line 1). It returns early when `stop` is made.

    Raises:
        ConfigError: a step's prompts cannot be shared by the processes.
        P2RError: as for `train`.
    """
    world = world or World()
    stop = stop or StopRequest(watcher.say)
    try:
        await _run_phases(recipe, watcher, stop, world, run_phase or _run_phase, resume)
    except StopRequested:
        stop.was_heeded = True


async def _run_phases(
    recipe: Recipe, watcher: Watcher, stop: StopRequest, world: World, run_phase: RunPhase, resume: bool
) -> None:
    _check_shares(recipe, world)
    await stop.run(run_apart(partial(check_sources, recipe)))
    own_terms = find_all_terms(recipe)
    check_resting(recipe)
    await check_judges(recipe)
    await check_captions(recipe)
    rows = await stop.run(run_apart(partial(load_rows, recipe)))
    demonstrations = await stop.run(run_apart(partial(load_all_demonstrations, recipe)))
    probed = await stop.run(run_apart(partial(load_probe, recipe)))
    with open_run(recipe, resume=resume, world=world) as run:
        done = run.position
        run_step = done.run_step if done is not None else 0
        with Trackers(recipe if world.is_first else None, run.folder, first_step=run_step) as trackers:
            training = Training(recipe, world, watcher, run, trackers, stop, rows, demonstrations, probed, run_step)
            training.best = run.best
            for sentence in run.remarks:
                training.say(sentence)
            for data in {id(each): each for each in (*demonstrations.values(), *rows.values())}.values():
                for sentence in data.explain():
                    training.say(sentence)
            for phase in recipe.rewarded_phases:
                if unasked := find_unasked(phase):
                    training.say(f"phase {phase.name}: {unasked}")
            if world.is_first:
                for sentence in note_sources(run.folder, own_terms):
                    training.say(sentence)
            try:
                for phase in recipe.phases():
                    if not run.has_finished(phase):
                        recall_alarms(training, phase)
                        running = run_phase(training, phase, find_start(recipe, phase, run.folder))
                        await (stop.run(running) if world.size == 1 else running)
                        review_phase(training, phase)
            except StopRequested:
                stop.kept = describe_kept(training)
                raise


def _check_shares(recipe: Recipe, world: World) -> None:
    """Check that the processes can share each step evenly."""
    for phase in recipe.phases():
        if phase.prompts_per_step % world.size:
            setting = "sft.rows_per_step" if phase.kind == "sft" else "rollout.prompts_per_step"
            raise ConfigError(
                f"{count_nouns(phase.prompts_per_step, 'prompt')} a step cannot be shared by "
                f"{count_nouns(world.size, 'process', 'processes')}",
                hint=f"make {setting} a multiple of the number of processes",
            )


async def _run_phase(training: Training, phase: Phase, start: Start) -> None:
    """Train one phase, from the checkpoint that it starts from to the one that it leaves."""
    recipe, run = training.recipe, training.run
    try:
        async with open_phase(recipe, phase, start, run, training.world) as state:
            num_steps, num_left_out, take_step = await _prepare(training, state)
            first, is_probed = restore(training, state)
            left_out = f", {count_nouns(num_left_out, 'row')} left out" if num_left_out else ""
            beside = "" if start.resting is None else f", the other role from {start.resting}"
            training.say(f"phase {phase.name}: steps {first + 1} to {num_steps}, from {start.active}{beside}{left_out}")
            with saving_when_stopped(training, state):
                if first == 0:
                    await probe_policy(training, state, 0)
                elif not is_probed:
                    await finish_step(training, state, first, num_steps)
                for step in range(first, num_steps):
                    await take_step(step, num_steps)
                    note_state(training, state, step + 1, is_probed=False)
                    await finish_step(training, state, step + 1, num_steps)
            lost = save_weights(state, run.folder / phase.name)
            if lost is not None:
                training.say(f"phase {phase.name}: {describe_loss(lost, state.policy.dtype)}; adapter/ has all of it")
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory in phase {phase.name}: {quote_out_of_memory(error)}",
            hint="`resume=True` continues from the last checkpoint, with smaller "
            "optimizer.micro_batch_groups, rollout.prompts_at_once or partner.concurrency, or "
            "model.gradient_checkpointing = true; optimizer.kind 'adamw8bit' or 'offload' needs a new run",
        ) from error


TakeStep: TypeAlias = Callable[[int, int], Awaitable[None]]
"""Takes a step, counted from 0, of so many."""


async def _prepare(training: Training, state: PhaseState) -> tuple[int, int, TakeStep]:
    """Choose the rows of a phase; returns the number of its steps, of rows left out, and what takes a step."""
    phase = state.phase
    if phase.kind == "sft":
        rows = training.demonstrations[phase.index].rows
        order = order_rows(phase, len(rows))
        return phase.count_steps(len(rows)), 0, partial(_take_sft_step, training, state, rows, order)
    rows = training.rows[phase.index].rows
    chosen = await choose_phase_rows(training.recipe, state, rows, training.run, training.say, training.stop)
    roller = make_roller(training.recipe, state)
    take_step = partial(_take_step, training, state, roller, chosen)
    return phase.count_steps(len(chosen.rows)), chosen.num_left_out, take_step


async def _take_sft_step(
    training: Training, state: PhaseState, rows: Sequence[Demonstration], order: RowOrder, step: int, num_steps: int
) -> None:
    """One step of a supervised phase, and its metrics."""
    places, training.row_position = order.take(training.row_position, state.phase.prompts_per_step)
    check = partial(check_stop, training, state)
    learning = take_sft_step(state, [rows[place] for place in places], step, num_steps, check)
    training.log_step(await training.stop.run_together(learning, training.world, talks=True), num_steps)


async def _take_step(
    training: Training, state: PhaseState, roller: Roller, chosen: ChosenRows, step: int, num_steps: int
) -> None:
    """Lines 2 to 36: one step of the active role, and its metrics."""
    world, watch, phase = training.world, Stopwatch(), state.phase
    rate = rate_at(phase.optimizer, phase.lr, step, num_steps)
    places: dict[str, int] = {}
    with watch.part("rollout"), state.ready_to_sample():
        rolling = _roll_out(training, phase, roller, chosen, step, places)
        rolled = await training.stop.run_together(rolling, world, talks=phase.rollout.dynamic_sampling)
    state.failures.check(world)
    check = partial(check_stop, training, state)
    learned = learn_step(state, rolled.groups, rate, watch, check, places)
    stats = sum_stats(rolled.stats, world)
    timing = time_step(state, watch, stats, learned.report)
    facts = world.gather(describe_groups(learned.compared))
    row = measure_step(phase.name, step + 1, facts, stats, learned.report, rate, timing)
    training.log_step(row, num_steps)
    if learned.compared:
        training.log_group(quote_group(phase.name, step + 1, learned.compared[0]))
    if sentence := training.frames.note(stats.frames, is_last=step + 1 == num_steps):
        training.say(sentence)


async def _roll_out(
    training: Training, phase: Phase, roller: Roller, chosen: ChosenRows, step: int, places: dict[str, int]
) -> Rolled:
    """Return the groups of this process's rows of the mini-batch. places: gets the place of each row that is drawn."""
    world, asked = training.world, set[int]()

    def draw(count: int) -> list[Sample]:
        numbers, training.row_position = chosen.order.take(training.row_position, count, asked)
        asked.update(numbers)
        rows = [chosen.rows[number] for number in numbers]
        for row in rows:
            places.setdefault(row.id, len(places))
        return rows

    if phase.rollout.dynamic_sampling:
        return await roller.roll_out_alive(draw, phase.prompts_per_step, step, world, training.stop)
    return await roller.roll_out(world.share(draw(phase.prompts_per_step)), step)
