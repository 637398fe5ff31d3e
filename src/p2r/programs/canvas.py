"""The images of a program: opened, cut, sized, turned, enhanced, as cv2, Pillow and numpy name it; by Pillow and numpy.

Pixels are close to OpenCV's, not the same to the bit; its LAB is YCbCr here, which also has a channel for brightness.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p2r.programs.values import ARITHMETIC, ProgramError, Value

Pixels: TypeAlias = NDArray[Any]
Region: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the sides of the image that was given."""
WHOLE_REGION: Region = (0.0, 0.0, 1.0, 1.0)

MOST_PIXELS = 100_000_000
"""The most pixels of an image that a program makes."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Canvas:
    """An image as Pillow has it, or an array as numpy and cv2 have it.

    region: the part of the given image that it shows; None where it shows none.
    turned: rotated or mirrored, so that its sides are no longer those of the region.
    """

    pixels: Image.Image | Pixels
    region: Region | None = None
    turned: bool = False

    def __repr__(self) -> str:
        # numpy leaves most of a large array out
        return "<image {} x {}>".format(*self.size) if isinstance(self.pixels, Image.Image) else str(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        if isinstance(self.pixels, Image.Image):
            return self.pixels.size
        height, width = (*self.pixels.shape, 1, 1)[:2]
        return width, height

    @property
    def array(self) -> Pixels:
        """The array. Raises ProgramError for an image of Pillow's."""
        if isinstance(self.pixels, Image.Image):
            raise ProgramError("a Pillow image is not an array; np.array makes one of it")
        return self.pixels

    @property
    def image(self) -> Image.Image:
        """The Pillow image. Raises ProgramError for an array."""
        if not isinstance(self.pixels, Image.Image):
            raise ProgramError("an array is not a Pillow image; Image.fromarray makes one of it")
        return self.pixels

    def made(self, pixels: Image.Image | Pixels, *, turned: bool = False) -> Canvas:
        """Return an image of the same region that shares no pixels with this one.

        Raises ProgramError for one without pixels, or with too many.
        """
        is_array = isinstance(pixels, np.ndarray)
        is_shared = is_array and isinstance(self.pixels, np.ndarray) and np.may_share_memory(pixels, self.pixels)
        return self.view(
            pixels.copy() if is_shared or (is_array and not pixels.flags.writeable) else pixels, turned=turned
        )

    def view(self, pixels: Image.Image | Pixels, *, turned: bool = False) -> Canvas:
        """Return the same as `made`, with these pixels, which a change of either changes in both."""
        made = replace(self, pixels=pixels, turned=self.turned or turned)
        check_size(made.size)
        return made

    def part(self, pixels: Image.Image | Pixels, window: tuple[float, float, float, float]) -> Canvas:
        """Return a part of the image: its pixels, and where they are (left, top, right, bottom)."""
        return replace(self.view(pixels), region=self._find(window))

    def _find(self, window: tuple[float, float, float, float]) -> Region | None:
        if self.region is None or self.turned:
            return self.region
        (left, top, right, bottom), (width, height) = self.region, self.size
        across, down = (right - left) / width, (bottom - top) / height
        x1, y1, x2, y2 = window
        found = (
            min(max(left + x1 * across, left), right),
            min(max(top + y1 * down, top), bottom),
            min(max(left + x2 * across, left), right),
            min(max(top + y2 * down, top), bottom),
        )
        return found if found[0] < found[2] and found[1] < found[3] else None


def check_size(size: tuple[Value, Value]) -> tuple[int, int]:
    """Return the whole width and height of an image that may be made. Raises ProgramError."""
    width, height = (int(side) for side in size)
    if not (width > 0 and height > 0):
        raise ProgramError(f"an image of {width} x {height} pixels has none")
    if width * height > MOST_PIXELS:
        raise ProgramError(f"an image of {width} x {height} pixels is larger than is offered here")
    return width, height


def to_bytes(pixels: Pixels) -> Pixels:
    """Return an array in numbers from 0 to 255."""
    return pixels if pixels.dtype == np.uint8 else np.clip(pixels, 0, 255).astype(np.uint8)


def change(canvas: Canvas, how: Callable[[Image.Image], Image.Image]) -> Canvas:
    """Change an array as Pillow changes an image. The order of its channels does not matter."""
    return canvas.made(np.asarray(how(Image.fromarray(to_bytes(canvas.array)))))


def crop(canvas: Canvas, box: Value) -> Canvas:
    """Cut a box out of a Pillow image; what lies outside is black. Raises ProgramError."""
    left, top, right, bottom = (round(side) for side in box)
    check_size((right - left, bottom - top))
    return canvas.part(canvas.image.crop((left, top, right, bottom)), (left, top, right, bottom))


def take(canvas: Canvas, places: tuple[Value, ...]) -> Canvas:
    """Take a part of an array by slices of rows, columns, and channels. Raises ProgramError."""
    pixels = canvas.array
    if len(places) > pixels.ndim or not all(isinstance(place, (int, slice)) for place in places):
        raise ProgramError("a part of an image is [top:bottom, left:right]")
    if any(isinstance(place, int) for place in places[:2]):
        raise ProgramError("single pixels are not offered here")
    (height, width), found = pixels.shape[:2], pixels[places]
    spans = [slice(None), slice(None)]
    spans[: len(places[:2])] = places[:2]
    (top, bottom, down), (left, right, across) = (
        span.indices(length) for span, length in zip(spans, (height, width), strict=True)
    )
    check_size((right - left, bottom - top)) if down == across == 1 else None
    if down == across == 1:
        return canvas.part(found, (left, top, right, bottom))
    return canvas.view(found, turned=True)


def put(canvas: Canvas, places: tuple[Value, ...], part: Value) -> None:
    """Change a part of an array to another of its size, or to one number. Raises ProgramError."""
    before = take(canvas, places).array
    after = part.array if isinstance(part, Canvas) else part
    if not isinstance(after, (int, float)) and (not isinstance(part, Canvas) or after.shape != before.shape):
        raise ProgramError("a part of an array is given one number, or an array of its size")
    if not places and not np.can_cast(np.asarray(after).dtype, before.dtype, "same_kind"):
        raise ProgramError(f"numbers of the type {np.asarray(after).dtype} do not fit an array of {before.dtype}")
    before[...] = after


def combine(op: ast.operator, left: Value, right: Value) -> Canvas:
    """Compute with arrays, or with an array and a number. Raises ProgramError."""
    do = ARITHMETIC.get(type(op))
    sides = [side.array if isinstance(side, Canvas) else side for side in (left, right)]
    if do is None or not all(isinstance(side, (int, float, np.ndarray)) for side in sides):
        raise ProgramError(f"{type(op).__name__} of an image is not offered here")
    base: Canvas = left if isinstance(left, Canvas) else right
    shapes = {side.shape for side in sides if isinstance(side, np.ndarray)}
    if len(shapes) > 1:
        raise ProgramError(f"arrays of the shapes {sorted(shapes)} cannot be combined")
    return base.made(do(*sides))
