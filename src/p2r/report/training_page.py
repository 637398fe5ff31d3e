"""Training runs as one self-contained HTML file: how far they are, their curves, and what their rollouts looked at.

Several runs, such as three seeds, are drawn into the same charts. A run that still goes on, or was killed, is shown as
far as it has come. The looks, cards and pictures are those of the report on evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from p2r.config import DataSettings
from p2r.evaluation.scoring import mean_of
from p2r.evaluation.statistics import Interval
from p2r.evaluation.tables import MISSING, Table, find_text_columns, show_interval, show_number, show_share
from p2r.report.build import Story
from p2r.report.curves import draw_probe_charts, draw_step_charts
from p2r.report.line_chart import NUM_COLOURS
from p2r.report.page import environment, read_template
from p2r.report.rollouts import FILTERS, MAX_GROUPS, GroupCard, build_group_cards
from p2r.report.training_run import (
    PhaseRecord,
    TrainingRun,
    find_alarms,
    name_training_runs,
    step_of,
    value_of,
)
from p2r.training.trackers import Row
from p2r.version import __version__

PROBE_COLUMNS: Mapping[str, str] = {
    "p2r": "accuracy_p2r",
    "direct": "accuracy_direct",
    "hit rate": "hit_rate",
    "in crops": "seen_rate",
    "IoU": "mean_iou",
    "boxes": "mean_boxes",
    "one box": "one_box",
    "size": "mean_box_area",
}
AS_NUMBERS = frozenset({"IoU", "boxes"})
"""The others are shares."""


@dataclass(frozen=True, slots=True)
class Legend:
    """A run's name and the place of its colour."""

    name: str
    place: int


def build_training_report(
    runs: Sequence[TrainingRun],
    story: Story,
    *,
    data: DataSettings | None = None,
    max_groups: int = MAX_GROUPS,
    on_card: Callable[[int, int], None] | None = None,
) -> tuple[str, list[str]]:
    """The report as HTML, and sentences about pictures that were not found.

    Args:
        data, max_groups, on_card: see `build_group_cards`.
    """
    names = name_training_runs(runs)
    cards, problems = build_group_cards(runs, names, data=data, max_groups=max_groups, on_card=on_card)
    page = {
        "story": story,
        "runs": names,
        "legend": [Legend(name, place % NUM_COLOURS) for place, name in enumerate(names)] if len(runs) > 1 else [],
        "phases": tabulate_phases(runs, names),
        "alarms": write_alarms(runs, names),
        "probe_charts": draw_probe_charts(runs, names),
        "step_charts": draw_step_charts(runs, names),
        "seconds": tabulate_seconds(runs, names),
        "probes": tabulate_probes(runs, names),
        "recipe": tabulate_recipes(runs, names),
        "cards": cards,
        "phase_names": list(dict.fromkeys(card.phase for card in cards)),
        "num_groups": sum(len(run.groups) for run in runs),
        "filters": _list_filters(cards),
        "problems": problems,
    }
    template = environment().get_template("training.html.j2")
    return (
        template.render(
            page=page,
            story=story,
            find_text_columns=find_text_columns,
            version=__version__,
            css=read_template("looks.css") + read_template("report.css"),
            js=read_template("report.js"),
        ),
        problems,
    )


def list_training_tables(runs: Sequence[TrainingRun]) -> list[Table]:
    """Every table, for files."""
    names = name_training_runs(runs)
    tables = (tabulate_phases, tabulate_probes, tabulate_seconds, tabulate_recipes)
    return [table for make in tables if (table := make(runs, names)).rows]


def write_training_lede(runs: Sequence[TrainingRun]) -> str:
    """How far each run is, and what its probes said at the beginning and at the end."""
    sentences: list[str] = []
    for run, name in zip(runs, name_training_runs(runs), strict=True):
        begin = f"{name} has finished: {run.num_steps} steps." if run.is_finished else f"{name}: {write_state(run)}."
        sentences.append(begin)
        if len(run.probes) > 1:
            first, last = run.probes[0], run.probes[-1]
            changes = [
                f"{text} went from {show_share(value_of(first, key))} to {show_share(value_of(last, key))}"
                f" (95% interval {show_interval(_interval_of(last, key))})"
                for text, key in (("p2r accuracy", "accuracy_p2r"), ("hit rate", "hit_rate"))
                if value_of(first, key) is not None and value_of(last, key) is not None
            ]
            num = value_of(last, "num_samples")
            if changes and num:
                sentences.append(f"On the {num:.0f} questions of its probe " + ", ".join(changes) + ".")
    return " ".join(sentences)


def write_state(run: TrainingRun) -> str:
    """Where a run stands that has not finished."""
    if not run.phases:
        return "no step yet"
    phase = run.phases[-1]
    when = f", the last one at {run.written:%Y-%m-%d %H:%M}" if run.written else ""
    return f"step {_count(phase)} of phase {phase.name}{when}; it goes on, or waits for --resume"


def list_training_facts(runs: Sequence[TrainingRun]) -> tuple[tuple[str, str], ...]:
    """What was trained, on what, and how."""
    recipes = [run.recipe for run in runs]
    facts = {
        "Model": [recipe.model.source for recipe in recipes],
        "Data": [recipe.data.source for recipe in recipes],
        "Control": [recipe.control for recipe in recipes if recipe.control != "none"],
        "Rollouts a step": [f"{recipe.prompts_per_step} × {recipe.rollout.group_size}" for recipe in recipes],
        "Reward": [recipe.reward.set for recipe in recipes],
        "Estimator": [f"{recipe.loss.estimator}, KL {recipe.loss.kl_coef:g}" for recipe in recipes],
        "Seeds": [str(recipe.seed) for recipe in recipes],
        "Last step": [f"{run.written:%Y-%m-%d %H:%M}" for run in runs if run.written],
    }
    return tuple((name, ", ".join(dict.fromkeys(values))) for name, values in facts.items() if values)


def write_alarms(runs: Sequence[TrainingRun], names: Sequence[str]) -> list[str]:
    """What the guards said, in sentences."""
    return [
        f"{f'{name}, ' if len(runs) > 1 else ''}{alarm.phase}, "
        + (f"step {alarm.first}" if alarm.first == alarm.last else f"steps {alarm.first} to {alarm.last}")
        + f": {alarm.text}."
        for run, name in zip(runs, names, strict=True)
        for alarm in find_alarms(run)
    ]


def tabulate_phases(runs: Sequence[TrainingRun], names: Sequence[str]) -> Table:
    """A line for each phase of each run."""
    rows: list[tuple[str, ...]] = []
    for run, name in zip(runs, names, strict=True):
        for phase in run.phases:
            tenth = max(1, len(phase.steps) // 10)
            rows.append(
                (
                    f"{name}, {phase.name}" if len(runs) > 1 else phase.name,
                    _count(phase),
                    f"{phase.lr:g}",
                    _change(phase.steps[:tenth], phase.steps[-tenth:], "reward", show_number),
                    *(
                        _change(phase.probes[:1], phase.probes[-1:], key, show_share)
                        for key in ("accuracy_p2r", "accuracy_direct", "hit_rate")
                    ),
                    _sum(phase.steps, "num_rollouts"),
                    _sum(phase.steps, "num_generated_tokens"),
                    _sum(phase.steps, "num_unjudged"),
                    show_number(_mean(phase.steps, "timing/seconds"), 1),
                )
            )
    return Table(
        title="Phases",
        columns=(
            "phase", "steps", "rate", "reward", "p2r", "direct", "hit rate", "rollouts", "tokens", "not judged",
            "s a step",
        ),
        rows=tuple(rows),
        notes=(
            "Reward: means over the first and over the last tenth of the steps. p2r, direct, hit rate: the first and the "
            "last probe. What could not be judged is left out of its group, and counts for nothing.",
        ),
    )  # fmt: skip


def tabulate_probes(runs: Sequence[TrainingRun], names: Sequence[str]) -> Table:
    """Every probe with its intervals; the one that `best` keeps is marked."""
    rows: list[tuple[str, ...]] = []
    for run, name in zip(runs, names, strict=True):
        best = max((value_of(probe, "accuracy_p2r") or 0.0 for probe in run.probes), default=0.0)
        marked = False
        for probe in run.probes:
            is_best = not marked and value_of(probe, "accuracy_p2r") == best
            marked = marked or is_best
            where = f"{probe['phase']} after {step_of(probe)}{' *' if is_best else ''}"
            cells = [_show_probed(probe, column, key) for column, key in PROBE_COLUMNS.items()]
            rows.append((f"{name}, {where}" if len(runs) > 1 else where, str(probe.get("num_samples")), *cells))
    notes = (
        "In brackets 95% intervals over the probe's questions. * the best, kept in the folder `best`. A probe is looked "
        "at while training goes on, so it is no held-out result: ask `p2r eval` other questions for that.",
    )
    return Table(title="Probes", columns=("after", "n", *PROBE_COLUMNS), rows=tuple(rows), notes=notes)


def tabulate_seconds(runs: Sequence[TrainingRun], names: Sequence[str]) -> Table:
    """Mean seconds of a step by part."""
    timings = [timing for run in runs for phase in run.phases for row in phase.steps if (timing := row.get("timing"))]
    keys = dict.fromkeys(key for timing in timings if isinstance(timing, dict) for key in timing)
    shown = [key for key in keys if "per_second" not in key and key not in ("mfu", "seconds")]
    inner = [key for key in shown if key.startswith("rollout_")]
    columns = ["rollout", *inner, *(key for key in shown if key != "rollout" and key not in inner), "seconds"]
    rows = [
        (
            f"{name}, {phase.name}" if len(runs) > 1 else phase.name,
            *(show_number(_mean(phase.steps, f"timing/{key}")) for key in columns),
        )
        for run, name in zip(runs, names, strict=True)
        for phase in run.phases
        if phase.steps
    ]
    return Table(
        title="Seconds of a step, by part",
        columns=("phase", *(f"- {key.removeprefix('rollout_')}" if key in inner else key for key in columns[:-1]), "all"),
        rows=tuple(rows),
        notes=("Means over the steps. Parts with a dash belong to the rollout; some of them overlap.",),
    )


def tabulate_recipes(runs: Sequence[TrainingRun], names: Sequence[str]) -> Table:
    """Every setting, defaults included; a setting that differs is in the first lines."""
    recipes = [dict(_flatten(run.recipe.model_dump(mode="json"))) for run in runs]
    keys = list(dict.fromkeys(key for recipe in recipes for key in recipe))
    lines = [(key, *(recipe.get(key, MISSING) for recipe in recipes)) for key in keys]
    lines.sort(key=lambda line: len(set(line[1:])) == 1)
    return Table(title="Recipe", columns=("setting", *names), rows=tuple(lines))


def _flatten(value: JsonValue, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, each in value.items() for pair in _flatten(each, f"{name}.{key}" if name else key)]
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return [pair for place, each in enumerate(value) for pair in _flatten(each, f"{name}.{place}")]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)))]
    return [(name, "not set" if value is None else str(value))]


def _list_filters(cards: Sequence[GroupCard]) -> list[dict[str, str | int]]:
    """Buttons, with how many cards of the first run fall under them; those that never apply are left out."""
    used = {flag.partition(":")[2] for card in cards for flag in card.flags}
    return [
        {"key": key, "name": name, "count": sum(f"0:{key}" in card.flags for card in cards)}
        for key, name in FILTERS.items()
        if key in used
    ]


def _count(phase: PhaseRecord) -> str:
    done = len(phase.steps)
    return str(done) if phase.num_planned is None or done == phase.num_planned else f"{done} of {phase.num_planned}"


def _show_probed(probe: Row, column: str, key: str) -> str:
    show = show_number if column in AS_NUMBERS else show_share
    value, interval = value_of(probe, key), _interval_of(probe, key)
    if value is None or interval is None:
        return show(value)
    low, high = (show(end).removesuffix("%") for end in interval)
    return f"{show(value)} ({low} - {high})"


def _interval_of(row: Row, key: str) -> tuple[float, float] | None:
    intervals = row.get("intervals")
    pair = intervals.get(key) if isinstance(intervals, dict) else None
    return (float(pair[0]), float(pair[1])) if isinstance(pair, list) and len(pair) == 2 else None


def _change(first: Sequence[Row], last: Sequence[Row], key: str, show: Callable[[float | None], str]) -> str:
    before, after = _mean(first, key), _mean(last, key)
    return MISSING if before is None or after is None else f"{show(before)} → {show(after)}"


def _mean(rows: Sequence[Row], key: str) -> float | None:
    return mean_of([value for row in rows if (value := value_of(row, key)) is not None])


def _sum(rows: Sequence[Row], key: str) -> str:
    return f"{sum(value_of(row, key) or 0 for row in rows):,.0f}"
