"""Hash an image so that it can be recognized: a hash of its pixels, one of its look, and hashes of its spots.

    pixels  BLAKE2b of size and RGB values: the same image to the last bit, in whatever file.
    look    where brightness rises and falls between the cells of a 17 x 16 grid (dHash, with a dead zone, so that sky
            and paper do not count): the same image after JPEG, resizing or a change of brightness.
    spots   a 64-bit dHash around each of the strongest blobs of the scale space, with its place and size: a crop has
            blobs of the whole image, wherever it is cut and at whatever size.

Nothing else is kept: at most 21 kB per image. Mirrored and rotated images count as different.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p2r.images.budget import hash_pixels

WORK_SIDE_PX = 768
"""Longest side of the gray image in which look and spots are found."""

LOOK_GRID = (17, 16)
DEAD_ZONE = 3.0
"""Steps of brightness (of 255) up to this size are ignored."""

MOST_SPOTS = 1000
LEAST_CONTRAST = 1.5
"""The weakest blob that counts, in levels of brightness (of 255)."""

FIRST_SIGMA_PX, SCALES_PER_OCTAVE, SMALLEST_OCTAVE_PX = 1.6, 3, 24
SPOT_RADIUS = 5.0
"""Half the side of a spot's patch, in units of its size."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Spots:
    """Blobs. hashes: (n,) of 64 bits. places: (n, 3), x, y and size (the blob's sigma) in pixels of the whole image."""

    hashes: NDArray[np.uint64]
    places: Floats


@dataclass(frozen=True, slots=True)
class ImageHash:
    """An image's hashes. look: 512 truth values, where brightness rises and then where it falls."""

    size: tuple[int, int]
    pixels: str
    look: NDArray[np.bool_]
    spots: Spots


def hash_image(image: Image.Image) -> ImageHash:
    """Hash an upright RGB image."""
    shrink = min(1.0, WORK_SIDE_PX / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    gray = np.asarray(image.resize(size, Image.Resampling.BOX).convert("L"), dtype=np.float32)
    return ImageHash(image.size, hash_pixels(image), find_look(gray), find_spots(gray, image.size))


def find_look(gray: Floats) -> NDArray[np.bool_]:
    """Return where brightness rises, and then where it falls, from cell to cell."""
    cells = np.asarray(Image.fromarray(gray).resize(LOOK_GRID, Image.Resampling.BOX), dtype=np.float32)
    steps = np.diff(cells, axis=1).ravel()
    return np.concatenate([steps > DEAD_ZONE, steps < -DEAD_ZONE])


def find_spots(gray: Floats, full_size: tuple[int, int]) -> Spots:
    """Find the strongest extrema of the difference of Gaussians, in `full_size` pixels, with the hash around each."""
    hashes: list[NDArray[np.uint64]] = []
    places: list[Floats] = []
    contrasts: list[Floats] = []
    level, step = _blur(gray, FIRST_SIGMA_PX), 1.0
    while min(level.shape) >= SMALLEST_OCTAVE_PX:
        stack = _blur_octave(level)
        found, contrast = _find_extrema(np.stack([after - before for before, after in pairwise(stack)]))
        sigma = FIRST_SIGMA_PX * 2 ** (found[:, 0] / SCALES_PER_OCTAVE)
        inside = _is_inside(found[:, 1:], sigma * SPOT_RADIUS, level.shape)
        found, sigma = found[inside], sigma[inside]
        hashes.append(_hash_around(stack, found, sigma))
        x, y = found[:, 2] * step + 0.5, found[:, 1] * step + 0.5
        places.append(np.stack([x, y, sigma * step], axis=1).astype(np.float32))
        contrasts.append(contrast[inside])
        level, step = stack[SCALES_PER_OCTAVE][::2, ::2], step * 2
    if not hashes:
        return Spots(np.zeros(0, np.uint64), np.zeros((0, 3), np.float32))
    strongest = np.argsort(-np.concatenate(contrasts), kind="stable")[:MOST_SPOTS]
    scale = np.float32(max(full_size) / max(gray.shape))
    return Spots(np.concatenate(hashes)[strongest], np.concatenate(places)[strongest] * scale)


def _blur_octave(level: Floats) -> list[Floats]:
    """Blur `level`, already blurred by FIRST_SIGMA_PX, to each scale of an octave and two beyond."""
    sigmas = [FIRST_SIGMA_PX * 2 ** (k / SCALES_PER_OCTAVE) for k in range(SCALES_PER_OCTAVE + 3)]
    stack = [level]
    for before, after in pairwise(sigmas):
        stack.append(_blur(stack[-1], math.sqrt(after**2 - before**2)))
    return stack


def _blur(values: Floats, sigma: float) -> Floats:
    radius = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    weights /= weights.sum()
    for axis in (0, 1):
        pad = [(radius, radius) if axis == k else (0, 0) for k in (0, 1)]
        padded = np.pad(values, pad, mode="edge")
        length = values.shape[axis]
        values = np.zeros_like(values)
        for k, weight in enumerate(weights):
            values += weight * (padded[k : k + length] if axis == 0 else padded[:, k : k + length])
    return values


def _find_extrema(differences: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the (scale, y, x) of values above or below all neighbors in place and scale, and their contrast."""
    most = least = differences
    for axis in (0, 1, 2):
        most, least = _widen(most, axis, np.maximum), _widen(least, axis, np.minimum)
    peaks = (differences == most) & (differences > LEAST_CONTRAST)
    hollows = (differences == least) & (differences < -LEAST_CONTRAST)
    extremal = peaks | hollows
    extremal[[0, -1]] = False
    found = np.argwhere(extremal)
    return found, np.abs(differences[extremal])


def _widen(values: Floats, axis: int, extreme: np.ufunc) -> Floats:
    """Replace each value by the most extreme of it and its two neighbors along `axis`."""
    moved = np.moveaxis(values, axis, 0)
    wide = np.array(moved)
    extreme(wide[1:], moved[:-1], out=wide[1:])
    extreme(wide[:-1], moved[1:], out=wide[:-1])
    return np.moveaxis(wide, 0, axis)


def _is_inside(yx: NDArray[np.int64], radius: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    far = np.asarray(shape)[None] - 1 - yx
    return (np.minimum(yx, far).min(axis=1) >= radius) if len(yx) else np.zeros(0, bool)


def _hash_around(stack: list[Floats], found: NDArray[np.int64], sigma: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Hash each spot to 64 bits: does brightness rise between the 9 columns of 8 rows around it?"""
    y = found[:, 1, None] + sigma[:, None] * np.linspace(-SPOT_RADIUS, SPOT_RADIUS, 8)[None]
    x = found[:, 2, None] + sigma[:, None] * np.linspace(-SPOT_RADIUS, SPOT_RADIUS, 9)[None]
    levels = np.stack(stack)
    rows, columns = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
    cells = levels[found[:, 0, None, None], rows[:, :, None], columns[:, None, :]]
    bits = (np.diff(cells, axis=2) > 0).astype(np.uint64)
    return np.asarray(np.sum(bits << _BIT[None], axis=(1, 2), dtype=np.uint64))


_BIT = np.reshape(np.arange(64, dtype=np.uint64), (8, 8))
