"""Boxes matched one to one with gold boxes."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from p2r.boxes.match import find_best_matching, matched_f1, matched_iou
from p2r.types import Box


def box(x1: float, y1: float, x2: float, y2: float) -> Box:
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


A, B, C = box(0, 0, 100, 100), box(200, 0, 300, 100), box(400, 400, 500, 500)
HALF_OF_A, THIRD_OF_B = box(0, 0, 50, 100), box(200, 0, 300, 33)


@pytest.mark.parametrize(
    ("boxes", "gold", "mean_iou", "f1"),
    [
        ([A, B], [B, A], 1.0, 1.0),
        ([A], [A, B], 0.5, 2 / 3),
        ([A, B, C], [A], 1 / 3, 0.5),
        ([HALF_OF_A], [A], 0.5, 1.0),
        ([THIRD_OF_B], [B], 0.33, 0.0),
        ([HALF_OF_A, THIRD_OF_B], [A, B], (0.5 + 0.33) / 2, 0.5),
        ([A, A], [A], 0.5, 2 / 3),
        ([], [A], 0.0, 0.0),
        ([A], [], 0.0, 0.0),
        ([], [], 1.0, 1.0),
        ([C], [A], 0.0, 0.0),
    ],
)
def test_boxes_are_matched_one_to_one_and_what_is_left_over_is_a_miss(
    boxes: list[Box], gold: list[Box], mean_iou: float, f1: float
) -> None:
    assert matched_iou(boxes, gold) == pytest.approx(mean_iou)
    assert matched_f1(boxes, gold) == pytest.approx(f1)


def test_the_matching_is_the_best_of_all_and_not_the_greedy_one() -> None:
    # Greedy takes the best pair (wide, A) first and leaves B to nothing.
    a, b = box(0, 0, 100, 100), box(60, 0, 160, 100)
    wide, left = box(10, 0, 110, 100), box(0, 0, 70, 100)
    assert find_best_matching([[0.8, 0.7], [0.75, 0.0]]) == [1, 0]
    assert matched_iou([wide, left], [a, b]) == pytest.approx((50 / 150 + 0.7) / 2)


@pytest.mark.parametrize("seed", range(40))
def test_no_other_matching_gains_more(seed: int) -> None:
    draw = random.Random(seed)
    num_rows, num_columns = sorted((draw.randint(1, 5), draw.randint(1, 6)))
    gains = [[draw.choice((0.0, 1.0, draw.random())) for _ in range(num_columns)] for _ in range(num_rows)]
    found = find_best_matching(gains)
    assert len(set(found)) == num_rows
    best = max(
        sum(gains[row][column] for row, column in enumerate(chosen))
        for chosen in permutations(range(num_columns), num_rows)
    )
    assert sum(gains[row][column] for row, column in enumerate(found)) == pytest.approx(best)


def test_a_match_that_just_reaches_the_least_iou_counts() -> None:
    assert matched_f1([HALF_OF_A], [A], least_iou=0.5) == 1.0
    assert matched_f1([HALF_OF_A], [A], least_iou=0.51) == 0.0


def test_f1_matches_as_many_boxes_as_can_be() -> None:
    # `first` reaches both gold boxes, `second` only the first: matched greedily, one would be lost.
    gold = [box(0, 0, 100, 100), box(20, 0, 120, 100)]
    first, second = box(10, 0, 110, 100), box(0, 0, 60, 100)
    assert matched_f1([first, second], gold) == 1.0
