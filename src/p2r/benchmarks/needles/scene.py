"""A needles scene: a cluttered image of colored shapes, each with a small badge; the badge's pattern is the detail.

A scene is a few numbers; pixels are made on demand (`render.py`). All sizes are shares of the image's side, so one
set of knobs describes images of 768 and of 4096 pixels. With the default knobs the pattern's period is 0.42% of the
side: at a budget of 256 x 256 pixels that is 1.1 pixels, beyond the Nyquist limit of 2, whereas a full-resolution crop
of the object with the release's margin shows it at 3.1 pixels. What one look cannot show, a second look can.

In scenes with printed text every object carries a code instead of a badge; see `codes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from p2r.benchmarks.needles.backgrounds import SPARE_SHARE, count_backgrounds
from p2r.benchmarks.needles.codes import draw_code
from p2r.benchmarks.needles.knobs import APART, Knobs
from p2r.errors import count_nouns
from p2r.types import Box

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


@dataclass(frozen=True, slots=True)
class Object:
    """One shape. Center and size are in pixels of the full image; `phase` shifts the stripes (radians, x and y).

    code: the text that is printed on it; None for a badge with the pattern.
    """

    color: str
    shape: str
    pattern: str
    x: int
    y: int
    size: int
    phase: tuple[float, float]
    code: str | None = None

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


def draw_scene(rng: np.random.RandomState, knobs: Knobs, *, twins: bool, printed: bool = False) -> Scene:
    """Place objects at random. Distractors share the first object's color or shape, so a name needs both words.

    Args:
        rng: NumPy's compatibility policy freezes its stream, so a seed always gives the same scene.
        twins: the first two objects have the same name and different patterns; all other names are unique.
        printed: every object carries a code.
    """
    side = knobs.side_px
    num_objects = int(rng.randint(knobs.num_objects[0], knobs.num_objects[1] + 1))
    names = _draw_names(rng, num_objects - 1 if twins else num_objects, knobs.num_distractors)
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
    scene = Scene(
        knobs=knobs,
        objects=tuple(objects),
        background=int(rng.randint(count_backgrounds(knobs.background))),
        offset=(int(rng.randint(spare + 1)), int(rng.randint(spare + 1))),
        mirrored=bool(rng.rand() < 0.5),
        noise_offset=(int(rng.randint(1024)), int(rng.randint(1024))),
    )
    if printed:
        scene = replace(scene, objects=tuple(replace(item, code=draw_code(rng)) for item in scene.objects))
    return scene


def _draw_names(rng: np.random.RandomState, count: int, num_distractors: int) -> list[tuple[str, str]]:
    """Draw different names; the second one has the first one's color, the third one its shape, and so on in turns."""
    colors = list(COLORS)
    first = (colors[rng.randint(len(colors))], SHAPES[rng.randint(len(SHAPES))])
    names = [first]
    while len(names) < count:
        color, shape = colors[rng.randint(len(colors))], SHAPES[rng.randint(len(SHAPES))]
        if len(names) <= num_distractors:
            color, shape = (first[0], shape) if len(names) % 2 else (color, first[1])
        if (color, shape) not in names:
            names.append((color, shape))
    return names


def _draw_places(rng: np.random.RandomState, knobs: Knobs, count: int) -> list[tuple[int, int, int]]:
    """Draw (x, y, size) in pixels, centers at least `APART` largest objects apart; start over when it is full."""
    side = knobs.side_px
    apart = APART * knobs.object_share[1] * side
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
