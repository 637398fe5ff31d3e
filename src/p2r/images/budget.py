"""Sizing images to a model's pixel budget, so that no later resize changes them.

Source: the budget rule is the smart resize of the Qwen-VL family. It exists in two published variants that differ on
thin images (`transformers`: floor may reach one factor only after rounding; `qwen_vl_utils`: sides are at least one
factor first). Ours is the one inside the model family's own processor, `transformers`; the other is kept to compare
with published code.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from typing import Literal

from PIL import Image

from p2r.dialogue import Budget
from p2r.errors import ImageError

MAX_ASPECT_RATIO = 200


def smart_resize(
    height: int, width: int, budget: Budget, *, variant: Literal["transformers", "qwen_vl_utils"] = "transformers"
) -> tuple[int, int]:
    """Return the (height, width) in pixels at which a model with this budget sees a height x width image.

    Where both published rules leave the budget, because least and most are close together or the image is thin, it is
    the shape within the budget that is most like the image's: so no image exceeds the most, and a processor with these
    limits leaves it alone.

    Args:
        variant: which of the two published rules; see the head of this module.

    Raises:
        ImageError: a side has no pixel, or one side is more than 200 times the other.
    """
    if is_too_thin(width, height):
        raise ImageError(
            f"the image is {width} x {height} pixels, one side more than {MAX_ASPECT_RATIO} times the other",
            hint="cut the image into pieces that are less thin",
        )
    size = round_to_budget(height, width, budget, least=budget.factor if variant == "qwen_vl_utils" else 0)
    if budget.min_pixels <= size[0] * size[1] <= budget.max_pixels:
        return size
    return _find_shape(height, width, budget)


def round_to_budget(height: float, width: float, budget: Budget, *, least: int) -> tuple[int, int]:
    """Return what `smart_resize` does, for any shape. Sides are raised to `least` before the area is limited."""
    factor = budget.factor
    fit_height = max(least, round(height / factor) * factor)
    fit_width = max(least, round(width / factor) * factor)
    if fit_height * fit_width > budget.max_pixels:
        shrink = math.sqrt(height * width / budget.max_pixels)
        fit_height = max(factor, math.floor(height / shrink / factor) * factor)
        fit_width = max(factor, math.floor(width / shrink / factor) * factor)
    elif fit_height * fit_width < budget.min_pixels:
        enlarge = math.sqrt(budget.min_pixels / (height * width))
        fit_height = math.ceil(height * enlarge / factor) * factor
        fit_width = math.ceil(width * enlarge / factor) * factor
    return fit_height, fit_width


def _find_shape(height: int, width: int, budget: Budget) -> tuple[int, int]:
    """Return the size within the budget whose shape is most like the image's; of equal ones the largest."""
    area = budget.factor**2
    most = max(1, budget.max_pixels // area)
    least = min(most, math.ceil(budget.min_pixels / area))
    shapes = [
        (rows, columns) for rows in range(1, most + 1) for columns in range(math.ceil(least / rows), most // rows + 1)
    ]

    def unlikeness(shape: tuple[int, int]) -> tuple[float, int, int]:
        rows, columns = shape
        return round(abs(math.log(rows * width / (columns * height))), 9), -rows * columns, abs(rows - columns)

    rows, columns = min(shapes, key=unlikeness)
    return rows * budget.factor, columns * budget.factor


def is_too_thin(width: int, height: int) -> bool:
    """Tell whether the family's processors refuse an image of this shape. Raises ImageError for one without pixels."""
    if min(width, height) < 1:
        raise ImageError(f"the image is {width} x {height} pixels: it has no pixel", hint="use another image")
    return max(height, width) / min(height, width) > MAX_ASPECT_RATIO


def fit(image: Image.Image, budget: Budget) -> Image.Image:
    """Size `image` as a model with this budget sees it (bicubic, as in the family's processor)."""
    height, width = smart_resize(image.height, image.width, budget)
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def shrink(image: Image.Image, *, max_side: int, max_pixels: float = math.inf) -> Image.Image:
    """Size an image down for people or agents, in its shape: to sides of these pixels, and about this area, at most."""
    scale = min(max_side / max(image.size), math.sqrt(max_pixels / (image.width * image.height)))
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def cut(image: Image.Image, rect: tuple[int, int, int, int]) -> Image.Image:
    """Copy the pixels (left, top, right, bottom) of `image`.

    `image.crop` refuses parts as large as a decompression bomb, even of an image that is already decoded.
    """
    left, top, right, bottom = rect
    part = Image.new(image.mode, (right - left, bottom - top))
    part.paste(image, (-left, -top))
    return part


def hash_pixels(image: Image.Image) -> str:
    """Hash an image's mode, size and values, in strips, so that no second copy of a large image is made."""
    digest = hashlib.blake2b(f"{image.mode} {image.size} ".encode(), digest_size=16)
    rows = max(1, (1 << 22) // max(1, image.width))
    for top in range(0, image.height, rows):
        digest.update(image.crop((0, top, image.width, min(image.height, top + rows))).tobytes())
    return digest.hexdigest()


class FullImage:
    """A decoded image and its sized copies, which are kept so that perceiver and evidence share one resize.

    size: (width, height) in pixels.
    decode: decodes the image again when it is wanted after `free`; without it, nothing is ever freed.
    """

    __slots__ = ("_decode", "_decoding", "_fitted", "_image", "size")

    def __init__(self, image: Image.Image, decode: Callable[[], Image.Image] | None = None) -> None:
        self.size = image.size
        self._image: Image.Image | None = image
        self._decode, self._decoding = decode, threading.Lock()
        self._fitted: dict[Budget, Image.Image] = {}

    @property
    def image(self) -> Image.Image:
        """Upright RGB at full resolution; never modified. Raises ImageError when it cannot be decoded again."""
        with self._decoding:
            if self._image is None:
                assert self._decode is not None, "only what can be decoded again is freed"
                self._image = self._decode()
                if self._image.size != self.size:
                    raise ImageError("the image was changed while it was used", hint="leave it as it is, and try again")
            return self._image

    def free(self) -> None:
        """Free the memory of the pixels until they are wanted again."""
        if self._decode is not None:
            with self._decoding:
                self._image = None
                self._fitted.clear()

    def fitted(self, budget: Budget) -> Image.Image:
        """Return the whole image as a model with this budget sees it."""
        if budget not in self._fitted:
            self._fitted[budget] = fit(self.image, budget)
        return self._fitted[budget]
