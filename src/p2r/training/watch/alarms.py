"""The guards of a run under way: what they see is said once, or stops the run."""

from __future__ import annotations

from collections.abc import Collection

from p2r.config import Phase, Recipe
from p2r.errors import TrainingError
from p2r.runs.guards import NOTHING, UNJUDGED, find_collapse, judges_nothing, learns_nothing
from p2r.training.run import Training


def sound_alarms(training: Training) -> list[str]:
    """Say what a guard sees now and did not see a step ago."""
    now = find_collapse(training.run.steps, training.run.probes, training.recipe.guards)
    new = [text for name, text in now.items() if name not in training.alarms]
    training.alarms = set(now)
    for text in new:
        training.say(f"guard: {text}")
    return new


def recall_alarms(training: Training, phase: Phase) -> None:
    """Look at the steps that an earlier call has recorded, before anything is loaded for the next one.

    What the guards said of them is not said again.

    Raises:
        TrainingError: a guard stopped the run there, and would stop it again.
    """
    run, done = training.run, training.run.position
    run.recall(phase)
    training.alarms = set()
    if done is None or done.phase != phase.index:
        return
    steps = run.steps if done.is_probed else run.steps[:-1]
    collapse = find_collapse(steps, run.probes, training.recipe.guards)
    heed_guards(training.recipe, phase, done.step, collapse.values())
    training.alarms = set(collapse)


def heed_guards(recipe: Recipe, phase: Phase, step: int, collapse: Collection[str]) -> None:
    """End a run after a step, counted from 1, when a guard has seen something and the recipe asks for that.

    Raises:
        TrainingError: with what was seen.
    """
    if collapse and recipe.guards.action == "stop":
        raise TrainingError(
            f"stopped at step {step} of phase {phase.name}: {'; '.join(collapse)}",
            hint='a checkpoint is kept: to continue all the same, resume with guards.action = "warn" or with other '
            "limits in [guards]; or try a new run with a higher loss.kl_coef or a lower rate",
        )


def review_phase(training: Training, phase: Phase) -> None:
    """Say at the end of a phase whether it has taught nothing at all."""
    if learns_nothing(training.run.steps) and "dead_groups" not in training.alarms:
        training.say(f"phase {phase.name}: the rewards of every group were alike in all steps: {NOTHING}")
    elif judges_nothing(training.run.steps):
        training.say(f"phase {phase.name}: {UNJUDGED}")
