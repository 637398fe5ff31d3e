"""A needles scene: a cluttered image of colored shapes, each with a small badge; the badge's pattern is the detail.

A scene is a few numbers; pixels are made on demand (`render.py`). All sizes are shares of the image's side, so one
set of knobs describes images of 768 and of 4096 pixels. With the default knobs the pattern's period is 0.42% of the
side: at a budget of 256 x 256 pixels that is 1.1 pixels, beyond the Nyquist limit of 2, whereas a full-resolution crop
of the object with the release's margin shows it at 3.1 pixels. What one look cannot show, a second look can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from p2r.errors import count_nouns
from p2r.types import Box, Frozen

COLORS = {
    "red": (215, 40, 40),
    "green": (40, 165, 60),
    "blue": (45, 80, 215),
    "yellow": (230, 205, 40),
    "purple": (150, 50, 180),
    "orange": (240, 130, 30),
}
SHAPES: tuple[str, ...] = ("star", "ring", "square", "triangle", "cross", "bar")
PATTERNS: tuple[str, ...] = ("horizontal", "vertical", "rising", "falling", "checked", "plain")
MIN_SIDE_PX, MAX_SIDE_PX = 768, 4096


class Knobs(Frozen):
    """Settings that make the search easier or harder. Shares are of the image's side.

    num_objects: least and most objects in a scene.
    object_share: smallest and largest object.
    detail_share: side of the badge.
    period_share: period of its stripes.
    texture: clutter strokes, 1 is the default density.
    noise: standard deviation of the photographic noise, in gray levels.
    """

    side_px: int = Field(default=1024, ge=MIN_SIDE_PX, le=MAX_SIDE_PX)
    num_objects: tuple[int, int] = (4, 6)
    object_share: tuple[float, float] = (0.13, 0.152)
    detail_share: float = 0.056
    period_share: float = 0.0042
    texture: float = Field(default=1.0, ge=0)
    noise: float = Field(default=4.0, ge=0)

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Knobs:
        least, most = self.num_objects
        if not 1 <= least <= most <= 12:
            raise ValueError(f"num_objects needs 1 <= least <= most <= 12, not {self.num_objects}")
        if self.detail_share > 0.5 * self.object_share[0]:
            raise ValueError(
                f"detail_share {self.detail_share} is more than half of the smallest object {self.object_share[0]}"
            )
        if self.period_share * self.side_px < 2.5:
            raise ValueError(
                f"a stripe period of {self.period_share * self.side_px:.1f} px cannot be drawn; 2.5 px is the least"
            )
        return self


@dataclass(frozen=True, slots=True)
class Object:
    """One shape. Center and size are in pixels of the full image; `phase` shifts the stripes (radians, x and y)."""

    color: str
    shape: str
    pattern: str
    x: int
    y: int
    size: int
    phase: tuple[float, float]

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"

    def box(self, side_px: int) -> Box:
        left, top = self.x - self.size // 2, self.y - self.size // 2
        corners = [round(value / side_px * 1000) for value in (left, top, left + self.size, top + self.size)]
        return Box(x1=corners[0], y1=corners[1], x2=corners[2], y2=corners[3], label=self.name)


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects on a piece of background; `background`, `offset` and `mirrored` choose it, `noise_offset` the grain."""

    knobs: Knobs
    objects: tuple[Object, ...]
    background: int
    offset: tuple[int, int]
    mirrored: bool
    noise_offset: tuple[int, int]


NUM_BACKGROUNDS = 16
SPARE_SHARE = 0.25


def draw_scene(rng: np.random.RandomState, knobs: Knobs, *, twins: bool) -> Scene:
    """Place objects at random. Distractors share the first object's color or shape, so a name needs both words.

    Args:
        rng: NumPy's compatibility policy freezes its stream, so a seed always gives the same scene.
        twins: the first two objects have the same name and different patterns; all other names are unique.
    """
    side = knobs.side_px
    num_objects = int(rng.randint(knobs.num_objects[0], knobs.num_objects[1] + 1))
    names = _draw_names(rng, num_objects - 1 if twins else num_objects)
    if twins:
        names = [names[0], *names]
    placed = _draw_places(rng, knobs, len(names))
    patterns = [PATTERNS[int(index)] for index in rng.randint(0, len(PATTERNS), len(names))]
    if twins:
        others = [pattern for pattern in PATTERNS if pattern != patterns[0]]
        patterns[1] = others[rng.randint(len(others))]
    objects: list[Object] = []
    for (color, shape), (x, y, size), pattern in zip(names, placed, patterns, strict=True):
        phase = (float(rng.rand() * 2 * np.pi), float(rng.rand() * 2 * np.pi))
        objects.append(Object(color, shape, pattern, x, y, size, phase))
    spare = int(SPARE_SHARE * side)
    return Scene(
        knobs=knobs,
        objects=tuple(objects),
        background=int(rng.randint(NUM_BACKGROUNDS)),
        offset=(int(rng.randint(spare + 1)), int(rng.randint(spare + 1))),
        mirrored=bool(rng.rand() < 0.5),
        noise_offset=(int(rng.randint(1024)), int(rng.randint(1024))),
    )


def _draw_names(rng: np.random.RandomState, count: int) -> list[tuple[str, str]]:
    colors = list(COLORS)
    first = (colors[rng.randint(len(colors))], SHAPES[rng.randint(len(SHAPES))])
    names = [first]
    while len(names) < count:
        color, shape = colors[rng.randint(len(colors))], SHAPES[rng.randint(len(SHAPES))]
        if len(names) == 1:
            color = first[0]
        elif len(names) == 2:
            shape = first[1]
        if (color, shape) not in names:
            names.append((color, shape))
    return names


def _draw_places(rng: np.random.RandomState, knobs: Knobs, count: int) -> list[tuple[int, int, int]]:
    """Draw (x, y, size) in pixels, centers at least 1.25 largest objects apart; start over when the image is full."""
    side = knobs.side_px
    apart = 1.25 * knobs.object_share[1] * side
    edge = max(2, side // 170)
    for _ in range(200):
        places: list[tuple[int, int, int]] = []
        for _ in range(60 * count):
            size = int(rng.uniform(*knobs.object_share) * side)
            low, high = size // 2 + edge, side - size // 2 - edge
            x, y = int(rng.randint(low, high)), int(rng.randint(low, high))
            if all((x - px) ** 2 + (y - py) ** 2 > apart**2 for px, py, _ in places):
                places.append((x, y, size))
                if len(places) == count:
                    return places
    raise ValueError(
        f"{count_nouns(count, 'object')} of {knobs.object_share[1]:.0%} of the side: too many for one image"
    )
