"""The rule behind the counts of tokens is found, as the processors of Qwen-VL round."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from p2r.doctor.sizes import SIDES, Sizing, fit_sizing

ROUNDINGS: dict[str, Callable[[float], int]] = {
    "to even": round,
    "up": lambda number: math.floor(number + 0.5),
    "down": lambda number: math.ceil(number - 0.5),
}


def count(side: int, factor: int, least: int, most: int, rounds: Callable[[float], int]) -> int:
    """The tokens of a square, in the steps of Qwen2VLImageProcessor, with its errors of floating point."""
    rows = max(1, rounds(side / factor))
    if (rows * factor) ** 2 > most:
        rows = math.floor(side / math.sqrt(side * side / most) / factor)
    elif (rows * factor) ** 2 < least:
        rows = math.ceil(side * math.sqrt(least / (side * side)) / factor)
    return rows**2


def count_all(factor: int, least: int, most: int, frame: int, rounds: Callable[[float], int] = round) -> dict[int, int]:
    return {side: count(side, factor, least, most, rounds) + frame for side in SIDES}


@pytest.mark.parametrize("rounds", ROUNDINGS.values(), ids=ROUNDINGS)
def test_every_server_of_a_family_is_recognized(rounds: Callable[[float], int]) -> None:
    draw = random.Random(0)
    for _ in range(400):
        factor, frame = draw.choice([28, 32]), draw.randint(0, 8)
        least = draw.randint(1, 512) * draw.choice([1, factor]) * factor
        most = max(least * draw.choice([4, 9, 50, 1000]), 64 * factor**2) + draw.randint(0, 5000)
        sizing = fit_sizing(count_all(factor, least, most, frame, rounds))
        assert sizing is not None and (sizing.factor, sizing.frame_tokens) == (factor, frame), (factor, least, most)
        if sizing.most is not None:
            assert sizing.most * factor**2 <= most < (math.isqrt(sizing.most) + 1) ** 2 * factor**2
        if sizing.least is not None:
            assert (math.isqrt(sizing.least) - 1) ** 2 * factor**2 < least <= sizing.least * factor**2


def test_limits_are_named_in_tokens() -> None:
    counts = count_all(32, 64 * 1024, 196 * 1024, 2)
    assert fit_sizing(counts) == Sizing(32, 2, 64, 196, (284, 338, 448))
    assert fit_sizing(count_all(28, 1, 10**9, 0)) == Sizing(28, 0, None, None, SIDES)


def test_the_limits_that_a_row_may_be_lost_at_are_those_of_most_squares() -> None:
    counts = count_all(32, 64 * 1024, 196 * 1024, 2)
    lost = {**counts, 672: 13**2 + 2, 28: 9**2 + 2}
    assert fit_sizing(lost) == fit_sizing(counts)
    assert fit_sizing({**counts, 672: 12**2 + 2}) is None
    assert fit_sizing({**counts, 672: 197}) is None


@pytest.mark.parametrize(
    "counts",
    [
        {},
        dict.fromkeys(SIDES, 256),
        {side: side for side in SIDES},
        {side: 85 + 170 * math.ceil(side / 512) ** 2 for side in SIDES},
        {224: 51},
        {**count_all(32, 1, 10**9, 2), 448: 170},
        {28: 100, 60: 100, 116: 18, 170: 27, 224: 51},
        {116: 18, 170: 27, 224: 51, 284: 18, 338: 18},
        count_all(32, 1, 10**9, 9),
    ],
    ids=["none", "one", "sides", "tiles", "single", "gap", "high end below", "low end above", "much around"],
)
def test_other_counts_are_no_familys(counts: dict[int, int]) -> None:
    assert fit_sizing(counts) is None
