"""What a run begins with, looked for before anything takes long: its rows, then its models. No torch here."""

from __future__ import annotations

from pathlib import Path

from p2r.benchmarks.load import locate_rows
from p2r.config import DataSettings, Recipe
from p2r.errors import DataError, ModelError
from p2r.models.checkpoint import Checkpoint, check_full_weights
from p2r.models.load import find_checkpoint
from p2r.models.profiles import FAMILIES, FamilyName

UNTRAINED: frozenset[FamilyName] = frozenset({"qwen3_5"})
"""Families that are asked and not trained."""


def check_sources(recipe: Recipe) -> None:
    """Make sure that the rows and the models of all phases are there. What is on the hub is fetched.

    Raises:
        DataError: there are no rows.
        ModelError: there is no such model, or it is not usable, or is of a family that cannot be trained.
    """
    phases = recipe.phases()
    for data in {phase.data.source: phase.data for phase in phases}.values():
        _check_rows(data)
    if recipe.probe.source is not None:
        _check_rows(DataSettings(source=recipe.probe.source))
    for base in dict.fromkeys(phase.base for phase in phases):
        check_trainable(find_checkpoint(base))


def check_trainable(checkpoint: Checkpoint) -> None:
    """Make sure that the responses to a prompt can share its work: a layer of linear attention has one state in place
    of a key and a value for each token. Nor can quantized weights be trained. Raises ModelError."""
    check_full_weights(checkpoint)
    if checkpoint.family in UNTRAINED:
        raise ModelError(
            f"{checkpoint.folder} is of the family {checkpoint.family}, whose layers of linear attention are not "
            "supported in training",
            hint=f"train a model of the family {' or '.join(each for each in FAMILIES if each not in UNTRAINED)}",
        )


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
