"""Render scenes to pixels. Backgrounds and shape masks are cached; only the rest is computed for each scene."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from p2r.benchmarks.needles.backgrounds import draw_background
from p2r.benchmarks.needles.codes import draw_plate
from p2r.benchmarks.needles.knobs import Knobs
from p2r.benchmarks.needles.scene import COLORS, Object, Scene

Floats = NDArray[np.float64]

STRIPE_AMPLITUDE = 105
SUPERSAMPLING = 4


def render(scene: Scene) -> Image.Image:
    """Render the scene as an RGB image of side_px x side_px."""
    knobs, side = scene.knobs, scene.knobs.side_px
    top, left = scene.offset
    background = draw_background(knobs.background, scene.background, side, knobs.texture)
    piece = background[top : top + side, left : left + side]
    pixels = np.array(piece[:, ::-1] if scene.mirrored else piece)
    for item in scene.objects:
        _paste(pixels, item, knobs)
    if knobs.noise > 0:
        _add_noise(pixels, knobs.noise, scene.noise_offset)
    return Image.fromarray(pixels)


def _paste(pixels: NDArray[np.uint8], item: Object, knobs: Knobs) -> None:
    mask, size = _shape_mask(item.shape, item.size), item.size
    top, left = item.y - size // 2, item.x - size // 2
    patch = pixels[top : top + size, left : left + size]
    patch[:] = patch * (1 - mask) + np.array(COLORS[item.color], np.float32) * mask
    detail = draw_detail(item, knobs)
    top, left, height, width = place_detail(item, detail.shape[:2])
    pixels[top : top + height, left : left + width] = detail


def draw_detail(item: Object, knobs: Knobs) -> NDArray[np.uint8]:
    """Draw what is on an object: its printed plate or its badge."""
    period_px = knobs.period_share * knobs.side_px
    if item.code is not None:
        return draw_plate(item.code, period_px)
    return _badge(item, round(knobs.detail_share * knobs.side_px), period_px)


def place_detail(item: Object, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return where a detail of this (height, width) lies in the image: top, left, height, width."""
    drop = round(0.08 * item.size) if item.shape == "triangle" else 0
    return item.y - size[0] // 2 + drop, item.x - size[1] // 2, size[0], size[1]


def _badge(item: Object, size: int, period_px: float) -> NDArray[np.uint8]:
    """Draw a gray square of sine stripes. Its mean is 128 for every pattern, so averaged pixels do not reveal it."""
    grid: Floats = np.mgrid[:size, :size] * (2 * math.pi / period_px)
    rows, columns = grid
    shift_x, shift_y = item.phase
    diagonal = (
        0.85  # between 0.71 (same period as the upright stripes) and 1: no alias is left after a bicubic reduction by 4
    )
    waves: dict[str, Callable[[], Floats]] = {
        "horizontal": lambda: np.sin(rows + shift_y),
        "vertical": lambda: np.sin(columns + shift_x),
        "rising": lambda: np.sin((columns + rows) * diagonal + shift_x),
        "falling": lambda: np.sin((columns - rows) * diagonal + shift_x),
        "checked": lambda: np.sin(columns + shift_x) * np.sin(rows + shift_y),
        "plain": lambda: np.zeros_like(rows),
    }
    gray = np.round(128 + STRIPE_AMPLITUDE * waves[item.pattern]()).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


@lru_cache(maxsize=512)
def _shape_mask(shape: str, size: int) -> NDArray[np.float32]:
    """Return the shape's coverage (size, size, 1), from 0 to 1 with soft edges."""
    side = size * SUPERSAMPLING
    image = Image.new("L", (side, side), 0)
    draw, c, r = ImageDraw.Draw(image), side / 2, side / 2 - 2
    if shape == "star":
        radii = [r if corner % 2 == 0 else 0.45 * r for corner in range(10)]
        angles = [corner * math.pi / 5 for corner in range(10)]
        draw.polygon([(c + d * math.sin(a), c - d * math.cos(a)) for d, a in zip(radii, angles, strict=True)], fill=255)
    elif shape == "ring":
        draw.ellipse((c - r, c - r, c + r, c + r), fill=255)
        draw.ellipse((c - 0.66 * r, c - 0.66 * r, c + 0.66 * r, c + 0.66 * r), fill=0)
    elif shape == "square":
        draw.rectangle((c - 0.9 * r, c - 0.9 * r, c + 0.9 * r, c + 0.9 * r), fill=255)
    elif shape == "triangle":
        draw.polygon([(c, c - r), (c + r, c + 0.85 * r), (c - r, c + 0.85 * r)], fill=255)
    elif shape == "cross":
        draw.rectangle((c - 0.34 * r, c - r, c + 0.34 * r, c + r), fill=255)
        draw.rectangle((c - r, c - 0.34 * r, c + r, c + 0.34 * r), fill=255)
    else:
        draw.rectangle((c - r, c - 0.45 * r, c + r, c + 0.45 * r), fill=255)
    coverage = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32)[:, :, None]
    return (coverage / 255).astype(np.float32)


@lru_cache(maxsize=2)
def _grain(noise: float) -> NDArray[np.int16]:
    rng = np.random.RandomState(11)
    return np.round(rng.randn(2048, 2048, 3) * noise).astype(np.int16)


def _add_noise(pixels: NDArray[np.uint8], noise: float, offset: tuple[int, int]) -> None:
    grain, side = _grain(noise), pixels.shape[0]
    for top in range(0, side, 1024):
        for left in range(0, side, 1024):
            tile = pixels[top : top + 1024, left : left + 1024]
            height, width = tile.shape[:2]
            noisy = tile + grain[offset[0] : offset[0] + height, offset[1] : offset[1] + width]
            tile[:] = noisy.clip(0, 255)
