"""What is due after a step: a probe, a look for signs of a collapse, a checkpoint."""

from __future__ import annotations

from p2r.runs.training import BEST_FOLDER
from p2r.training.phases import PhaseState, save_both_roles
from p2r.training.run import Training
from p2r.training.state.saving import note_state, save_last_step
from p2r.training.watch.alarms import heed_guards, sound_alarms
from p2r.training.watch.probe import measure_probe


async def finish_step(training: Training, state: PhaseState, step: int, num_steps: int) -> None:
    """Do what is due after a step, counted from 1.

    Raises:
        TrainingError: a guard stops the run; a checkpoint has been written.
    """
    recipe, is_last = training.recipe, step == num_steps
    if is_last or step % recipe.probe.every == 0:
        await probe_policy(training, state, step)
    collapse = sound_alarms(training)
    note_state(training, state, step)
    if is_last or collapse or step % recipe.checkpoint.every == 0:
        save_last_step(training, state)
    heed_guards(recipe, state.phase, step, collapse)


async def probe_policy(training: Training, state: PhaseState, step: int) -> None:
    """Ask the probe's questions, and keep the checkpoint when it is the best so far."""
    if not training.probed:
        return
    batch_size = training.recipe.partner.concurrency
    row = await measure_probe(state, training.probed, training.stop, step=step, batch_size=batch_size)
    training.log_probe(row)
    if is_better(row.accuracy_p2r, training.best):
        training.best = row.accuracy_p2r
        save_both_roles(state, training.run.folder / BEST_FOLDER)


def is_better(accuracy: float | None, best: float | None) -> bool:
    """Compare a probe with the best so far; the earlier of two equal ones stays."""
    return accuracy is not None and (best is None or accuracy > best)
