"""What a loader receives and returns, and what a writer is: the interface between the registries and the benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from p2r.benchmarks.base import Facts, Sieve
from p2r.types import Sample


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a benchmark, and which of its samples to load.

    path: a file, or the folder that holds it.
    split: the part to load, where there are several.
    seed: seed for the order of options where the data has none of its own (V*).
    boxes: for V*, the folder of the original release, which has the boxes; for your own data, a COCO or Label Studio
        file.
    images: the folder that image paths start from; None for the folder of the file.
    only_asked: right answers and boxes are not needed, and no image is opened.
    shown: the name of the file in messages, if not its own.
    """

    path: Path
    sieve: Sieve
    split: str | None = None
    seed: int = 0
    boxes: Path | None = None
    images: Path | None = None
    only_asked: bool = False
    shown: Path | None = None

    @property
    def image_root(self) -> Path:
        """The folder that image paths start from."""
        return self.images or (self.path if self.path.is_dir() else self.path.parent)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Samples, with remarks about them. `differences` leaves out the counts, which the registry compares."""

    samples: Sequence[Sample]
    facts: Facts
    differences: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


Part = Literal["gold boxes", "category", "answer form", "rotations", "key words"]
"""The parts of a sample that not every layout has a place for."""


class WriteSamples(Protocol):
    """Writes samples to a file or folder and returns their number."""

    def __call__(
        self, samples: Iterable[Sample], path: Path, /, *, inside: bool | None = None, key_words: bool = False
    ) -> int:
        """Write samples. Tables need to know their columns first.

        Args:
            inside: put images into the file or beside it; None is the layout's own way.
            key_words: some sample has key words.
        """
        ...


@dataclass(frozen=True, slots=True)
class Writer:
    """A layout that samples can be written in.

    title: what is written, for messages, such as "ms-swift rows (messages, solution)".
    keeps: the parts that it has a place for, beyond image, question, options and target.
    places_images: `inside` may be chosen.
    only_choices: other samples cannot be written.
    """

    title: str
    write: WriteSamples
    keeps: frozenset[Part] = frozenset()
    places_images: bool = False
    only_choices: bool = False
