"""Systems: a model in a mode, with its run on each benchmark, under a name that tells it from the others.

Runs belong to one system where all settings that could change a reply are the same. A name that the caller gives holds
for every run that has it, in place of the model's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2r.evaluation.compare import name_runs
from p2r.evaluation.scoring import ScoredRun
from p2r.modes import BOX_MODES, CHATS
from p2r.runs.evaluation import RunSettings

GROUPS = (GENERAL, SEARCH, CHAT, OURS) = (
    "General models",
    "Visual search",
    "Thinking with images",
    "Perceive-to-Reason",
)
"""The groups of the paper's Table 1."""
_SAME = (
    *("mode", "model", "perceiver_model", "prompts", "profile", "perceiver_profile", "family", "frame", "max_pixels"),
    *("perceiver_new_tokens", "reasoner_new_tokens", "dtype", "engine_args"),
    *("samples", "shuffles", "temperature", "seed"),
)
_TELLING = ("mode", "model", "perceiver_model", *_SAME[3:], "limit")
_GENERAL_MODES = frozenset({"direct", "thinking", "blind", "paired-crop", "tools:zwz"})


@dataclass(slots=True)
class System:
    """A model in a mode. runs: by benchmark."""

    name: str
    runs: dict[str, ScoredRun] = field(default_factory=dict[str, ScoredRun])

    @property
    def settings(self) -> RunSettings:
        """The settings of its first run."""
        return next(iter(self.runs.values())).settings

    @property
    def differing(self) -> list[str]:
        """The settings that are not the same in all of its runs, which only a given name joins."""
        runs = [run.settings for run in self.runs.values()]
        return [each for each in _SAME if len({repr(getattr(settings, each)) for settings in runs}) > 1]

    @property
    def group(self) -> str:
        """The group of the paper's Table 1 that its mode belongs to."""
        mode = self.settings.mode
        if mode in _GENERAL_MODES:
            return GENERAL
        return SEARCH if mode == "zoom" or mode in BOX_MODES else CHAT if mode in CHATS else OURS


def find_systems(runs: Sequence[ScoredRun], given: Mapping[Path, str] | None = None) -> list[System]:
    """Sort runs into systems with different names, in the order of the runs.

    A second run on the same benchmark begins another system.

    Args:
        given: names by the folders of runs.
    """
    systems: list[tuple[tuple[str, ...], System]] = []
    for run in runs:
        name = (given or {}).get(run.folder or Path())
        key = (name, run.settings.mode) if name else tuple(repr(getattr(run.settings, each)) for each in _SAME)
        benchmark = run.settings.benchmark
        system = next((own for other, own in systems if other == key and benchmark not in own.runs), None)
        if system is None:
            system = System(name or _name_model(run.settings))
            systems.append((key, system))
        system.runs[benchmark] = run
    found = [system for _, system in systems]
    names = set((given or {}).values())
    for system in found:
        if system.name not in names:
            system.name += f", {system.settings.mode}"
    _tell_apart(found)
    return found


def needs_names(runs: Sequence[ScoredRun]) -> bool:
    """Tell whether runs should be called by their systems: of several models, or such that settings do not tell."""
    several = len({run.settings.model for run in runs}) > 1
    return several or (len(runs) > 1 and name_runs(runs) == [run.place for run in runs])


def _name_model(settings: RunSettings) -> str:
    """Name the models of a run by the last parts of their names."""
    models = [settings.model, *filter(None, [settings.perceiver_model])]
    short = [model.rpartition("#")[2].rstrip("/").rpartition("/")[2] or model for model in models]
    return " with ".join(short) or "no model"


def _tell_apart(systems: Sequence[System]) -> None:
    """Add to names that are the same the settings in which they differ, and if that is not enough, the folders."""
    for setting in _TELLING:
        for same in _list_same(systems):
            values = [getattr(system.settings, setting) for system in same]
            if any(value != values[0] for value in values):
                for system, value in zip(same, values, strict=True):
                    if value is not None:
                        named = "" if setting in ("mode", "model") else f"{setting.replace('_', ' ')} "
                        system.name += f", {named}{value}"
    for same in _list_same(systems):
        for number, system in enumerate(same, start=1):
            folder = next(iter(system.runs.values())).folder
            system.name += f", {folder or number}"


def _list_same(systems: Sequence[System]) -> list[list[System]]:
    counts = Counter(system.name for system in systems)
    return [[system for system in systems if system.name == name] for name, num in counts.items() if num > 1]
