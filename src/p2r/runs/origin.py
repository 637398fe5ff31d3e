"""origin.json: where a run's data lay, so that its images can be found again for people who look at the run.

This is not part of the settings: moving the data does not make another run. What the data say is in the settings
already, as the benchmark's fingerprint.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from p2r.benchmarks.base import Origin
from p2r.errors import StorageError
from p2r.files import explain_write_errors, replace_file

ORIGIN_FILE = "origin.json"


def write_origin(folder: Path, origin: Origin) -> None:
    """Write the origin in place of an earlier one: the data may have been moved.

    Raises:
        StorageError: it cannot be written.
    """
    with explain_write_errors(folder):
        replace_file(folder / ORIGIN_FILE, origin.model_dump_json(indent=2) + "\n")


def read_origin(folder: Path) -> Origin | None:
    """Read the origin; None for a run that was written without one.

    Raises:
        StorageError: the file does not say where the data lay.
    """
    path = folder / ORIGIN_FILE
    if not path.exists():
        return None
    try:
        return Origin.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise StorageError(
            f"{path} does not say where the data lay", hint="remove it, and name the data with `benchmark`"
        ) from error
