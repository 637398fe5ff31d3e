"""Where a run's data lay, so that its images are found again: for people who look at a run, not for its figures.

Not among the settings: a folder that was moved makes no other run. What the data say is in the settings already, as
the benchmark's fingerprint.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from p2r.benchmarks import Benchmark, load_benchmark
from p2r.dialogue import Budget
from p2r.errors import StorageError
from p2r.files import explain_write_errors, replace_file
from p2r.types import Frozen

ORIGIN_FILE = "origin.json"


class Origin(Frozen):
    """The arguments of `load_benchmark`, and the pixel budget of the model that answered.

    Paths are absolute, so that they hold from any working directory.
    """

    spec: str
    split: str | None = None
    boxes: str | None = None
    images: str | None = None
    seed: int = 0
    num_samples: int = 0
    skip_bad: int = 0
    budget: Budget | None = None

    def load(self) -> Benchmark:
        """The benchmark again. Headers of images are not read: a broken one is said where it is shown.

        Raises:
            DataError: no longer there, or not the layout.
        """
        return load_benchmark(
            self.spec,
            split=self.split,
            boxes=self.boxes,
            images=self.images,
            seed=self.seed,
            num_samples=self.num_samples,
            skip_bad=self.skip_bad,
            check_images=False,
        )


def make_origin(
    spec: str,
    *,
    split: str | None = None,
    boxes: Path | None = None,
    images: Path | None = None,
    seed: int = 0,
    num_samples: int = 0,
    skip_bad: int = 0,
    budget: Budget | None = None,
) -> Origin:
    """Of what the command was given; paths are made absolute."""
    name, colon, place = spec.partition(":")
    if Path(spec).expanduser().exists():
        spec = str(Path(spec).expanduser().absolute())
    elif colon and Path(place).expanduser().exists():
        spec = f"{name}:{Path(place).expanduser().absolute()}"
    return Origin(
        spec=spec,
        split=split,
        boxes=str(boxes.expanduser().absolute()) if boxes else None,
        images=str(images.expanduser().absolute()) if images else None,
        seed=seed,
        num_samples=num_samples,
        skip_bad=skip_bad,
        budget=budget,
    )


def write_origin(folder: Path, origin: Origin) -> None:
    """Replaces an earlier one: the data may have been moved. Raises StorageError when it cannot be written."""
    with explain_write_errors(folder):
        replace_file(folder / ORIGIN_FILE, origin.model_dump_json(indent=2) + "\n")


def read_origin(folder: Path) -> Origin | None:
    """None for a run that was written without one.

    Raises:
        StorageError: it does not say where data lay.
    """
    path = folder / ORIGIN_FILE
    if not path.exists():
        return None
    try:
        return Origin.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise StorageError(
            f"{path} does not say where the data lay", hint="remove it, and name the data with --benchmark"
        ) from error
