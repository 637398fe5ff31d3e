"""Printed text: codes of 4 to 6 characters in a bitmap font of our own, on a gray plate.

The letters have white cores and dark rims that cancel out: a high-pass filter leaves nothing of the text but what is
finer than two dots. So an image that is too coarse for single dots shows an empty plate, as it shows a plain badge, and
the length of a code does not show either: all plates are of one size.

All of it is computed in whole numbers, so that the pixels are the same on every machine.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

FONT = {
    letter: tuple(rows.split())
    for letter, rows in {
        "C": ".###. #...# #.... #.... #.... #...# .###.",
        "D": "####. #...# #...# #...# #...# #...# ####.",
        "F": "##### #.... #.... ####. #.... #.... #....",
        "H": "#...# #...# #...# ##### #...# #...# #...#",
        "J": "..### ...#. ...#. ...#. ...#. #..#. .##..",
        "K": "#...# #..#. #.#.. ##... #.#.. #..#. #...#",
        "L": "#.... #.... #.... #.... #.... #.... #####",
        "N": "#...# ##..# ##..# #.#.# #..## #..## #...#",
        "P": "####. #...# #...# ####. #.... #.... #....",
        "R": "####. #...# #...# ####. #.#.. #..#. #...#",
        "T": "##### ..#.. ..#.. ..#.. ..#.. ..#.. ..#..",
        "V": "#...# #...# #...# #...# #...# .#.#. ..#..",
        "X": "#...# #...# .#.#. ..#.. .#.#. #...# #...#",
        "Y": "#...# #...# .#.#. ..#.. ..#.. ..#.. ..#..",
        "2": ".###. #...# ....# ..##. .#... #.... #####",
        "3": "####. ....# ....# .###. ....# ....# ####.",
        "4": "...#. ..##. .#.#. #..#. ##### ...#. ...#.",
        "6": "..##. .#... #.... ####. #...# #...# .###.",
        "7": "##### ....# ...#. ..#.. ..#.. .#... .#...",
        "9": ".###. #...# #...# .#### ....# ....# .###.",
    }.items()
}
"""Dots of each character. There are no vowels, so that no code is a word, none so dense that the filter takes out what
tells it (M, W), and no two that look alike (0 and O, 8 and B)."""
CHARACTERS = "".join(FONT)
FIRST_CHARACTERS = "".join(letter for letter in FONT if letter.isalpha())
"""A code begins with a letter, so that none is a number."""
LENGTHS = (4, 5, 6)

WIDTH, HEIGHT, STEP, MARGIN = 5, 7, 7, 4
"""In dots: a character, the distance of two, and the margin around the longest code."""
NUM_COLUMNS = STEP * (LENGTHS[-1] - 1) + WIDTH
"""Dots of the longest code from left to right."""
PLATE_PERIODS = (NUM_COLUMNS + 2 * MARGIN) / 2
"""Width of a plate in stripe periods; two dots are one period."""
CUTOFF, REACH = 0.52, 5
"""Waves longer than 1 / CUTOFF dots are taken out, by a filter that reaches so many dots to each side."""
UNIT = 4096
AMPLITUDE = 205


def draw_code(rng: np.random.RandomState) -> str:
    """Draw a code: its length uniformly, then its characters."""
    length = LENGTHS[rng.randint(len(LENGTHS))]
    first = FIRST_CHARACTERS[rng.randint(len(FIRST_CHARACTERS))]
    return first + "".join(CHARACTERS[rng.randint(len(CHARACTERS))] for _ in range(length - 1))


def guess_chance() -> float:
    """The chance of the best blind guess, which is any code of the shortest length."""
    return 1 / (len(LENGTHS) * len(FIRST_CHARACTERS) * len(CHARACTERS) ** (LENGTHS[0] - 1))


def draw_options(rng: np.random.RandomState, code: str) -> tuple[str, ...]:
    """Draw four codes, the right one among them, that differ at two places only.

    They are the grid of two characters at each place: each shares one with two others, so none stands out.
    """
    places = sorted(int(place) for place in rng.permutation(len(code))[:2])
    pairs = [(code[place], _draw_another(rng, code[place], is_first=place == 0)) for place in places]
    grid = [
        code[: places[0]] + one + code[places[0] + 1 : places[1]] + two + code[places[1] + 1 :]
        for one in pairs[0]
        for two in pairs[1]
    ]
    return tuple(grid[int(index)] for index in rng.permutation(4))


def _draw_another(rng: np.random.RandomState, character: str, *, is_first: bool) -> str:
    others = (FIRST_CHARACTERS if is_first else CHARACTERS).replace(character, "")
    return others[rng.randint(len(others))]


def draw_plate(code: str, period_px: float) -> NDArray[np.uint8]:
    """Draw a gray plate (H, W, 3) with the code in its middle; "" leaves it empty."""
    dots = np.zeros((HEIGHT, NUM_COLUMNS), np.int64)
    left = STEP * (LENGTHS[-1] - len(code)) // 2
    for place, letter in enumerate(code):
        start = left + STEP * place
        dots[:, start : start + WIDTH] = [[dot == "#" for dot in row] for row in FONT[letter]]
    sharp_y, soft_y = _spread_dots(dots.shape[0], period_px / 2)
    sharp_x, soft_x = _spread_dots(dots.shape[1], period_px / 2)
    text = _spread(sharp_y, dots, sharp_x) - _spread(soft_y, dots, soft_x)
    gray = 128 + (AMPLITUDE * text + UNIT**2 // 2) // UNIT**2
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _spread(rows: Integers, dots: Integers, columns: Integers) -> Integers:
    return np.matmul(np.matmul(rows, dots), np.transpose(columns))


@lru_cache(maxsize=16)
def _spread_dots(num_dots: int, dot_px: float) -> tuple[Integers, Integers]:
    """Return what each dot of a row gives to each pixel (pixels, dots), in units: as it is, and its long waves."""
    num_px = round((num_dots + 2 * MARGIN) * dot_px)
    start = (num_px - num_dots * dot_px) / 2
    sharp = np.zeros((num_px, num_dots), np.int64)
    for dot in range(num_dots):
        left, right = start + dot * dot_px, start + (dot + 1) * dot_px
        for pixel in range(int(left), min(int(right) + 1, num_px)):
            sharp[pixel, dot] = round(UNIT * (min(right, pixel + 1) - max(left, pixel)))
    low = np.array([_low_pass(shift / dot_px) / dot_px for shift in range(-num_px, num_px + 1)])
    weights = np.round(UNIT * low).astype(np.int64)
    blur = np.array([weights[num_px - pixel : 2 * num_px - pixel] for pixel in range(num_px)])
    return sharp, (blur @ sharp + UNIT // 2) // UNIT


def _low_pass(dots: float) -> float:
    """A sinc that is faded out: its weight at a distance in dots."""
    if abs(dots) >= REACH:
        return 0.0
    turn = 2 * math.pi * CUTOFF * dots
    return 2 * CUTOFF * (math.sin(turn) / turn if turn else 1.0) * (0.5 + 0.5 * math.cos(math.pi * dots / REACH))
