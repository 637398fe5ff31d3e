"""The tables of a training report: phases, probes, where the seconds go, and the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue

from p2r.evaluation.tables import MISSING, Table, show_number, show_share
from p2r.runs.training import PhaseRecord, Probe, Step, TrainingRun, interval_of, value_of
from p2r.statistics import mean_of

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
AS_NUMBERS = frozenset({"mean_iou", "mean_boxes"})
"""Metrics of a probe that are not shares."""


def list_training_tables(runs: Sequence[TrainingRun]) -> list[Table]:
    """Every table, to be written to files."""
    names = name_training_runs(runs)
    tables = (tabulate_phases, tabulate_probes, tabulate_seconds, tabulate_recipes)
    return [table for make in tables if (table := make(runs, names)).rows]


def name_training_runs(runs: Sequence[TrainingRun]) -> list[str]:
    """The folders' names, or their whole paths where two names are equal."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def tabulate_phases(runs: Sequence[TrainingRun], names: Sequence[str]) -> Table:
    """A row for each phase of each run."""
    rows: list[tuple[str, ...]] = []
    for run, name in zip(runs, names, strict=True):
        for phase in run.phases:
            tenth = max(1, len(phase.steps) // 10)
            rows.append(
                (
                    f"{name}, {phase.name}" if len(runs) > 1 else phase.name,
                    show_count(phase),
                    f"{phase.lr:g}",
                    _change(phase.steps[:tenth], phase.steps[-tenth:], "reward", show_number),
                    *(
                        _change(phase.probes[:1], phase.probes[-1:], key, show_share)
                        for key in ("accuracy_p2r", "accuracy_direct", "hit_rate")
                    ),
                    _sum(phase.steps, "num_rollouts"),
                    _sum(phase.steps, "num_generated_tokens"),
                    _sum(phase.steps, "num_unjudged"),
                    show_number(mean_of(value_of(step, "timing/seconds") for step in phase.steps), 1),
                )
            )
    return Table(
        title="Phases",
        columns=(
            "phase", "steps", "rate", "reward", "p2r", "direct", "hit rate", "rollouts", "tokens", "not judged",
            "s per step",
        ),
        rows=tuple(rows),
        notes=(
            "Reward: means over the first and the last tenth of the steps. p2r, direct and hit rate: the first and "
            "the last probe. A rollout that could not be judged is masked: it is not part of its group.",
        ),
    )  # fmt: skip


def tabulate_probes(runs: Sequence[TrainingRun], names: Sequence[str]) -> Table:
    """Every probe with its intervals; the one whose checkpoint is kept in `best` is marked."""
    rows: list[tuple[str, ...]] = []
    for run, name in zip(runs, names, strict=True):
        best = max((value_of(probe, "accuracy_p2r") or 0.0 for probe in run.probes), default=0.0)
        marked = False
        for probe in run.probes:
            is_best = not marked and value_of(probe, "accuracy_p2r") == best
            marked = marked or is_best
            where = f"{probe.phase} after {probe.step}{' *' if is_best else ''}"
            cells = [show_probed(probe, key) for key in PROBE_COLUMNS.values()]
            rows.append((f"{name}, {where}" if len(runs) > 1 else where, str(probe.num_samples), *cells))
    notes = (
        "Brackets hold 95% intervals over the probe's questions. * the best, whose checkpoint is kept in the folder "
        "`best`. A probe decides which checkpoint is kept, so it is not a held-out result: run `p2r eval` on other "
        "questions for that.",
    )
    return Table(title="Probes", columns=("after", "n", *PROBE_COLUMNS), rows=tuple(rows), notes=notes)


def tabulate_seconds(runs: Sequence[TrainingRun], names: Sequence[str]) -> Table:
    """Mean seconds of a step, by part."""
    keys = dict.fromkeys(key for run in runs for row in run.steps for key in row.timing)
    shown = [key for key in keys if "per_second" not in key and key not in ("mfu", "seconds")]
    inner = [key for key in shown if key.startswith("rollout_")]
    columns = ["rollout", *inner, *(key for key in shown if key != "rollout" and key not in inner), "seconds"]
    rows = [
        (
            f"{name}, {phase.name}" if len(runs) > 1 else phase.name,
            *(show_number(mean_of(value_of(step, f"timing/{key}") for step in phase.steps)) for key in columns),
        )
        for run, name in zip(runs, names, strict=True)
        for phase in run.phases
        if phase.steps
    ]
    return Table(
        title="Seconds per step, by part",
        columns=(
            "phase",
            *(f"- {key.removeprefix('rollout_')}" if key in inner else key for key in columns[:-1]),
            "all",
        ),
        rows=tuple(rows),
        notes=("Means over the steps. Parts with a dash are parts of the rollout; some of them overlap.",),
    )


def tabulate_recipes(runs: Sequence[TrainingRun], names: Sequence[str]) -> Table:
    """Every setting, defaults included; settings that differ between the runs come first."""
    recipes = [dict(_flatten(run.recipe.model_dump(mode="json"))) for run in runs]
    keys = list(dict.fromkeys(key for recipe in recipes for key in recipe))
    lines = [(key, *(recipe.get(key, MISSING) for recipe in recipes)) for key in keys]
    lines.sort(key=lambda line: len(set(line[1:])) == 1)
    return Table(title="Recipe", columns=("setting", *names), rows=tuple(lines))


def _flatten(value: JsonValue, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, each in value.items() for pair in _flatten(each, f"{name}.{key}" if name else key)]
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return [pair for index, each in enumerate(value) for pair in _flatten(each, f"{name}.{index}")]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)))]
    return [(name, "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value))]


def show_count(phase: PhaseRecord) -> str:
    """The steps that are done, e.g. "3 of 5"; only their number if all are, or if the end is not known."""
    done = len(phase.steps)
    return str(done) if phase.num_planned is None or done == phase.num_planned else f"{done} of {phase.num_planned}"


def show_probed(probe: Probe, key: str) -> str:
    """A metric of a probe, with its interval."""
    show = show_number if key in AS_NUMBERS else show_share
    value, interval = value_of(probe, key), interval_of(probe, key)
    if value is None or interval is None:
        return show(value)
    low, high = (show(end).removesuffix("%") for end in interval)
    return f"{show(value)} ({low} - {high})"


def _change(
    first: Sequence[Step | Probe], last: Sequence[Step | Probe], key: str, show: Callable[[float | None], str]
) -> str:
    """The change from the first rows' mean to the last rows'; a single value if they are the same rows."""
    before, after = (mean_of(value_of(row, key) for row in rows) for rows in (first, last))
    if before is None or after is None:
        return MISSING
    return show(after) if first == last else f"{show(before)} → {show(after)}"


def _sum(rows: Sequence[Step], key: str) -> str:
    return f"{sum(value_of(row, key) or 0 for row in rows):,.0f}"
