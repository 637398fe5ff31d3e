"""The folders that `p2r report` is given: what each holds, how it is called, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from p2r.cli.screen import make_console
from p2r.errors import ConfigError, P2RError
from p2r.report.evaluation.sections import find_run_folders, list_run_folders
from p2r.runs.asked import find_asked_folders
from p2r.runs.training import find_training_folders

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Found:
    """Folders by the command that wrote them."""

    evaluated: list[Path]
    trained: list[Path]
    asked: list[Path]


@dataclass(slots=True)
class Unreadable:
    """Folders that cannot be read: they are named, and do not stop the others."""

    errors: list[P2RError] = field(default_factory=list[P2RError])
    folders: list[Path] = field(default_factory=list[Path])

    def read_each(self, folders: Sequence[Path], read: Callable[[Path], Read]) -> list[Read]:
        """Read what can be read."""
        found: list[Read] = []
        for folder in folders:
            try:
                found.append(read(folder))
            except P2RError as error:
                self.errors.append(error)
                self.folders.append(folder)
        return found

    def describe(self) -> tuple[str, ...]:
        """Print a sentence for each folder, and return them all."""
        sentences = tuple(
            f"left out {folder}: {error.message}" for folder, error in zip(self.folders, self.errors, strict=True)
        )
        for sentence in sentences:
            make_console(stderr=True).print(sentence, markup=False, soft_wrap=True)
        return sentences


def split_names(runs: Sequence[str]) -> dict[Path, str]:
    """The places of runs with the names of their systems, given as RUN or NAME=RUN; "" for a place without a name.

    Raises:
        ConfigError: a name is empty, its place does not exist, or a place has two names.
    """
    places: dict[Path, str] = {}
    for text in runs:
        name, place = _split_name(text)
        known = places.get(place, "")
        if name and known and name != known:
            raise ConfigError(f"{place} is called both {known!r} and {name!r}", hint="name each run once")
        places[place] = name or known
    return places


def _split_name(text: str) -> tuple[str, Path]:
    """Return a name, "" for none, and a place, both of which may hold an equals sign."""
    if "=" not in text or Path(text).exists():
        return "", Path(text)
    parts = text.split("=")
    ways = [("=".join(parts[:k]).strip(), "=".join(parts[k:])) for k in range(1, len(parts))]
    name, place = next((way for way in ways if way[1] and Path(way[1]).exists()), ways[0])
    if not name or not place:
        raise ConfigError(f"{text!r} is neither a folder nor a name with one", hint="give RUN, or NAME=RUN")
    if not Path(place).exists():
        raise ConfigError(
            f"there is no folder {text!r}, and none {place!r} to be called {name!r}", hint="give RUN, or NAME=RUN"
        )
    return name, Path(place)


def name_folders(places: Mapping[Path, str], found: Found) -> dict[Path, str]:
    """The names of systems by the folders of their runs; of two names for a run, that of the nearer folder.

    Raises:
        ConfigError: a name stands before a place without an evaluation.
    """
    given: dict[Path, str] = {}
    evaluated = {folder.resolve(): folder for folder in found.evaluated}
    for place, name in sorted(places.items(), key=lambda each: len(each[0].resolve().parts)):
        folders = list_run_folders(place) if name else []
        if name and not folders:
            raise ConfigError(
                f"{name!r} names {place}, which holds no evaluation", hint="name runs that `p2r eval` wrote"
            )
        given |= {evaluated[folder.resolve()]: name for folder in folders if folder.resolve() in evaluated}
    return given


def find_runs(places: Sequence[Path]) -> Found:
    """Folders by the command that wrote them.

    Raises:
        StorageError: a place holds no run.
    """
    training = {place: find_training_folders(place) for place in places}
    asked = {place: find_asked_folders(place) for place in places}
    others = [place for place in places if list_run_folders(place) or not (training[place] or asked[place])]
    return Found(find_run_folders(others), _join(training.values()), _join(asked.values()))


def _join(folders: Iterable[Sequence[Path]]) -> list[Path]:
    return list(dict.fromkeys(folder for found in folders for folder in found))
