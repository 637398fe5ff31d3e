"""What a run keeps of the steps that are done, and how a phase continues from it.

The state after a step is noted. It is written as a checkpoint every so often, at the end of a phase, and when the run
stops; `last_step` says why that may be later than the step.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager, suppress

from p2r.errors import P2RError, StorageError, TooManyErrors, TrainingError
from p2r.models.local.devices import is_out_of_memory
from p2r.training.engines.local.policy import describe_weights
from p2r.training.phases import PhaseState
from p2r.training.run import Training
from p2r.training.state.checkpoint import seed_random_states
from p2r.training.state.last_step import keep_last_step
from p2r.training.stopping import StopRequested


def restore(training: Training, state: PhaseState) -> tuple[int, bool]:
    """Bring a phase to its last checkpoint; returns the steps that are done, and whether the last one was finished."""
    run, done = training.run, training.run.position
    training.row_position = 0
    num_done, is_probed = 0, True
    if done is None or done.phase != state.phase.index:
        seed_random_states(training.recipe.seed + state.phase.index)
    else:
        num_done, is_probed = done.step, done.is_probed
        training.row_position = done.row_position
        memo, failures = run.checkpoints.restore(done, state.policy, state.optimizer)
        state.memo.load(json.loads(memo))
        state.failures.load(failures)
    note_state(training, state, num_done, is_probed=is_probed)
    training.saved = training.last.position if training.last else None
    return num_done, is_probed


def note_state(training: Training, state: PhaseState, step: int, *, is_probed: bool = True) -> None:
    """Note the state after a step, in case the run stops before the next one is finished.

    Args:
        step: steps of the phase that are done.
        is_probed: whether what is due after the step has been done.
    """
    position = training.position_after(state.phase, step, describe_weights(state.policy), is_probed=is_probed)
    training.last = keep_last_step(position, state, state.memo, state.failures)


def save_last_step(training: Training, state: PhaseState) -> None:
    """Write a checkpoint to resume from, unless there is one already, or a later step has changed the weights."""
    last = training.last
    if last is None or last.position == training.saved or not last.is_whole(state.optimizer):
        return
    if training.world.is_first:
        training.run.forget_end(state.phase)
    training.run.checkpoints.save(last.position, last.freeze(state.memo))
    training.saved = last.position


def check_stop(training: Training, state: PhaseState) -> None:
    """Leave an update at its next micro-batch, once the run is asked to stop and the last finished step can be saved.

    Several processes finish the step together.

    Raises:
        StopRequested: it was asked to.
    """
    if training.world.size == 1 and training.last is not None and training.last.is_whole(state.optimizer):
        training.stop.check()


@contextmanager
def saving_when_stopped(training: Training, state: PhaseState) -> Generator[None, None, None]:
    """Write a checkpoint of the last finished step when a request or an error stops the run."""
    try:
        yield
    except Exception as error:
        is_together = training.world.size == 1 or isinstance(error, (StopRequested, TrainingError, TooManyErrors))
        if is_together and (isinstance(error, (StopRequested, P2RError)) or is_out_of_memory(error)):
            with suppress(StorageError):  # the first error is told
                save_last_step(training, state)
        raise


def describe_kept(training: Training) -> str:
    """Say what a run that stops can be resumed from."""
    position = training.saved or training.run.position
    if position is None or position.run_step == 0:
        return "no step was finished"
    phase = training.recipe.phases()[position.phase]
    return f"the run as of step {position.step} of phase {phase.name} is kept in {training.run.folder}"
