"""Pre-rollouts of a phase's own role, which find rows whose rewards are all alike and so teach nothing.

Not in the paper; off unless the recipe has [data.difficulty]. The perceiver's difficulty is the variance of its reward
over box sets, the reasoner's over answers, so each phase measures its own. Rows that are kept because they are easy or
medium are found by right answers alone, and phases that ask the same share what was found: PeBR-R1's way.

Rows are measured a chunk at a time, and each chunk is written when it is done. After a kill
only the chunk under way is measured again. Chunks share nothing, so a resumed run finds what an undisturbed one would.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2r.config import DifficultySettings
from p2r.errors import DataError, count_nouns
from p2r.files import Log, explain_write_errors, write_lines
from p2r.runs.difficulty import CHUNK, DIFFICULTY_FILE, RowDifficulty, count_kinds, describe_kinds
from p2r.runs.store import check_settings
from p2r.runs.training_log import read_rows
from p2r.statistics import mean_of
from p2r.training.groups import Group, Rollout
from p2r.training.rollout import Roller
from p2r.training.rows.order import RowOrder
from p2r.types import Frozen, Sample

UNASKED = "its image, its evidence, or its prompt failed"
UNKNOWN = "no answer was judged"


class PreRolloutSettings(Frozen):
    """run.json of a folder of pre-rollouts: everything that can change what they find.

    weights: a hash of the policy's. recipe: a hash of the settings that they depend on.
    """

    weights: str
    num_rows: int
    num_rollouts: int
    seed: int
    recipe: str


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
    settings: Frozen,
    *,
    on_progress: Callable[[int, int], object],
) -> list[RowDifficulty]:
    """Roll out every row, except those that an earlier call has written; returns a measurement of each, in order.

    Args:
        roller: with the group size and the purpose of pre-rollouts, and a memo that nobody else uses.
        folder: keeps the measurements.
        settings: everything that the result depends on.
        on_progress: is told how many rows are done, and how many there are: first, and after each chunk.

    Raises:
        StorageError: the folder holds measurements of something else or a broken line, or cannot be written.
    """
    path = folder / DIFFICULTY_FILE
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_settings(folder, settings)
    found = _read_whole_chunks(path, len(rows))
    on_progress(len(found), len(rows))
    with Log(path) as log:
        for start in range(len(found), len(rows), CHUNK):
            measured = await _measure(roller, rows[start : start + CHUNK])
            for row in measured:
                log.write(row)
            log.sync()
            found += measured
            on_progress(len(found), len(rows))
    return found


async def _measure(roller: Roller, rows: Sequence[Sample]) -> list[RowDifficulty]:
    roller.memo.clear()
    rolled = await roller.roll_out(rows, step=0)
    groups = {group.sample.id: group for group in rolled.groups if group.parent is None}
    return [describe_rewards(row.id, groups.get(row.id)) for row in rows]


def describe_rewards(row: str, group: Group | None) -> RowDifficulty:
    """Mean and variance of a row's rewards, and its right answers.

    Args:
        group: None when its image, evidence or prompt failed.
    """
    rollouts = group.rollouts if group is not None else ()
    judged = [rollout.reward for rollout in rollouts if rollout.reward is not None]
    variance = statistics.pvariance(judged) if len(judged) > 1 else None  # exact: 0 when all are alike
    return RowDifficulty(
        id=row,
        num_judged=len(judged),
        mean=mean_of(judged),
        variance=variance,
        num_rollouts=len(rollouts),
        num_right=sum(rollout.is_correct is True for rollout in rollouts),
        num_wrong=sum(rollout.is_correct is False for rollout in rollouts),
        failure=UNASKED if group is None else _find_cause(rollouts),
    )


def _find_cause(rollouts: Sequence[Rollout]) -> str:
    """Return why most of the rollouts without a verdict failed; "" without any."""
    causes = Counter(rollout.failure or UNKNOWN for rollout in rollouts if rollout.is_correct is None)
    return causes.most_common(1)[0][0] if causes else ""


def choose_rows(
    rows: Sequence[Sample], difficulty: Mapping[str, RowDifficulty], rule: DifficultySettings, seed: int
) -> ChosenRows:
    """The rows that can teach something, or are of the kind that is kept, and their order.

    Args:
        difficulty: of each row, by its id.

    Raises:
        DataError: there is none.
    """
    if rule.keep is not None:
        kept = [row for row in rows if difficulty[row.id].kind == rule.keep]
        if not kept:
            raise _explain_none_kept([difficulty[row.id] for row in rows], rule)
        return ChosenRows(kept, RowOrder(len(kept), seed), len(rows) - len(kept))
    alive = [row for row in rows if difficulty[row.id].is_alive]
    if not alive:
        raise DataError(
            f"each of {count_nouns(len(rows), 'row')} has rewards that are all alike in "
            f"{count_nouns(rule.num_rollouts, 'rollout')}",
            hint="raise data.difficulty.num_rollouts, or train on other rows",
        )
    weights = None
    if rule.rule == "weight":
        variances = [difficulty[row.id].variance for row in alive]
        largest = max((variance for variance in variances if variance is not None), default=1.0)
        weights = tuple(largest if variance is None else variance for variance in variances)
    return ChosenRows(alive, RowOrder(len(alive), seed, weights), len(rows) - len(alive))


def _explain_none_kept(found: Sequence[RowDifficulty], rule: DifficultySettings) -> DataError:
    counts = count_kinds(found)
    other = "medium" if rule.keep == "easy" else "easy"
    advice = f'keep "{other}" ones with data.difficulty.keep, or ' if counts[other] else ""
    return DataError(
        f"none of {count_nouns(len(found), 'row')} is {rule.keep} in {count_nouns(rule.num_rollouts, 'rollout')}: "
        f"{describe_kinds(counts)}",
        hint=f"in a new run, {advice}give other rows, or another model to start from; with model.source = RUN/PHASE "
        "it starts from a finished phase",
    )


def _read_whole_chunks(path: Path, num_rows: int) -> list[RowDifficulty]:
    """Read what was measured so far. A kill may have left a part of a chunk, which is removed."""
    found = read_rows(path, RowDifficulty)
    num_whole = len(found) if len(found) == num_rows else len(found) // CHUNK * CHUNK
    if num_whole < len(found):
        write_lines(path, found[:num_whole])
    return found[:num_whole]
