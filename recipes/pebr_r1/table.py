"""What each phase moved, on held-out rows: key words named, sections written, answers right.

    python -m recipes.pebr_r1.table --rows runs/pebr-rows runs/pebr

Every checkpoint of the runs replies greedily to `held_out.jsonl`: in sections, to the whole image; and "own boxes" as
PRA-GRPO does, before and after its phases. What was asked before is kept in RUN/held-out. A state is the list of the
phases that led to it, those of the run included whose checkpoint another began with. Runs with other seeds that came
the same way are one state.

Each share has its 95% interval over the rows. Seeds answer the same rows, so a row counts once, however many seeds
there are: the interval says how far other rows could move the share, and the values of the seeds how far other seeds
do. Changes are paired by row and seed; a state that all seeds share counts for each.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2r import load_model
from p2r.benchmarks import Benchmark, load_benchmark
from p2r.cli.guard import run_script
from p2r.cli.screen import print_tables
from p2r.config import Phase
from p2r.errors import ConfigError, DataError, StorageError
from p2r.evaluation.evaluate import evaluate
from p2r.evaluation.scoring import ScoredRun
from p2r.evaluation.tables import Table
from p2r.runs.training import TrainingRun, find_training_folders, read_training_run
from p2r.statistics import bootstrap_mean, bound_mean
from p2r.training.rewards.built_in import answer_terms
from p2r.types import Sample

BATCH = 64
OWN_BOXES = "own boxes"
MEASURES = ("key words", "sections", "right")
CHANCE: Mapping[str, float] = {"attribute": 1 / 6, "relation": 1 / 2, "pair": 1 / 36}
"""The chance of guessing right in each family of Needles without options."""

State = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one checkpoint replied. values: for each measure, one value from 0 to 1 a row, by the row's id.

    boxes: whether it looked where its own boxes are, and not at the whole image alone.
    """

    seed: int
    boxes: bool
    values: Mapping[str, Mapping[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, or above them")
    parser.add_argument("--rows", type=Path, required=True, help="the folder that captions.py wrote")
    arguments = parser.parse_args()
    runs = read_runs(arguments.runs)
    held_out = load_benchmark(str(arguments.rows / "held_out.jsonl"))
    states = measure_runs(runs, held_out)
    tables = [tabulate_states(states, held_out), tabulate_changes(states), tabulate_families(states, held_out)]
    print_tables([table for table in tables if table.rows], markdown=True)


def read_runs(places: Sequence[Path]) -> list[TrainingRun]:
    """Read the training runs at or below the folders. Raises StorageError for a folder without one."""
    runs: list[TrainingRun] = []
    for place in places:
        folders = find_training_folders(place)
        if not folders:
            raise StorageError(f"{place} holds no training run", hint="give the folder that orders.py wrote")
        runs += map(read_training_run, folders)
    return runs


def measure_runs(runs: Sequence[TrainingRun], held_out: Benchmark) -> dict[State, list[Measured]]:
    """Have every checkpoint of the runs reply; states with fewer phases first, those with boxes last."""
    found: dict[State, list[Measured]] = defaultdict(list)
    for run in runs:
        phases = {phase.name: phase for phase in run.recipe.phases()}
        for record in run.phases:
            if record.checkpoint is None:
                raise ConfigError(f"{run.folder} has not finished the phase {record.name}", hint="resume it first")
            phase, state = phases[record.name], find_state(run, record.name)
            seed, place = run.recipe.seed, run.folder / "held-out" / record.name
            if phase.kind in ("sft", "answerer"):
                found[state].append(_ask(record.checkpoint, held_out, seed, place, phase.rollout.prompts))
            if phase.kind != "answerer":
                found[(*state, OWN_BOXES)].append(_ask(record.checkpoint, held_out, seed, place, None))
    return dict(sorted(found.items(), key=lambda item: (OWN_BOXES in item[0], len(item[0]))))


def find_state(run: TrainingRun, name: str) -> State:
    """The phases that led to a phase's checkpoint, from the model that was not trained here."""
    path: State = ()
    for phase in run.recipe.phases():
        if phase.source is not None:
            before = Path(phase.source)
            known = (before.parent / "recipe.json").is_file()
            path = find_state(read_training_run(before.parent), before.name) if known else ()
        path = (*path, describe_phase(phase))
        if phase.name == name:
            break
    return path


def describe_phase(phase: Phase) -> str:
    """Warm-up, perception (rewarded for key words), reasoning, or a phase of PRA-GRPO by its role."""
    if phase.kind != "answerer":
        return "warm-up" if phase.kind == "sft" else phase.kind
    return "perception" if phase.reward.counts("keywords") else "reasoning"


def _ask(checkpoint: Path, held_out: Benchmark, seed: int, place: Path, prompts: str | None) -> Measured:
    """Have a checkpoint reply in sections to the whole image, or without `prompts` as PRA-GRPO asks."""
    model = load_model(str(checkpoint), batch_size=BATCH)
    mode, wording = ("p2r", "release") if prompts is None else ("thinking", prompts)
    run = evaluate(held_out, model, mode=mode, prompts=wording, out=place, num_at_once=BATCH)
    return Measured(seed, prompts is None, measure_replies(run, held_out))


def measure_replies(run: ScoredRun, samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """The measures of each reply. Raises DataError for one that is missing, or that could not be judged."""
    rows = {row.trace.sample_id: row for row in run.rows}
    values: dict[str, dict[str, float]] = {name: {} for name in MEASURES}
    for sample in samples:
        row = rows.get(sample.id)
        if row is None or row.trace.reasoning is None or "robust" not in row.verdicts:
            raise DataError(f"the row {sample.id!r} has no reply that was judged in {run.folder}", hint="ask it again")
        terms = answer_terms(row.trace.reasoning.text, sample, 1)
        shares = (terms["keywords"], terms["sections"], row.score("robust"))
        for name, share in zip(MEASURES, shares, strict=True):
            values[name][sample.id] = share
    return values


def tabulate_states(states: Mapping[State, Sequence[Measured]], samples: Sequence[Sample]) -> Table:
    """A row per state: each share over all seeds with its interval, and that of each seed."""
    rows: list[tuple[str, ...]] = []
    for state, found in states.items():
        cells: list[str] = []
        for name in MEASURES:
            if found[0].boxes and name != "right":
                cells.append("")
                continue
            values, ids = _flatten(found, name)
            interval = bound_mean(values, ids)
            seeds = ", ".join(_show(_mean(list(each.values[name].values()))) for each in found)
            cells.append(f"{_show(_mean(values))} [{_show(interval.low)}, {_show(interval.high)}] ({seeds})")
        rows.append((" > ".join(state), ", ".join(str(each.seed) for each in found), *cells))
    chance = _mean([CHANCE[sample.category] for sample in samples])
    return Table(
        title=f"After each phase, on {len(samples)} held-out rows",
        columns=("state", "seeds", *MEASURES),
        rows=tuple(rows),
        notes=(f"Percent. Guessing is right in {_show(chance)}%.",),
    )


def tabulate_families(states: Mapping[State, Sequence[Measured]], samples: Sequence[Sample]) -> Table:
    """A row per state that describes the image: the share of key words named, by family of question, over all seeds."""
    families = sorted({sample.category for sample in samples})
    rows: list[tuple[str, ...]] = []
    for state, found in states.items():
        if not found[0].boxes:
            of_family = ([sample.id for sample in samples if sample.category == family] for family in families)
            shares = (_mean([each.values["key words"][id] for each in found for id in ids]) for ids in of_family)
            rows.append((" > ".join(state), *map(_show, shares)))
    return Table(title="Key words by family of question", columns=("state", *families), rows=tuple(rows))


def tabulate_changes(states: Mapping[State, Sequence[Measured]]) -> Table:
    """A row per state that another led to: the change, paired by row and seed, in points."""
    rows: list[tuple[str, ...]] = []
    for state, found in states.items():
        boxes = found[0].boxes
        before = states.get((*state[:-2], OWN_BOXES) if boxes else state[:-1], ())
        by_seed = {each.seed: each for each in before}
        shared = before[0] if len(before) == 1 else None
        pairs = [(known, each) for each in found if (known := by_seed.get(each.seed, shared)) is not None]
        if pairs:
            cells = ("" if boxes and name != "right" else show_change(pairs, name) for name in MEASURES)
            rows.append((" > ".join(state), *cells))
    return Table(title="Changes by the last phase, in points", columns=("state", *MEASURES), rows=tuple(rows))


def show_change(pairs: Sequence[tuple[Measured, Measured]], name: str) -> str:
    """The mean change with its interval over rows."""
    changes: dict[str, list[float]] = defaultdict(list)
    for before, after in pairs:
        for id, value in after.values[name].items():
            changes[id].append(value - before.values[name][id])
    halved = [(_mean(each) + 1) / 2 for each in changes.values()]  # from 0 to 1, as an interval of means is made for
    interval = bootstrap_mean(halved)
    low, mean, high = (f"{(value * 2 - 1) * 100:+.1f}" for value in (interval.low, _mean(halved), interval.high))
    return f"{mean} [{low}, {high}]"


def _flatten(found: Sequence[Measured], name: str) -> tuple[list[float], list[str]]:
    """The values of all seeds, and the rows that they belong to."""
    pairs = [(value, id) for each in found for id, value in each.values[name].items()]
    return [value for value, _ in pairs], [id for _, id in pairs]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _show(share: float) -> str:
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    run_script(main)
