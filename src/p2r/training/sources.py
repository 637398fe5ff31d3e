"""What a run begins with, looked for before anything takes long: its rows, then its models. No torch here."""

from __future__ import annotations

from pathlib import Path

from p2r.benchmarks.load import locate_rows
from p2r.config import DataSettings, Recipe
from p2r.errors import DataError
from p2r.models.load import find_checkpoint


def check_sources(recipe: Recipe) -> None:
    """Make sure that the rows and the models of all phases are there. What is on the hub is fetched.

    Raises:
        DataError: there are no rows.
        ModelError: there is no such model, or it is not usable.
    """
    phases = recipe.phases()
    for data in {phase.data.source: phase.data for phase in phases}.values():
        _check_rows(data)
    if recipe.probe.source is not None:
        _check_rows(DataSettings(source=recipe.probe.source))
    for base in dict.fromkeys(phase.base for phase in phases):
        find_checkpoint(base)


def _check_rows(data: DataSettings) -> None:
    if data.is_generated:
        return
    try:
        path = locate_rows(data.source)
        if not path.exists():
            raise DataError(f"there is no file or folder {path}", hint="check the path and the working directory")
    except DataError as error:
        place = Path(data.source.partition(":")[2] or data.source).expanduser()
        if data.made_by is not None and not place.exists():
            error.hint = f"the recipe's rows are made by `{data.made_by}`; for others set data.source"
        raise
