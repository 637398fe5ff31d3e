"""Training runs as one self-contained HTML file: how far they are, their curves, and where their rollouts looked.

Several runs, such as three seeds, are drawn into the same charts. A run that is still going, or was killed, is shown
as far as it got. Questions and images look as in the report on evaluations.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from p2r.config import DataSettings
from p2r.errors import count_nouns
from p2r.evaluation.tables import show_share
from p2r.report.kit.line_chart import NUM_COLORS
from p2r.report.kit.page import Headline, choose_printed, list_filters, render_page
from p2r.report.training.curves import draw_probe_charts, draw_step_charts
from p2r.report.training.groups import FILTERS, MAX_GROUPS, view_groups
from p2r.report.training.tables import (
    name_training_runs,
    show_count,
    show_probed,
    tabulate_changes,
    tabulate_phases,
    tabulate_probes,
    tabulate_recipes,
    tabulate_seconds,
)
from p2r.runs.difficulty import count_kinds, describe_kinds, list_bars
from p2r.runs.guards import find_collapse, judges_nothing, learns_nothing
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training import TrainingRun
from p2r.runs.training_log import value_of

NUM_PRINTED = 4
"""Groups on paper."""


@dataclass(frozen=True, slots=True)
class Legend:
    """A run's name and the index of its color."""

    name: str
    color: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """A collapse that a guard saw after each step from `first` to `last` of a phase. text: what it said first."""

    phase: str
    first: int
    last: int
    text: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """The histogram of a measurement.

    title: the phases that keep rows by it. bars: the number of right rollouts, of rows, and their share in percent.
    """

    title: str
    text: str
    num_rollouts: int
    bars: tuple[tuple[str, str, float], ...]

    @property
    def largest(self) -> float:
        """The longest bar, in percent of all rows; 1 where all are empty."""
        return max((share for _, _, share in self.bars), default=0.0) or 1.0


def build_training_report(
    runs: Sequence[TrainingRun],
    headline: Headline,
    *,
    data: DataSettings | None = None,
    max_groups: int = MAX_GROUPS,
    on_done: Callable[[int, int], None] | None = None,
) -> tuple[str, list[str]]:
    """The report as HTML, and sentences about images that were not found.

    Args:
        data, max_groups, on_done: see `view_groups`.
    """
    names = name_training_runs(runs)
    groups, problems = view_groups(runs, names, data=data, max_groups=max_groups, on_done=on_done)
    flags = [group.flags for group in groups]
    page = {
        "headline": headline,
        "runs": names,
        "legend": [Legend(name, index % NUM_COLORS) for index, name in enumerate(names)] if len(runs) > 1 else [],
        "phases": tabulate_phases(runs, names),
        "alarms": write_alarms(runs, names),
        "histograms": draw_histograms(runs, names),
        "probe_charts": draw_probe_charts(runs, names),
        "step_charts": draw_step_charts(runs, names),
        "seconds": tabulate_seconds(runs, names),
        "probes": tabulate_probes(runs, names),
        "changes": tabulate_changes(runs, names),
        "recipe": tabulate_recipes(runs, names),
        "is_supervised": any(phase.is_supervised for run in runs for phase in run.phases),
        "has_rollouts": any(run.recipe.rewarded_phases for run in runs),
        "groups": groups,
        "phase_names": list(dict.fromkeys(group.phase for group in groups)),
        "num_groups": sum(len(run.groups) for run in runs),
        "filters": list_filters(FILTERS, flags, 0),
        "pressed": "asked",
        "printed": choose_printed(FILTERS, flags, 0, NUM_PRINTED),
        "problems": problems,
    }
    return render_page("training.html.j2", page), problems


def write_training_lede(runs: Sequence[TrainingRun]) -> str:
    """Say how far each run is, and the results of its first and its last probe."""
    has_intervals = False
    sentences: list[str] = []
    for run, name in zip(runs, name_training_runs(runs), strict=True):
        finished = f"{name} has finished after {count_nouns(len(run.steps), 'step')}."
        sentences.append(finished if run.is_finished else f"{name}: {write_state(run)}.")
        sentences += list(_describe_losses(run))
        dead = [phase.name for phase in run.phases if learns_nothing(phase.steps)]
        if dead:
            sentences.append(f"Nothing was learned in {', '.join(dead)}: the rewards of every group were alike.")
        unjudged = [phase.name for phase in run.phases if judges_nothing(phase.steps)]
        if unjudged:
            named = ", ".join(unjudged)
            sentences.append(f"Nothing was learned in {named}: no group had two rollouts that were judged.")
        if len(run.probes) > 1:
            first, last = run.probes[0], run.probes[-1]
            found = [
                f"{text} {show_probed(last, key)}, {show_share(value_of(first, key))} at first"
                for text, key in (("p2r accuracy", "accuracy_p2r"), ("hit rate", "hit_rate"))
                if value_of(first, key) is not None and value_of(last, key) is not None
            ]
            num = value_of(last, "num_samples")
            if found and num:
                has_intervals = has_intervals or bool(last.intervals)
                sentences.append(f"On the {count_nouns(round(num), 'question')} of its probe: {'; '.join(found)}.")
    return " ".join([*sentences, *(["Brackets hold 95% intervals."] if has_intervals else [])])


def _describe_losses(run: TrainingRun) -> Iterator[str]:
    """Say how far the loss of each supervised phase has come."""
    for phase in run.phases:
        losses = [step.loss for step in phase.steps if step.loss is not None]
        if phase.is_supervised and losses:
            at_first = f", {losses[0]:.3f} at first" if len(losses) > 1 else ""
            yield f"The loss of the demonstrations of {phase.name}: {losses[-1]:.3f} nats per token{at_first}."


def write_state(run: TrainingRun) -> str:
    """Say how far an unfinished run is."""
    if not run.phases:
        return "no step yet"
    phase = run.phases[-1]
    when = f", the last one at {run.written:%Y-%m-%d %H:%M}" if run.written else ""
    command = f"p2r train {shlex.quote(str(run.folder / RECIPE_FILE))} --resume"
    return f"step {show_count(phase)} of phase {phase.name}{when}; it is still running, or `{command}` resumes it"


def list_training_facts(runs: Sequence[TrainingRun]) -> tuple[tuple[str, str], ...]:
    """The model, the data and the main settings of the runs and of their phases."""
    recipes = [run.recipe for run in runs]
    phases = [phase for recipe in recipes for phase in recipe.phases()]
    supervised, rewarded = [phase for phase in phases if not phase.roles], [phase for phase in phases if phase.roles]
    facts = {
        "Model": [recipe.model.source for recipe in recipes],
        "Data": [phase.data.source for phase in phases],
        "Control": [recipe.control for recipe in recipes if recipe.control != "none"],
        "Demonstrations per step": [f"{phase.prompts_per_step}" for phase in supervised],
        "Rollouts per step": [f"{phase.prompts_per_step} × {phase.rollout.group_size}" for phase in rewarded],
        "Reward": [phase.reward.set for phase in rewarded],
        "Estimator": [f"{phase.loss.estimator}, KL {phase.loss.kl_coef:g}" for phase in rewarded],
        "Seeds": [str(recipe.seed) for recipe in recipes],
        "Last step": [f"{run.written:%Y-%m-%d %H:%M}" for run in runs if run.written],
    }
    return tuple((name, ", ".join(dict.fromkeys(values))) for name, values in facts.items() if values)


def draw_histograms(runs: Sequence[TrainingRun], names: Sequence[str]) -> list[Histogram]:
    """Draw how hard the rows are, for each measurement that phases keep rows by."""
    return [
        Histogram(
            title=f"{f'{name}, ' if len(runs) > 1 else ''}{_name_keepers(run, each.phases)}",
            text=f"{count_nouns(len(each.rows), 'row')}: {describe_kinds(count_kinds(each.rows))}",
            num_rollouts=each.num_rollouts,
            bars=tuple(
                (name, f"{count:,}", 100 * count / max(len(each.rows), 1))
                for name, count in list_bars(each.rows, each.num_rollouts)
            ),
        )
        for run, name in zip(runs, names, strict=True)
        for each in run.measurements
    ]


def _name_keepers(run: TrainingRun, names: Sequence[str]) -> str:
    """Name phases, each with the kind of rows that it trains on."""
    rules = {phase.name: phase.data.difficulty for phase in run.recipe.rewarded_phases}
    return ", ".join(f"{name} ({rule.keep} rows)" for name in names if (rule := rules.get(name)) is not None)


def write_alarms(runs: Sequence[TrainingRun], names: Sequence[str]) -> list[str]:
    """The guards' warnings, in sentences."""
    return [
        f"{f'{name}, ' if len(runs) > 1 else ''}{alarm.phase}, "
        + (f"step {alarm.first}" if alarm.first == alarm.last else f"steps {alarm.first} to {alarm.last}")
        + f": {alarm.text}."
        for run, name in zip(runs, names, strict=True)
        for alarm in find_alarms(run)
    ]


def find_alarms(run: TrainingRun) -> list[Alarm]:
    """List what the guards said, with the settings that they had then: one alarm for each stretch of steps."""
    alarms: list[Alarm] = []
    for phase in run.phases:
        ringing: dict[str, Alarm] = {}
        ended: list[Alarm] = []
        for step in range(1, len(phase.steps) + 1):
            probes = [probe for probe in phase.probes if probe.step <= step]
            now = find_collapse(phase.steps[:step], probes, run.guards_at(phase.name, step))
            ended += [ringing.pop(name) for name in set(ringing) - set(now)]
            for name, text in now.items():
                began = ringing.get(name, Alarm(phase.name, step, step, text))
                ringing[name] = replace(began, last=step)
        alarms += sorted([*ended, *ringing.values()], key=lambda alarm: (alarm.first, alarm.text))
    return alarms
