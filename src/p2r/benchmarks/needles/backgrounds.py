"""Backgrounds of needles, each a quarter larger than the image, so that a scene can choose its own piece.

strokes:       a soft field of color under many short strokes.
natural:       the statistics of photographs: shapes of all sizes that hide each other (dead leaves, whose sizes follow
               a power law), under a texture of which every octave has the same contrast (1/f).
scikit-image,
matplotlib:    the free photographs that these packages ship, where they are installed.
FOLDER:        your own photographs.

The first two are computed in whole numbers from a seed. JPEG files may decode to slightly different pixels elsewhere.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from p2r.errors import ConfigError
from p2r.images.load import FileImage

COMPUTED = ("strokes", "natural")
SHIPPED = {
    "scikit-image": ("skimage/data", ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")),
    "matplotlib": ("matplotlib/mpl-data/sample_data", ("grace_hopper.jpg",)),
}
"""Packages that ship photographs in the public domain: their folder and names."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
NUM_COMPUTED = 16
SPARE_SHARE = 0.25
LARGE_PX = 1536
"""Backgrounds above this size are not kept, since 16 of them fill the memory."""
FIELD_PX = 1280
"""The texture of a natural background is computed at most so large, and enlarged."""


def check_background(background: str) -> None:
    """Raise ConfigError if there is no such background, or its photographs are not there."""
    if background not in COMPUTED:
        _find_photos(background)


def count_backgrounds(background: str) -> int:
    """Count the different ones."""
    return NUM_COMPUTED if background in COMPUTED else len(_find_photos(background))


def name_background(background: str) -> str:
    """A name that tells its contents; photographs of your own go by their names and sizes in bytes."""
    if not is_folder(background):
        return background
    listed = [f"{path.name} {path.stat().st_size}" for path in _find_photos(background)]
    return f"photographs-{hashlib.sha256('/'.join(listed).encode()).hexdigest()[:8]}"


def is_folder(background: str) -> bool:
    """Tell whether it is a folder of photographs, and not a name."""
    return background not in COMPUTED and background not in SHIPPED


def draw_background(background: str, index: int, side_px: int, texture: float) -> NDArray[np.uint8]:
    """Return pixels (H, W, 3), a quarter larger than an image of this side. Not to be modified."""
    size = side_px + int(SPARE_SHARE * side_px)
    return (_draw_and_keep if size <= LARGE_PX else _draw)(background, index, size, texture)


def _draw(background: str, index: int, size: int, texture: float) -> NDArray[np.uint8]:
    if background == "strokes":
        return _draw_strokes(index, size, texture)
    if background == "natural":
        return _draw_natural(index, size, texture)
    photo = FileImage(_find_photos(background)[index]).load()
    return np.asarray(ImageOps.fit(photo, (size, size), Image.Resampling.BICUBIC))


_draw_and_keep = lru_cache(maxsize=16)(_draw)


def _draw_strokes(index: int, size: int, texture: float) -> NDArray[np.uint8]:
    rng = np.random.RandomState([7, index])
    field = rng.rand(8, 8, 3) * 50 + rng.rand(1, 1, 3) * 70 + 70
    image = Image.fromarray(field.astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    draw, scale = ImageDraw.Draw(image), size / 1280
    for _ in range(round(140 * texture)):
        x, y = rng.randint(0, size, 2)
        length, angle = rng.randint(12, 110) * scale, rng.rand() * 2 * math.pi
        color = tuple(int(value) for value in rng.randint(60, 170, 3) * 0.5 + 55)
        end = (x + length * math.cos(angle), y + length * math.sin(angle))
        draw.line((x, y, *end), fill=color, width=max(1, round(rng.randint(1, 6) * scale)))
    return np.asarray(image)


NUM_LEAVES = 2500
SMALLEST_LEAF, LARGEST_LEAF = 1 / 160, 1 / 5
"""Radii, in shares of the background."""
CORNERS = tuple((round(1024 * math.cos(math.pi * k / 8)), round(1024 * math.sin(math.pi * k / 8))) for k in range(16))
"""Directions of a leaf's corners."""


def _draw_natural(index: int, size: int, texture: float) -> NDArray[np.uint8]:
    rng = np.random.RandomState([9, index])
    tint = rng.randint(-12, 13, 3)
    image = Image.new("RGB", (size, size), tuple(int(110 + value) for value in tint))
    draw = ImageDraw.Draw(image)
    for _ in range(round(NUM_LEAVES * texture)):
        # The density of radii falls with their third power, so that every octave covers the same area.
        radius = int(
            1024 * size * SMALLEST_LEAF / math.sqrt(1 - rng.rand() * (1 - (SMALLEST_LEAF / LARGEST_LEAF) ** 2))
        )
        x, y = rng.randint(0, size, 2)
        wide, high = rng.randint(45, 101, 2)
        reaches = rng.randint(75, 101, len(CORNERS))
        corners = [
            (
                int(x + dx * radius * wide * reach // 10**4 // 1024**2),
                int(y + dy * radius * high * reach // 10**4 // 1024**2),
            )
            for (dx, dy), reach in zip(CORNERS, reaches, strict=True)
        ]
        gray = rng.randint(35, 190)
        draw.polygon(corners, fill=tuple(int(value) for value in gray + tint + rng.randint(-14, 15, 3)))
    return (np.asarray(image) + _draw_field(rng, size)[:, :, None]).clip(0, 255).astype(np.uint8)


def _draw_field(rng: np.random.RandomState, size: int) -> NDArray[np.int16]:
    """A gray texture around 0 with the same contrast in every octave."""
    side, cells = min(size, FIELD_PX), 4
    total = np.zeros((side, side), np.int16)
    while cells <= side // 2:
        octave = Image.fromarray(rng.randint(64, 192, (cells, cells)).astype(np.uint8))
        total += np.asarray(octave.resize((side, side), Image.Resampling.BICUBIC), np.int16) - 128
        cells *= 2
    field = Image.fromarray((total // 4 + 128).clip(0, 255).astype(np.uint8))
    return np.asarray(field.resize((size, size), Image.Resampling.BICUBIC), np.int16) - 128


@lru_cache(maxsize=8)
def _find_photos(background: str) -> tuple[Path, ...]:
    """The photographs of a package or folder. Raises ConfigError."""
    if background in SHIPPED:
        return _find_shipped(background)
    folder = Path(background).expanduser()
    if not folder.is_dir():
        kinds = ", ".join((*COMPUTED, *SHIPPED))
        raise ConfigError(
            f"needles: background={background} is neither a kind of background nor a folder",
            hint=f"give one of {kinds}, or a folder of photographs",
        )
    photos = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES))
    if not photos:
        raise ConfigError(
            f"needles: background is {background!r}, a folder without photographs",
            hint=f"put some into it ({', '.join(SUFFIXES)})",
        )
    return photos


def _find_shipped(package: str) -> tuple[Path, ...]:
    place, names = SHIPPED[package]
    module, _, folder = place.partition("/")
    spec = find_spec(module)
    root = None if spec is None or spec.origin is None else Path(spec.origin).parent / folder
    photos = () if root is None else tuple(root / name for name in names if (root / name).is_file())
    if len(photos) < len(names):
        raise ConfigError(
            f"needles: background is {package}, and its photographs are not installed",
            hint=f"pip install {package}, or give a folder of photographs",
        )
    return photos
