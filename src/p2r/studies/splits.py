"""Which questions are trained on, which are watched while training, and which are reported: no two may be the same.

What is chosen by a probe, such as a learning rate or a checkpoint, looks better on the probe's own questions than on
others. Needles never run out, so there a study that reports such questions is refused. A benchmark has only its own
questions, and the paper itself watches V*: there the page says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.benchmarks.needles import TRAINING_SEEDS
from p2r.config import is_needles
from p2r.errors import ConfigError
from p2r.evaluation.tables import MISSING, Table

if TYPE_CHECKING:
    from p2r.config import DataSettings, Recipe
    from p2r.studies.study import QuestionSet, Study


def check_splits(study: Study) -> None:
    """Raise ConfigError where questions of needles are reported that an arm's probe asks, or that an arm learns."""
    for name, asked in study.evaluations.items():
        if not is_needles(asked.benchmark):
            continue
        where = f"evaluations.{name}.seed is {asked.seed}"
        for arm, recipe in _list_recipes(study):
            if recipe.probe.source is not None and is_needles(recipe.probe.source) and recipe.probe.seed == asked.seed:
                raise ConfigError(
                    f"{where}, and the probe of arm {arm} asks the same questions, by which something may be chosen",
                    hint="report questions of another seed",
                )
        if asked.seed >= TRAINING_SEEDS:
            raise ConfigError(
                f"{where}: needles from {TRAINING_SEEDS} upward are for training", hint="give a smaller seed"
            )


def list_shared(study: Study) -> list[str]:
    """Sentences about benchmarks that are reported, and watched or learned from."""
    found: dict[str, None] = {}
    for name, asked in study.evaluations.items():
        for arm, recipe in _list_recipes(study):
            if recipe.probe.source == asked.benchmark and not is_needles(asked.benchmark):
                found.setdefault(f"The probe of arm {arm} asks questions of {name}, which is reported.")
            if any(data.source == asked.benchmark and not data.is_generated for data in _list_data(recipe)):
                found.setdefault(f"Arm {arm} is trained on {name}, which is reported.")
    return list(found)


def tabulate_splits(study: Study) -> Table:
    """A row for each set of questions: what it is for, and by which seed it is drawn."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for arm, recipe in _list_recipes(study):
        for data in _list_data(recipe):
            seed = str(TRAINING_SEEDS + data.seed) if data.is_generated else MISSING
            source = Path(data.source).name if Path(data.source).is_absolute() else data.source
            rows.setdefault(("learned from", source, seed, _show_rows(data)), []).append(arm)
        if (probe := recipe.probe).source is not None:
            seed = str(probe.seed) if is_needles(probe.source) else MISSING
            rows.setdefault(("watched by probes", probe.source, seed, f"{probe.num:,}"), []).append(arm)
    for name, asked in study.evaluations.items():
        seed = str(asked.seed) if is_needles(asked.benchmark) or asked.num is not None else MISSING
        rows.setdefault(("reported", asked.benchmark, seed, _show_count(asked)), []).append(name)
    trained = sorted({seed for arm in study.arms for seed in study.seeds_of(arm)})
    return Table(
        title="Which questions, by which seed",
        columns=("questions", "source", "seed", "n", "arms or evaluations"),
        rows=tuple((*key, ", ".join(dict.fromkeys(names))) for key, names in sorted(rows.items())),
        notes=tuple(
            filter(
                None,
                (
                    f"Arms are trained with the seeds {', '.join(map(str, trained))}." if trained else "",
                    study.chosen_on,
                    *list_shared(study),
                ),
            )
        ),
    )


def _list_recipes(study: Study) -> Iterator[tuple[str, Recipe]]:
    """The recipe of each arm that is trained; their questions are those of every seed."""
    for name, arm in study.arms.items():
        if arm.recipe is not None:
            yield name, study.recipe_of(name, study.seeds_of(name)[0], Path("out"), None)


def _list_data(recipe: Recipe) -> list[DataSettings]:
    found: list[DataSettings] = []
    for phase in recipe.phases():
        found += [phase.data] if phase.data not in found else []
    return found


def _show_rows(data: DataSettings) -> str:
    if data.num_rows is None:
        return "all"
    return f"{data.num_rows:,}" if data.is_generated else f"at most {data.num_rows:,}"


def _show_count(asked: QuestionSet) -> str:
    return "all" if asked.num is None else f"{asked.num:,}"
