"""The tables of a training report: phases, probes, where the seconds go, and the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue

from p2r.evaluation.tables import MISSING, Table, show_number, show_share
from p2r.runs.training import PhaseRecord, TrainingRun
from p2r.runs.training_log import Probe, Step, interval_of, value_of
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
PHASE_NOTES: Mapping[str, str] = {
    "loss": "Loss: nats for each token of the demonstrations, means over the first and the last tenth of the steps.",
    "learned": "Learned: so many of these tokens, each pass counted.",
    "reward": "Reward: means over the first and the last tenth of the steps.",
    "p2r": "p2r, direct and hit rate: the first and the last probe.",
    "not judged": "A rollout that could not be judged is masked: it is not part of its group.",
}
"""Notes on columns of the phases, which a page holds where it has the column."""
AS_NUMBERS = frozenset({"mean_iou", "mean_boxes"})
"""Metrics of a probe that are not shares."""


def list_training_tables(runs: Sequence[TrainingRun]) -> list[Table]:
    """Every table, to be written to files."""
    names = name_training_runs(runs)
    tables = (tabulate_phases, tabulate_probes, tabulate_seconds, tabulate_changes, tabulate_recipes)
    return [table for make in tables if (table := make(runs, names)).rows]


def name_training_runs(runs: Sequence[TrainingRun]) -> list[str]:
    """The folders' names, or their whole paths where two names are equal."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def tabulate_phases(runs: Sequence[TrainingRun], names: Sequence[str]) -> Table:
    """A row for each phase of each run. A column is left out when no phase has anything to show in it."""
    rows = [
        {"phase": f"{name}, {phase.name}" if len(runs) > 1 else phase.name, **_describe_phase(phase)}
        for run, name in zip(runs, names, strict=True)
        for phase in run.phases
    ]
    columns = [name for name in (rows[0] if rows else ()) if any(row[name] != MISSING for row in rows)]
    return Table(
        title="Phases",
        columns=tuple(columns),
        rows=tuple(tuple(row[name] for name in columns) for row in rows),
        notes=(" ".join(note for name, note in PHASE_NOTES.items() if name in columns),),
    )


def _describe_phase(phase: PhaseRecord) -> dict[str, str]:
    """The cells of a phase, by column. A supervised phase has a loss, one with rollouts has a reward."""
    steps, probes, tenth = phase.steps, phase.probes, max(1, len(phase.steps) // 10)
    supervised, rewarded = (steps, ()) if phase.is_supervised else ((), steps)
    return {
        "steps": show_count(phase),
        "rate": f"{phase.lr:g}",
        "loss": _change(supervised[:tenth], supervised[-tenth:], "loss", show_number),
        "reward": _change(rewarded[:tenth], rewarded[-tenth:], "reward", show_number),
        "p2r": _change(probes[:1], probes[-1:], "accuracy_p2r", show_share),
        "direct": _change(probes[:1], probes[-1:], "accuracy_direct", show_share),
        "hit rate": _change(probes[:1], probes[-1:], "hit_rate", show_share),
        "rollouts": _sum(rewarded, "num_rollouts"),
        "tokens": _sum(rewarded, "num_generated_tokens"),
        "learned": _sum(supervised, "num_learned_tokens"),
        "not judged": _sum(rewarded, "num_unjudged"),
        "s per step": show_number(mean_of(value_of(step, "timing/seconds") for step in steps), 1),
    }


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


def tabulate_changes(runs: Sequence[TrainingRun], names: Sequence[str]) -> Table:
    """A row for each setting that was another before a run was resumed. The recipe is that of the last call."""
    rows: list[tuple[str, ...]] = []
    for run, name in zip(runs, names, strict=True):
        for change in run.changes:
            was, now = (dict(_flatten(dict(each))) for each in (change.was, change.now))
            after = f"step {change.step} of {change.phase}"
            for key in dict.fromkeys([*was, *now]):
                before, later = was.get(key, "not set"), now.get(key, "not set")
                if before != later:
                    rows.append((f"{name}, {after}" if len(runs) > 1 else after, key, before, later))
    return Table(title="Changed on the way", columns=("after", "setting", "before", "since then"), rows=tuple(rows))


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
    return f"{sum(value_of(row, key) or 0 for row in rows):,.0f}" if rows else MISSING
