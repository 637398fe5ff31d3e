"""Pre-rollouts of a phase's own role, which find rows that are always right or always wrong and so teach nothing.

Not in the paper; off unless the recipe has [data.difficulty]. The perceiver's difficulty is the variance of its reward
over box sets, the reasoner's over answers, so each phase measures its own. The measurement is kept in the phase's
folder and read back on resume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from p2r.config import DifficultySettings
from p2r.errors import DataError, StorageError, count_nouns
from p2r.files import explain_write_errors, replace_file
from p2r.statistics import mean_of
from p2r.training.rollout import Roller
from p2r.training.rows.order import RowOrder
from p2r.types import Frozen, Sample

DIFFICULTY_FILE = "difficulty.json"
CHUNK = 64
"""Rows between two calls of `on_progress`."""


class Difficulty(Frozen):
    """Mean reward of each row, by id; None where none of its rollouts could be judged.

    identity: names the rows, weights and rollouts it was measured with.
    """

    identity: str
    means: dict[str, float | None]

    def is_alive(self, row: str) -> bool:
        """Tell whether the row was neither always right nor always wrong, or could not be judged."""
        mean = self.means.get(row)
        return mean is None or 0.0 < mean < 1.0


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """The rows of a phase. `order` numbers them."""

    rows: Sequence[Sample]
    order: RowOrder
    num_left_out: int


async def measure_difficulty(
    roller: Roller,
    rows: Sequence[Sample],
    folder: Path,
    identity: str,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Difficulty:
    """Roll out every row once, or read an earlier measurement.

    Args:
        roller: with the group size and the purpose of pre-rollouts.
        folder: keeps the measurement.
        identity: names everything that the result depends on.

    Raises:
        StorageError: the folder holds a measurement of something else, or cannot be written.
    """
    path = folder / DIFFICULTY_FILE
    if path.exists():
        return _read(path, identity)
    means: dict[str, float | None] = {}
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        means.update((row.id, None) for row in chunk)
        rolled = await roller.roll_out(chunk, step=0)
        for group in rolled.groups:
            if group.parent is None:
                means[group.sample.id] = mean_of(rollout.reward for rollout in group.rollouts)
        if on_progress is not None:
            on_progress(start + len(chunk), len(rows))
    difficulty = Difficulty(identity=identity, means=means)
    with explain_write_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, difficulty.model_dump_json() + "\n")
    return difficulty


def choose_rows(rows: Sequence[Sample], difficulty: Difficulty, rule: DifficultySettings, seed: int) -> ChosenRows:
    """The rows that can teach something, and their order.

    Raises:
        DataError: no row can.
    """
    alive = [row for row in rows if difficulty.is_alive(row.id)]
    if not alive:
        raise DataError(
            f"each of {count_nouns(len(rows), 'row')} is always right or always wrong in "
            f"{count_nouns(rule.num_rollouts, 'rollout')}",
            hint="raise data.difficulty.num_rollouts, or train on other rows",
        )
    weights = None
    if rule.rule == "weight":
        unknown = 0.25  # the most a variance of rights and wrongs can be
        means = [difficulty.means.get(row.id) for row in alive]
        weights = tuple(unknown if mean is None else mean * (1 - mean) for mean in means)
    return ChosenRows(alive, RowOrder(len(alive), seed, weights), len(rows) - len(alive))


def _read(path: Path, identity: str) -> Difficulty:
    try:
        difficulty = Difficulty.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise StorageError(f"{path} cannot be read back", hint="remove it to measure again") from error
    if difficulty.identity != identity:
        raise StorageError(
            f"{path} was measured with {difficulty.identity}, not {identity}", hint="remove it, or choose another `out`"
        )
    return difficulty
