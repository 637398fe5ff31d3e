"""PRA-GRPO, from a recipe to trained checkpoints (paper: algorithm 1).

A run is phases, a phase is steps, and a step is: take rows, roll them out (`rollout`), reward them (`reward`), compare
the rollouts of each group and update the active role (`update`). Everything else here watches, saves and resumes. What
a step does depends only on the recipe, the weights and the step's number, so a run that was killed and resumed is the
same to the bit on a CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from p2r.config import Phase, Recipe, load_recipe, parse_recipe
from p2r.errors import ConfigError, P2RError, StorageError, TooManyErrors, TrainingError, count_nouns, excerpt
from p2r.loop import run_apart, run_blocking
from p2r.models.local.devices import is_out_of_memory
from p2r.models.local.lora import describe_loss
from p2r.runs.guards import NOTHING, UNJUDGED, find_collapse, judges_nothing, learns_nothing
from p2r.runs.training import (
    BEST_FOLDER,
    METRICS_FILE,
    PROBES_FILE,
    ROLLOUTS_FILE,
    Probe,
    Step,
    TrainingRun,
    read_training_run,
)
from p2r.training.engines.local.distributed import World, join_world, whole_weights
from p2r.training.engines.local.optimizer import rate_at
from p2r.training.engines.local.policy import describe_weights
from p2r.training.groups import Rolled
from p2r.training.phases import PhaseState, make_roller, open_phase, save_weights
from p2r.training.rewards.find import find_all_terms, note_sources
from p2r.training.rewards.verifier import check_judges
from p2r.training.rollout import Roller
from p2r.training.rows.check import TrainingData
from p2r.training.rows.choose import choose_phase_rows, load_probe, load_rows, order_rows
from p2r.training.rows.difficulty import ChosenRows
from p2r.training.rows.order import RowOrder
from p2r.training.sft.check import load_all_demonstrations
from p2r.training.sft.demonstrations import Demonstration, Demonstrations
from p2r.training.sft.step import take_sft_step
from p2r.training.state.checkpoint import Position, seed_random_states
from p2r.training.state.last_step import LastStep, keep_last_step
from p2r.training.state.run_folder import RunFolder, open_run
from p2r.training.stopping import Interrupted, StopRequest, StopRequested
from p2r.training.update import learn_step
from p2r.training.watch.frames import FrameWatch
from p2r.training.watch.metrics import describe_groups, measure_step, quote_group, sum_stats, time_step
from p2r.training.watch.probe import measure_probe
from p2r.training.watch.stopwatch import Stopwatch
from p2r.training.watch.trackers import Trackers
from p2r.types import Sample


def _ignore(*_: object) -> None:
    """The default of every callback."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Callbacks that follow a run. Only the first process calls them.

    say: called with a sentence. step: with a step's metrics and the number of steps of its phase.
    """

    say: Callable[[str], object] = _ignore
    step: Callable[[Step, int], object] = _ignore
    probe: Callable[[Probe], object] = _ignore


def train(
    recipe: Path | str | Mapping[str, object] | Recipe,
    *,
    changes: Sequence[str] = (),
    resume: bool = False,
    watcher: Watcher | None = None,
) -> TrainingRun:
    """Train as the recipe says, into its folder. Also works in a notebook, and in each process that torchrun starts.

    Args:
        recipe: a TOML file, its tables, or a checked recipe.
        changes: settings of the file or the tables to change, such as "rollout.group_size=4".
        resume: continue the run in the recipe's folder.
        watcher: is told how the run goes.

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
        stop = StopRequest(watcher.say if world.is_first else _ignore)
        work = run_phases(checked, watcher, resume=resume, world=world, stop=stop)
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


@dataclass(slots=True)
class Training:
    """A run under way.

    rows: the rows of each phase that rewards, by its index. demonstrations: those of each supervised phase.
    run_step: steps done in all phases. row_position: in the phase's order of rows. best: accuracy of the best probe.
    last: the state as of the last finished step. saved: the last checkpoint of this call, or what it began with.
    """

    recipe: Recipe
    world: World
    watcher: Watcher
    run: RunFolder
    trackers: Trackers
    stop: StopRequest
    rows: Mapping[int, TrainingData]
    demonstrations: Mapping[int, Demonstrations]
    probed: Sequence[Sample]
    run_step: int = 0
    row_position: int = 0
    best: float | None = None
    alarms: set[str] = field(default_factory=set[str])
    frames: FrameWatch = field(default_factory=FrameWatch)
    last: LastStep | None = None
    saved: Position | None = None

    def say(self, text: str) -> None:
        if self.world.is_first:
            self.watcher.say(text)


async def run_phases(
    recipe: Recipe,
    watcher: Watcher,
    *,
    resume: bool = False,
    world: World | None = None,
    stop: StopRequest | None = None,
) -> None:
    """Train the phases of the schedule, one after the other (line 1). See `train`.

    It returns early when `stop` is made.

    Raises:
        ConfigError: a step's prompts cannot be shared by the processes.
        P2RError: as for `train`.
    """
    world = world or World()
    stop = stop or StopRequest(watcher.say)
    try:
        await _run_phases(recipe, watcher, stop, world, resume=resume)
    except StopRequested:
        stop.was_heeded = True


async def _run_phases(recipe: Recipe, watcher: Watcher, stop: StopRequest, world: World, *, resume: bool) -> None:
    for phase in recipe.phases():
        whole, part = ("rollout.prompts_per_step", "a step"), ("optimizer.mini_batch_prompts", "an update")
        shared = {whole: phase.prompts_per_step, part: phase.prompts_per_update}
        if phase.kind == "sft":
            shared = {("sft.rows_per_step", "a step"): phase.prompts_per_step}
        for (setting, per), prompts in shared.items():
            if prompts % world.size:
                raise ConfigError(
                    f"{count_nouns(prompts, 'prompt')} {per} cannot be shared by "
                    f"{count_nouns(world.size, 'process', 'processes')}",
                    hint=f"make {setting} a multiple of the number of processes",
                )
    own_terms = find_all_terms(recipe)
    await check_judges(recipe)
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
            if world.is_first:
                for sentence in note_sources(run.folder, own_terms):
                    training.say(sentence)
            source = recipe.model.source
            try:
                for phase in recipe.phases():
                    if not run.has_finished(phase):
                        running = _run_phase(training, phase, phase.source or source)
                        await (stop.run(running) if world.size == 1 else running)
                    source = str(run.folder / phase.name)
            except StopRequested:
                stop.kept = _describe_kept(training)
                raise


async def _run_phase(training: Training, phase: Phase, source: str) -> None:
    """Train one phase, from the checkpoint that it starts from to the one that it leaves."""
    recipe, run = training.recipe, training.run
    try:
        async with open_phase(recipe, phase, source, run, training.world) as state:
            num_steps, num_left_out, take_step = await _prepare(training, state)
            first, is_probed = _restore(training, state)
            left_out = f", {count_nouns(num_left_out, 'row')} left out" if num_left_out else ""
            training.say(f"phase {phase.name}: steps {first + 1} to {num_steps}, from {source}{left_out}")
            with _saving_when_stopped(training, state):
                if first == 0:
                    await _probe(training, state, 0)
                elif not is_probed:
                    await _finish_step(training, state, first, num_steps)
                for step in range(first, num_steps):
                    await take_step(step, num_steps)
                    _keep(training, state, step + 1, is_probed=False)
                    await _finish_step(training, state, step + 1, num_steps)
            if learns_nothing(run.steps) and "dead_groups" not in training.alarms:
                training.say(f"phase {phase.name}: the rewards of every group were alike in all steps: {NOTHING}")
            elif judges_nothing(run.steps):
                training.say(f"phase {phase.name}: {UNJUDGED}")
            lost = save_weights(state, run.folder / phase.name)
            if lost is not None:
                training.say(f"phase {phase.name}: {describe_loss(lost, state.policy.dtype)}; adapter/ has all of it")
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory in phase {phase.name}: {str(error).partition('. ')[0]}",
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
    learning = take_sft_step(state, [rows[place] for place in places], step, num_steps)
    _log_step(training, await training.stop.run_together(learning, training.world, talks=True), num_steps)


def _log_step(training: Training, row: Step, num_steps: int) -> None:
    training.run_step += 1
    training.run.steps.append(row)
    training.run.write(METRICS_FILE, row)
    training.trackers.send(row.model_dump(mode="json"), training.run_step)
    if training.world.is_first:
        training.watcher.step(row, num_steps)


@contextlib.contextmanager
def _saving_when_stopped(training: Training, state: PhaseState) -> Generator[None, None, None]:
    """Write a checkpoint of the last finished step when a request or an error stops the run."""
    try:
        yield
    except Exception as error:
        is_together = training.world.size == 1 or isinstance(error, (StopRequested, TrainingError, TooManyErrors))
        if is_together and (isinstance(error, (StopRequested, P2RError)) or is_out_of_memory(error)):
            with contextlib.suppress(StorageError):  # the first error is told
                _save_last_step(training, state)
        raise


def _describe_kept(training: Training) -> str:
    """Say what a run that stops can be resumed from."""
    position = training.saved or training.run.position
    if position is None or position.run_step == 0:
        return "no step was finished"
    phase = training.recipe.phases()[position.phase]
    return f"the run as of step {position.step} of phase {phase.name} is kept in {training.run.folder}"


async def _finish_step(training: Training, state: PhaseState, step: int, num_steps: int) -> None:
    """Do what is due after a step, counted from 1: a probe, alarms, a checkpoint."""
    recipe, is_last = training.recipe, step == num_steps
    if is_last or step % recipe.probe.every == 0:
        await _probe(training, state, step)
    collapse = _sound_alarms(training)
    _keep(training, state, step)
    if is_last or collapse or step % recipe.checkpoint.every == 0:
        _save_last_step(training, state)
    if collapse and recipe.guards.action == "stop":
        raise _stop_by_guard(state.phase, step, collapse)


def _stop_by_guard(phase: Phase, step: int, collapse: Iterable[str]) -> TrainingError:
    return TrainingError(
        f"stopped at step {step} of phase {phase.name}: {'; '.join(collapse)}",
        hint='a checkpoint is kept: to continue all the same, resume with guards.action = "warn" or with other limits '
        "in [guards]; or try a new run with a higher loss.kl_coef or a lower rate",
    )


async def _take_step(
    training: Training, state: PhaseState, roller: Roller, chosen: ChosenRows, step: int, num_steps: int
) -> None:
    """Lines 2 to 36: one step of the active role, and its metrics."""
    world, watch, phase = training.world, Stopwatch(), state.phase
    rate = rate_at(phase.optimizer, phase.lr, step, num_steps)
    with watch.part("rollout"), whole_weights(state.policy.model):
        rolling = _roll_out(training, phase, roller, chosen, step)
        rolled = await training.stop.run_together(rolling, world, talks=phase.rollout.dynamic_sampling)
    state.failures.check(world)

    def check() -> None:
        is_whole = training.last is not None and training.last.is_whole(state.optimizer)
        if training.stop.sign is not None and is_whole and world.size == 1:
            raise StopRequested

    learned = learn_step(state, rolled.groups, rate, watch, check)

    stats = sum_stats(rolled.stats, world)
    timing = time_step(state, watch, stats, learned.report)
    facts = world.gather(describe_groups(learned.compared))
    row = measure_step(phase.name, step + 1, facts, stats, learned.report, rate, timing)
    _log_step(training, row, num_steps)
    if learned.compared:
        quoted = quote_group(phase.name, step + 1, learned.compared[0])
        training.run.write(ROLLOUTS_FILE, quoted)
        training.trackers.send_group(quoted, training.run_step)
    if sentence := training.frames.note(stats.frames, is_last=step + 1 == num_steps):
        training.say(sentence)


async def _roll_out(training: Training, phase: Phase, roller: Roller, chosen: ChosenRows, step: int) -> Rolled:
    """Return the groups of this process's rows of the mini-batch."""
    world, asked = training.world, set[int]()

    def draw(count: int) -> list[Sample]:
        places, training.row_position = chosen.order.take(training.row_position, count, asked)
        asked.update(places)
        return [chosen.rows[place] for place in places]

    if phase.rollout.dynamic_sampling:
        return await roller.roll_out_alive(draw, phase.prompts_per_step, step, world, training.stop)
    return await roller.roll_out(world.share(draw(phase.prompts_per_step)), step)


def _restore(training: Training, state: PhaseState) -> tuple[int, bool]:
    """Bring a phase to its last checkpoint; returns the steps that are done, and whether the last one was finished.

    Raises:
        TrainingError: a guard stopped the run there, and would stop it again.
    """
    run, done = training.run, training.run.position
    run.recall(state.phase)
    training.row_position, training.alarms = 0, set()
    if done is None or done.phase != state.phase.index:
        seed_random_states(training.recipe.seed + state.phase.index)
        _keep(training, state, 0)
        training.saved = training.last.position if training.last else None
        return 0, True
    training.row_position = done.row_position
    known = run.steps if done.is_probed else run.steps[:-1]
    collapse = find_collapse(known, run.probes, training.recipe.guards)
    if collapse and training.recipe.guards.action == "stop":
        raise _stop_by_guard(state.phase, done.step, collapse.values())
    training.alarms = set(collapse)
    memo, failures = run.checkpoints.restore(done, state.policy, state.optimizer)
    state.memo.load(json.loads(memo))
    state.failures.load(failures)
    _keep(training, state, done.step, is_probed=done.is_probed)
    training.saved = training.last.position if training.last else None
    return done.step, done.is_probed


def _keep(training: Training, state: PhaseState, step: int, *, is_probed: bool = True) -> None:
    """Note the state after a step, in case the run stops before the next one is finished."""
    position = Position(
        phase=state.phase.index,
        step=step,
        run_step=training.run_step,
        row_position=training.row_position,
        model=describe_weights(state.policy),
        num_processes=training.world.size,
        log_bytes=training.run.log_bytes(),
        best=training.best,
        is_probed=is_probed,
    )
    training.last = keep_last_step(position, state, state.memo, state.failures)


def _save_last_step(training: Training, state: PhaseState) -> None:
    """Write a checkpoint to resume from, unless there is one already, or a later step has changed the weights."""
    last = training.last
    if last is None or last.position == training.saved or not last.is_whole(state.optimizer):
        return
    if training.world.is_first:
        training.run.forget_end(state.phase)
    training.run.checkpoints.save(last.position, last.freeze(state.memo))
    training.saved = last.position


async def _probe(training: Training, state: PhaseState, step: int) -> None:
    """Ask the probe's questions, and keep the checkpoint when it is the best so far."""
    run = training.run
    if not training.probed:
        return
    with whole_weights(state.policy.model):
        probing = measure_probe(state, training.probed, step=step, batch_size=training.recipe.partner.concurrency)
        row = await training.stop.run_together(probing, training.world, talks=True)
    run.probes.append(row)
    run.write(PROBES_FILE, row)
    training.trackers.send({"probe": row.model_dump(mode="json", exclude={"phase", "step"})}, training.run_step)
    if training.world.is_first:
        training.watcher.probe(row)
    if is_better(row.accuracy_p2r, training.best):
        training.best = row.accuracy_p2r
        save_weights(state, run.folder / BEST_FOLDER)


def is_better(accuracy: float | None, best: float | None) -> bool:
    """Compare a probe with the best so far; the earlier of two equal ones stays."""
    return accuracy is not None and (best is None or accuracy > best)


def _sound_alarms(training: Training) -> list[str]:
    """Say what a guard sees now and did not see a step ago."""
    now = find_collapse(training.run.steps, training.run.probes, training.recipe.guards)
    new = [text for name, text in now.items() if name not in training.alarms]
    training.alarms = set(now)
    for text in new:
        training.say(f"guard: {text}")
    return new
