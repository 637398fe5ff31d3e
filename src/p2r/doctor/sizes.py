"""How a server sizes images, from the tokens that it counts for squares.

A family of Qwen-VL makes a token of each `factor` x `factor` pixels, after it has rounded an image's sides to multiples
of the factor, enlarged it to its least pixels, or shrunk it to its most. So the counts of growing squares begin with a
plateau, grow with the area, and end with a plateau.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SIDES = (28, 60, 116, 170, 224, 284, 338, 448, 672, 896, 1344, 1792, 2688)
"""The sides of squares, in pixels. 28 and 32 give other counts for each, and none is half a token off: servers round a
half up, down, or to even."""
FACTORS = (28, 32, 14, 16)
MOST_FRAME_TOKENS = 8
LEAST_MATCHES = 2


@dataclass(frozen=True, slots=True)
class Sizing:
    """The rule by which images become tokens.

    factor: side of a token, in pixels.
    frame_tokens: what the template puts around an image.
    least, most: tokens of the smallest and of the largest image; None where no square was small or large enough.
    sides: those of squares that are seen as they are sent.
    """

    factor: int
    frame_tokens: int
    least: int | None
    most: int | None
    sides: tuple[int, ...]


def fit_sizing(counts: Mapping[int, int]) -> Sizing | None:
    """Find the rule behind the counts; None where they follow none of these.

    Args:
        counts: side of a square -> tokens that it adds to a prompt.
    """
    sides = sorted(counts)
    found: list[Sizing] = []
    for factor in FACTORS:
        for frame in range(MOST_FRAME_TOKENS + 1):
            free = [side for side in sides if counts[side] == round(side / factor) ** 2 + frame]
            if len(free) < LEAST_MATCHES or free != [side for side in sides if free[0] <= side <= free[-1]]:
                continue
            below = _find_rows(counts[side] - frame for side in sides if side < free[0])
            above = _find_rows(counts[side] - frame for side in sides if side > free[-1])
            if below is None or above is None:
                continue
            least, most = min(below, default=None), max(above, default=None)
            if (least or 1) > round(free[0] / factor) or (most is not None and most < round(free[-1] / factor)):
                continue
            least, most = (None if rows is None else rows**2 for rows in (least, most))
            found.append(Sizing(factor, frame, least, most, tuple(free)))
    return max(found, key=lambda each: len(each.sides), default=None)


def _find_rows(tokens: Iterable[int]) -> set[int] | None:
    """Return the rows of squares on one plateau: one number, or two where rounding moves some of them by a row.

    None where the tokens are not those of such squares.
    """
    all_tokens = set(tokens)
    rows = {math.isqrt(max(num, 0)) for num in all_tokens}
    are_squares = {num**2 for num in rows} == all_tokens
    return rows if are_squares and (not rows or max(rows) - min(rows) <= 1) else None
