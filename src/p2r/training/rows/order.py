"""The order of rows: every pass shuffles them again, and a number finds any position in any pass.

The last rows of a pass that do not fill a step are left out until the next shuffle, as in the release. Dynamic sampling
draws more rows for the same step: those, and then the next shuffle without the rows that the step has asked. So a step
never asks a row twice.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class RowOrder:
    """An endless order of the numbers 0 to num_rows - 1.

    weights: how much more likely than others a row is to come early in a pass; equal when None.
    """

    num_rows: int
    seed: int
    weights: tuple[float, ...] | None = None

    def take(self, position: int, count: int, asked: Collection[int] = frozenset()) -> tuple[list[int], int]:
        """The next `count` rows (fewer only when there are fewer in all), and the position after them.

        Args:
            position: 0 at first, then the one that the last call returned.
            asked: rows that the step has taken before, which are passed over until the next shuffle.
        """
        count = min(count, self.num_rows - len(asked))
        if not asked and position % self.num_rows + count > self.num_rows:
            position += -position % self.num_rows
        rows: list[int] = []
        while len(rows) < count:
            number, place = divmod(position, self.num_rows)
            for row in _shuffle(self, number)[place:]:
                position += 1
                if row not in asked and row not in rows:
                    rows.append(row)
                if len(rows) == count:
                    break
        return rows, position

    def take_steps(self, count: int, num_steps: int) -> list[int]:
        """The rows of the first steps of `count` rows each."""
        taken, position = list[int](), 0
        for _ in range(num_steps):
            rows, position = self.take(position, count)
            taken += rows
        return taken


@lru_cache(maxsize=4)
def _shuffle(order: RowOrder, number: int) -> Sequence[int]:
    draw = random.Random(f"rows/{order.seed}/{number}")
    rows = list(range(order.num_rows))
    if order.weights is None:
        draw.shuffle(rows)
        return rows
    # Drawn without replacement, each time in proportion to the weights (Efraimidis and Spirakis 2006).
    # Logarithms, since a power of a small weight is rounded to zero.
    keys = [math.log(draw.random() or sys.float_info.min) / weight for weight in order.weights]
    return sorted(rows, key=lambda row: -keys[row])
