"""The images that a server is shown: charts with one thing to find, and cards of one color."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image

from p2r.benchmarks.needles import Knobs, Needles
from p2r.types import Box, Sample

CARD_COLORS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 70, 220), "yellow": (240, 210, 40)}
EXIF_ORIENTATION = 0x0112
TURNED_RIGHT = 6
"""The value of EXIF's orientation for an image that is stored turned to the left: viewers turn it to the right."""
_KNOBS = Knobs(side_px=768, num_objects=(3, 3), num_distractors=0, noise=0, texture=0, families=("where",))
_SEED = 31_000


@dataclass(frozen=True, slots=True)
class ProbeChart:
    """An image with one thing to find, and where it is."""

    sample: Sample
    image: Image.Image

    @property
    def gold(self) -> Box:
        return self.sample.gold_boxes[0]


@cache
def draw_charts(num: int, side: int) -> tuple[ProbeChart, ...]:
    """Draw square charts. They never change.

    Args:
        side: in pixels.
    """
    samples = Needles(seed=_SEED, num_samples=num, knobs=_KNOBS)
    return tuple(ProbeChart(each, each.image.load().resize((side, side), Image.Resampling.LANCZOS)) for each in samples)


def draw_card(color: str, width: int, height: int) -> Image.Image:
    """Draw an image of one of CARD_COLORS."""
    return Image.new("RGB", (width, height), CARD_COLORS[color])


def to_url(image: Image.Image, kind: str = "png", *, quality: int = 75, is_turned: bool = False) -> str:
    """Write an image into a URL.

    Args:
        kind: "png", "bmp", "webp" (lossless) or "jpeg".
        quality: of JPEG.
        is_turned: store the image turned to the left, with an EXIF entry that says so (JPEG only).
    """
    buffer = io.BytesIO()
    if is_turned:
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = TURNED_RIGHT
        image.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
    elif kind == "jpeg":
        image.save(buffer, "JPEG", quality=quality)
    elif kind == "webp":
        image.save(buffer, "WEBP", lossless=True)
    else:
        image.save(buffer, kind.upper())
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getbuffer()).decode('ascii')}"


def turn_left(box: Box) -> Box:
    """Return where a box is in the image that is turned to the left."""
    return Box(x1=box.y1, y1=1000 - box.x2, x2=box.y2, y2=1000 - box.x1, label=box.label)


def read_colors(text: str) -> Sequence[str]:
    """Return the names of CARD_COLORS in a text, in order."""
    words = "".join(letter if letter.isalpha() else " " for letter in text.lower()).split()
    return [word for word in words if word in CARD_COLORS]
