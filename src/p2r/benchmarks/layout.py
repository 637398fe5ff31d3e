"""What a loader receives and returns: the interface between the registry and the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    """

    path: Path
    sieve: Sieve
    split: str | None = None
    seed: int = 0
    boxes: Path | None = None
    images: Path | None = None

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
