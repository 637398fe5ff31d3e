"""How a server sizes images, from the tokens that it counts for squares.

A family of Qwen-VL makes a token of each `factor` x `factor` pixels, after it has rounded an image's sides to multiples
of the factor, enlarged it to its least pixels, or shrunk it to its most. So the counts of growing squares begin with a
plateau, grow with the area, and end with a plateau.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SIDES = (28, 56, 112, 168, 224, 336, 448, 672, 896, 1344, 1792, 2688)
"""The sides of squares, in pixels. 28 and 32 give other counts for each."""
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
            below = [side for side in sides if free and side < free[0]]
            above = [side for side in sides if free and side > free[-1]]
            is_run = free == [side for side in sides if free and free[0] <= side <= free[-1]]
            ends = [{counts[side] for side in part} for part in (below, above)]
            if not is_run or len(free) < LEAST_MATCHES or any(len(end) > 1 for end in ends):
                continue
            least, most = (next(iter(end)) - frame if end else None for end in ends)
            if (least or 1) > counts[free[0]] - frame or (most is not None and most < counts[free[-1]] - frame):
                continue
            found.append(Sizing(factor, frame, least, most, tuple(free)))
    return max(found, key=lambda each: (len(each.sides), -each.frame_tokens), default=None)
