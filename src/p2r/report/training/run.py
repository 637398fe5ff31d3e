"""Training runs side by side: what the guards saw in each, and where the phases of several runs lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from p2r.runs.guards import find_collapse
from p2r.runs.training import TrainingRun, natural_order


@dataclass(frozen=True, slots=True)
class Alarm:
    """A collapse that a guard saw after each step from `first` to `last` of a phase. text: what it said first."""

    phase: str
    first: int
    last: int
    text: str


def find_alarms(run: TrainingRun) -> list[Alarm]:
    """What the guards said, or would have said with the recipe's settings: one alarm for each stretch of steps."""
    alarms: list[Alarm] = []
    for phase in run.phases:
        ringing: dict[str, Alarm] = {}
        ended: list[Alarm] = []
        for step in range(1, len(phase.steps) + 1):
            probes = [probe for probe in phase.probes if probe.step <= step]
            now = find_collapse(phase.steps[:step], probes, run.recipe.guards)
            ended += [ringing.pop(name) for name in set(ringing) - set(now)]
            for name, text in now.items():
                began = ringing.get(name, Alarm(phase.name, step, step, text))
                ringing[name] = replace(began, last=step)
        alarms += sorted([*ended, *ringing.values()], key=lambda alarm: (alarm.first, alarm.text))
    return alarms


def have_same_phases(runs: Sequence[TrainingRun]) -> bool:
    """Tell runs of one schedule, such as several seeds, from a schedule and its control."""
    return len({tuple(phase.name for phase in run.recipe.phases()) for run in runs}) == 1


def place_phases(runs: Sequence[TrainingRun]) -> dict[str, tuple[int, int]]:
    """First and last step of each phase that some run has begun, by name; all runs share them."""
    lengths: dict[str, int] = {}
    for run in runs:
        for phase in run.phases:
            steps = [row.step for row in (*phase.steps, *phase.probes)]
            lengths[phase.name] = max(lengths.get(phase.name, 0), *steps, 0)
    names = sorted(lengths, key=natural_order)
    ends = list(accumulate(lengths[name] for name in names))
    return {name: (end - lengths[name], end) for name, end in zip(names, ends, strict=True)}


def name_training_runs(runs: Sequence[TrainingRun]) -> list[str]:
    """The folders' names, or their whole paths where two names are equal."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]
