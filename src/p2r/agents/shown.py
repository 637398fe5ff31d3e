"""The images of a tool's result, sized and written so that agents take them.

Clients and the services behind them refuse results of more than a megabyte, and images of more than some 2,000 pixels a
side once there are many in a chat; what they size down themselves nobody is told of. So it is done here, and told.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from p2r.images.budget import shrink

MOST_SIDE = 2000
"""The most pixels of a side."""
MOST_BYTES = 700_000
"""The most bytes of all images together; as base64, they take a third more."""
PNG_BYTES = 300_000
"""A larger image is sent as JPEG."""
_QUALITIES = (90, 75)


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image as it is sent.

    kind: "png" or "jpeg". wh: its (width, height) in pixels.
    """

    data: bytes
    kind: str
    wh: tuple[int, int]

    @property
    def base64(self) -> str:
        """Its bytes as text."""
        return base64.b64encode(self.data).decode("ascii")


def show_images(images: Sequence[Image.Image], most_pixels: int) -> list[ShownImage]:
    """Write the images of a result, each of about `most_pixels` pixels at most, and with its share of the bytes."""
    return [_write(image, most_pixels, MOST_BYTES // len(images)) for image in images]


def _write(image: Image.Image, most_pixels: int, most_bytes: int) -> ShownImage:
    """Write an image without loss where it is small enough, else as JPEG, and smaller until it fits."""
    image = shrink(image, max_side=MOST_SIDE, max_pixels=most_pixels)
    data = _encode(image, "png")
    if len(data) <= min(PNG_BYTES, most_bytes):
        return ShownImage(data, "png", image.size)
    while True:
        for quality in _QUALITIES:
            data = _encode(image, "jpeg", quality=quality)
            if len(data) <= most_bytes:
                return ShownImage(data, "jpeg", image.size)
        image = shrink(image, max_side=MOST_SIDE, max_pixels=image.width * image.height / 2)


def _encode(image: Image.Image, kind: str, **options: int) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()
