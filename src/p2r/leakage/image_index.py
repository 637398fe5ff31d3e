"""Known images by their hashes: find those that a new image is, looks like, or was cut from.

Spots are looked up by multi-index hashing: two hashes that differ in a few of their 64 bits share one of four pieces of
16. Images that share spots match only when most of the spots agree on one scale and shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p2r.leakage.image_hash import ImageHash, Spots

LEAST_LOOK = 0.7
"""Smallest share of either image's steps of brightness on which both agree."""

LEAST_STEPS = 48
"""Images with fewer steps of brightness (a blank page) resemble too many others."""

MOST_BITS_APART = 6
LEAST_SPOTS = 12
"""The number of spots that have to agree on one scale and shift."""

MOST_OWNERS = 12
"""A spot that more known images than this share (an edge, a corner of a window) is ignored."""

TOLERANCE = 0.01
"""The distance that a spot may have from its expected place, as a share of the longer side."""

ROUGHNESS, ROUGHNESS_LOG2 = 0.15, 0.4
"""The error that the sizes of two matching spots may cause in the shift (a share of the side) and the scale."""

SCALE_RANGE = (0.15, 6.5)
NUM_TRIALS = 300

ImageKind = Literal["pixels", "look", "crop"]


@dataclass(frozen=True, slots=True)
class ImageMatch:
    """A match. score: 1.0 for equal pixels; the agreement of steps of brightness; the number of spots for a crop."""

    index: int
    kind: ImageKind
    score: float


class ImageIndex:
    """Known images by number, in the order of `hashes`."""

    def __init__(self, hashes: Sequence[ImageHash]) -> None:
        self._by_pixels: dict[str, list[int]] = {}
        for index, known in enumerate(hashes):
            self._by_pixels.setdefault(known.pixels, []).append(index)
        self._looks = np.stack([known.look for known in hashes]).astype(np.float32)
        self._num_steps = self._looks.sum(axis=1)
        self._sides = np.asarray([max(known.size) for known in hashes], dtype=np.float32)
        counts = [len(known.spots.hashes) for known in hashes]
        self._owners = np.repeat(np.arange(len(hashes)), counts)
        self._hashes = np.concatenate([known.spots.hashes for known in hashes])
        self._places = np.concatenate([known.spots.places for known in hashes])
        pieces = _cut_in_pieces(self._hashes)
        self._orders = [np.argsort(piece, kind="stable") for piece in pieces]
        self._sorted = [piece[order] for piece, order in zip(pieces, self._orders, strict=True)]

    def find(self, new: ImageHash) -> list[ImageMatch]:
        """Return every known image that matches `new`, each under the first kind that fits."""
        same = self._by_pixels.get(new.pixels, [])
        matches = [ImageMatch(index, "pixels", 1.0) for index in same]
        alike = [(index, score) for index, score in self._find_alike(new) if index not in same]
        matches += [ImageMatch(index, "look", score) for index, score in alike]
        known = {match.index for match in matches}
        matches += [
            ImageMatch(index, "crop", float(count))
            for index, count in self._find_crops(new.spots, max(new.size))
            if index not in known
        ]
        return matches

    def _find_alike(self, new: ImageHash) -> list[tuple[int, float]]:
        look = new.look.astype(np.float32)
        both = self._looks @ look
        either = self._num_steps + look.sum() - both
        scores = both / np.maximum(either, 1)
        found = np.flatnonzero((scores >= LEAST_LOOK) & (either >= LEAST_STEPS))
        return [(int(index), float(scores[index])) for index in found]

    def _find_crops(self, spots: Spots, side_px: int) -> list[tuple[int, int]]:
        ours, theirs = self._find_candidates(spots.hashes)
        owners = self._owners[theirs]
        _, nearest = np.unique(np.stack([owners, ours]), axis=1, return_index=True)  # one of each image for a spot
        ours, theirs, owners = ours[nearest], theirs[nearest], owners[nearest]
        telling = np.bincount(ours, minlength=len(spots.hashes))[ours] <= MOST_OWNERS
        ours, theirs, owners = ours[telling], theirs[telling], owners[telling]
        indices, counts = np.unique(owners, return_counts=True)
        found: list[tuple[int, int]] = []
        for index in indices[counts >= LEAST_SPOTS]:
            chosen = owners == index
            before, after = spots.places[ours[chosen]], self._places[theirs[chosen]]
            num_agreeing = count_agreeing(before, after, side_px, float(self._sides[index]))
            if num_agreeing >= LEAST_SPOTS:
                found.append((int(index), num_agreeing))
        return found

    def _find_candidates(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (row of `hashes`, number of a known spot) of pairs at most MOST_BITS_APART that share a piece.

        The nearest come first.
        """
        pairs: list[NDArray[np.int64]] = []
        for piece, known, order in zip(_cut_in_pieces(hashes), self._sorted, self._orders, strict=True):
            first = np.searchsorted(known, piece, side="left")
            count = np.searchsorted(known, piece, side="right") - first
            ours = np.repeat(np.arange(len(hashes)), count)
            offset = np.arange(len(ours)) - np.repeat(np.cumsum(count) - count, count)
            theirs = order[np.repeat(first, count) + offset]
            apart = np.bitwise_count(hashes[ours] ^ self._hashes[theirs]).astype(np.int64)
            near = apart <= MOST_BITS_APART
            pairs.append(np.stack([apart[near], ours[near], theirs[near]]))
        found = np.concatenate(pairs, axis=1)
        found = found[:, np.argsort(found[0], kind="stable")]
        return found[1], found[2]


def count_agreeing(before: NDArray[np.float32], after: NDArray[np.float32], side_px: float, known_px: float) -> int:
    """Count the spots (x, y, size) that the best scale and shift moves from `before` to `after`.

    The sizes of two matching spots give a rough scale, and with it the place of the image's origin. Among the spots
    that agree on it, random pairs propose a scale and a shift, and each proposal is checked on all spots.
    """
    rough = np.log2(after[:, 2] / before[:, 2])
    origin = after[:, :2] - before[:, :2] * np.exp2(rough)[:, None]
    reach = ROUGHNESS * side_px * np.exp2(rough)
    together = (np.abs(rough[:, None] - rough) < ROUGHNESS_LOG2) & (
        _length(origin[:, None] - origin[None]) < reach[:, None]
    )
    likely = np.flatnonzero(together[np.argmax(together.sum(axis=1))])
    first, second = np.random.default_rng(0).choice(likely, (2, NUM_TRIALS))
    length = _length(before[first] - before[second])
    scale = _length(after[first] - after[second]) / np.maximum(length, 1e-6)
    relative = scale * side_px / known_px
    fits = (length > 0.05 * side_px) & (relative > SCALE_RANGE[0]) & (relative < SCALE_RANGE[1])
    first, scale = first[fits], scale[fits]
    moved = (before[None] - before[first][:, None]) * scale[:, None, None] + after[first][:, None]
    near = _length(moved - after[None]) < TOLERANCE * np.minimum(known_px, side_px * scale)[:, None]
    near &= np.abs(rough[None] - np.log2(scale)[:, None]) < ROUGHNESS_LOG2
    best = near[np.argmax(near.sum(axis=1))] if len(near) else np.zeros(len(before), bool)
    return min(_count_places(before[best, :2], side_px), _count_places(after[best, :2], known_px))


def _length(steps: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.hypot(steps[..., 0], steps[..., 1])


def _count_places(places: NDArray[np.float32], side_px: float) -> int:
    """Count, roughly, the places that differ by more than the tolerance."""
    return len(np.unique(np.rint(places / (2 * TOLERANCE * side_px)).astype(np.int64), axis=0))


def _cut_in_pieces(hashes: NDArray[np.uint64]) -> list[NDArray[np.uint16]]:
    """Cut each hash into four pieces of 16 bits."""
    return [(hashes >> np.uint64(16 * k) & np.uint64(0xFFFF)).astype(np.uint16) for k in range(4)]
