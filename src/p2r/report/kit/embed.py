"""Images inside a page: sized for the screen, written into the HTML as data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from p2r.images.budget import shrink


@dataclass(frozen=True, slots=True)
class Embedded:
    """An image as a data URI, its size in pixels as embedded, and the size it stands for."""

    uri: str
    width: int
    height: int
    full_width: int
    full_height: int


def embed(image: Image.Image, *, max_side_px: int, quality: int = 80) -> Embedded:
    """`image` as WebP, shrunk to at most `max_side_px` a side and never enlarged.

    Meant for people's eyes: lossy, about 15 kB for 720 x 720 pixels; models are sent other images.
    """
    shown = shrink(image.convert("RGB"), max_side=max_side_px)
    buffer = io.BytesIO()
    shown.save(buffer, "WEBP", quality=quality)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Embedded(f"data:image/webp;base64,{data}", *shown.size, *image.size)
