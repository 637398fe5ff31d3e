"""How well a set of boxes fits the gold boxes one to one, as rewards and measures of detection count it.

Each box is matched with at most one gold box and each gold box with at most one box, so that the sum over the pairs is
the largest that there is (Kuhn 1955). What is left over on either side counts as a miss.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2r.boxes.fit import iou
from p2r.types import Box


def matched_iou(boxes: Sequence[Box], gold: Sequence[Box]) -> float:
    """Return the sum of the IoU of matched boxes over the larger number of boxes; 1 when there are none at all."""
    most = max(len(boxes), len(gold))
    return _sum_best(_measure_pairs(boxes, gold)) / most if most else 1.0


def matched_f1(boxes: Sequence[Box], gold: Sequence[Box], least_iou: float = 0.5) -> float:
    """Return F1, where a match needs an IoU of at least `least_iou`; 1 when there are no boxes at all."""
    num = len(boxes) + len(gold)
    reached = [[float(value >= least_iou) for value in row] for row in _measure_pairs(boxes, gold)]
    return 2 * _sum_best(reached) / num if num else 1.0


def _measure_pairs(boxes: Sequence[Box], gold: Sequence[Box]) -> list[list[float]]:
    """The IoU of each pair: a row for each box of the smaller set, a column for each of the other."""
    few, many = sorted((boxes, gold), key=len)
    return [[iou(one, other) for other in many] for one in few]


def _sum_best(gains: Sequence[Sequence[float]]) -> float:
    return sum(gains[row][column] for row, column in enumerate(find_best_matching(gains)))


def find_best_matching(gains: Sequence[Sequence[float]]) -> list[int]:
    """Return for each row a column of its own, so that the sum of their gains is the largest.

    The Hungarian method with potentials, one row after the other, in O(rows^2 x columns).

    Args:
        gains: as many columns as rows, or more.
    """
    num_rows, num_columns = len(gains), len(gains[0]) if gains else 0
    price_of_row, price_of_column = [0.0] * num_rows, [0.0] * (num_columns + 1)
    row_of = [-1] * (num_columns + 1)  # the last column is where a new row waits
    for new in range(num_rows):
        column, row_of[num_columns] = num_columns, new
        least, came_from, done = [float("inf")] * num_columns, [num_columns] * num_columns, [False] * (num_columns + 1)
        while row_of[column] >= 0:
            done[column] = True
            row = row_of[column]
            for other in range(num_columns):
                cost = -gains[row][other] - price_of_row[row] - price_of_column[other]
                if not done[other] and cost < least[other]:
                    least[other], came_from[other] = cost, column
            following = min((other for other in range(num_columns) if not done[other]), key=least.__getitem__)
            step = least[following]
            for other in range(num_columns + 1):
                if done[other]:
                    price_of_row[row_of[other]] += step
                    price_of_column[other] -= step
                elif other < num_columns:
                    least[other] -= step
            column = following
        while column != num_columns:  # pass the rows on along the path
            row_of[column] = row_of[came_from[column]]
            column = came_from[column]
        row_of[num_columns] = -1
    found = {row: column for column, row in enumerate(row_of[:num_columns]) if row >= 0}
    return [found[row] for row in range(num_rows)]
