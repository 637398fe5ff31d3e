"""Rows that the phases of a recipe train on, counted as training counts them; no model is loaded, none downloaded.

Where the model is not on this machine, prompts cannot be measured, so rows that are too long for it are counted too.
Images are not decoded: a row whose image is damaged behind its header is counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from p2r.benchmarks.training_rows import load_source
from p2r.config import DataSettings, Phase, Recipe
from p2r.errors import P2RError, count_nouns
from p2r.models.load import find_here


@dataclass(slots=True)
class RowCounter:
    """Counts the rows of recipes, each set of rows once.

    assumed: the number of rows where they are not on this machine; None where nobody says one.
    notes: what was left out or assumed, a sentence each.
    """

    assumed: int | None = None
    notes: dict[str, None] = field(default_factory=dict[str, None])
    _known: dict[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])

    def count(self, recipe: Recipe) -> dict[int, int] | None:
        """The number of rows of each phase, by its index; None where they cannot be counted."""
        key = json.dumps([recipe.model.model_dump(mode="json"), _share(recipe)])
        if key not in self._known:
            try:
                self._known[key] = _count_rows(recipe, self.notes)
            except P2RError as error:
                if self.assumed is None:
                    self.notes[f"Steps are unknown where rows cannot be counted: {error.message}."] = None
                    self._known[key] = {}
                else:
                    rows = count_nouns(self.assumed, "row")
                    self.notes[f"{rows} are assumed where they cannot be counted: {error.message}."] = None
                    self._known[key] = {_name_rows(phase): self.assumed for phase in recipe.phases()}
        found = self._known[key]
        return {phase.index: found[_name_rows(phase)] for phase in recipe.phases()} if found else None


def _share(recipe: Recipe) -> dict[str, list[str]]:
    """The roles and rewards that have to do with each set of rows, in any order of the phases."""
    using: dict[str, set[str]] = {}
    for phase in recipe.phases():
        using.setdefault(_name_rows(phase), set()).update((*phase.roles, phase.reward.model_dump_json()))
    return {name: sorted(parts) for name, parts in sorted(using.items())}


def _name_rows(phase: Phase) -> str:
    """Return what phases that share rows have in common; see `p2r.training.rows.choose.load_rows`."""
    sft = phase.sft.model_dump_json() + phase.role if phase.kind == "sft" else ""
    return "\n".join((phase.base, phase.rollout.prompts, phase.data.model_dump_json(exclude={"difficulty"}), sft))


def _count_rows(recipe: Recipe, notes: dict[str, None]) -> dict[str, int]:
    phases = recipe.phases()
    bases = dict.fromkeys(phase.base for phase in phases)
    if find_spec("torch") is None or find_spec("transformers") is None:
        missing = "torch and transformers, which measure prompts, are"
    else:
        away = [base for base in bases if find_here(base) is None]
        missing = f"{away[0]} is" if away else ""
    if missing:
        found = {_name_rows(phase): _count_unmeasured(phase.data) for phase in phases}
        notes[f"Rows whose prompts are too long are counted too, because {missing} not on this machine."] = None
        return found
    from p2r.training.rows.choose import load_rows
    from p2r.training.sft.check import load_all_demonstrations

    rows = load_rows(recipe.model_copy(update={"data": recipe.data.model_copy(update={"check_images": "header"})}))
    demonstrations = load_all_demonstrations(recipe)
    return {
        _name_rows(phase): len(demonstrations[phase.index].rows if phase.kind == "sft" else rows[phase.index].rows)
        for phase in phases
    }


def _count_unmeasured(data: DataSettings) -> int:
    num = len(load_source(data))
    return num if data.num_rows is None else min(num, data.num_rows)
