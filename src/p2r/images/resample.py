"""A window of a resized image without resizing the rest, equal bit for bit to Pillow's bicubic resize.

Used to redraw only what box lines touch of an image that has already been sized. Pillow's own `resize(box=...)`
cannot do it exactly: it keeps the corners of its box as 32-bit floats, so that a window that begins between two
source pixels gets other weights, and Pillow 13 takes its order of passes from the window's shape (together off by up
to 4 of 255 on noise). Here the weights are Pillow's: computed in 64-bit floats from the whole image's geometry, rounded
to 22-bit fixed point, applied in Pillow's order for the whole image, each pass rounded to a byte. A pass is a few
small matrix products of integers held as float64, which are exact in whatever order they are summed.

Shapes: C bands, H rows, W columns; along the resized axis I pixels of the source, O of the result, K taps; M values
across it.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# numpy's methods are only partly typed.

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import PIL
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.intp]

Rect = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels, right and bottom exclusive."""

_SUPPORT_PX = 2.0
_FIXED_POINT = 2.0**22
_BLOCK_PX = 16
_PILLOW_CHOOSES_ORDER = int(PIL.__version__.split(".")[0]) >= 13


def resize_window(
    read: Callable[[Rect], Image.Image], size: tuple[int, int], new_size: tuple[int, int], window: Rect
) -> Image.Image:
    """Return `image.resize(new_size, BICUBIC).crop(window)`, computed from the few pixels that it depends on.

    Args:
        read: returns the RGB pixels of a rectangle of the image; called once.
        size: (width, height) of the image.
        new_size: (width, height) of the whole result.
        window: the part of the result that is wanted, not empty and inside it.
    """
    left, top, right, bottom = window
    columns, rows = _Span(size[0], new_size[0], left, right), _Span(size[1], new_size[1], top, bottom)
    (x_start, x_stop), (y_start, y_stop) = columns.source_range(), rows.source_range()
    bytes_HWC = np.asarray(read((x_start, y_start, x_stop, y_stop)))
    pixels_HCW = bytes_HWC.transpose(0, 2, 1).astype(np.float64, order="C")
    if _runs_vertical_first(size, new_size):
        pixels_HCW = _resample_columns(_resample_rows(pixels_HCW, rows), columns)
    else:
        pixels_HCW = _resample_rows(_resample_columns(pixels_HCW, columns), rows)
    return Image.fromarray(pixels_HCW.transpose(0, 2, 1).astype(np.uint8, order="C"))


def touched_range(length: int, new_length: int, start: int, stop: int) -> tuple[int, int]:
    """Return the pixels [first, last) of the result that depend on pixels [start, stop) of the source, along one axis.

    The range is clipped to the result; it is empty (first >= last) when the source range lies outside the image.
    """
    if start >= length or stop <= 0 or start >= stop:
        return 0, 0
    scale = length / new_length
    reach = _SUPPORT_PX * max(scale, 1.0) + 0.5
    first, last = math.floor((start - reach) / scale - 0.5), math.ceil((stop + reach) / scale + 0.5)
    return max(first, 0), min(last, new_length)


@cache
def agrees_with_pillow() -> bool:
    """Tell whether the installed Pillow computes as this module does; other builds (Pillow-SIMD) round differently."""
    shapes = (((83, 61), (32, 32)), ((83, 61), (160, 96)), ((20, 90), (15, 41)))
    return all(_equals_pillow(size, new_size) for size, new_size in shapes)


def forget_weights() -> None:
    """Empty the caches of filter weights, to measure a first call or to free their memory (at most about 20 MB)."""
    _block_weights.cache_clear()
    _axis_taps.cache_clear()


def _equals_pillow(size: tuple[int, int], new_size: tuple[int, int]) -> bool:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image, window = Image.fromarray(noise), (2, 3, new_size[0] - 1, new_size[1])
    ours = resize_window(image.crop, size, new_size, window)
    return ours.tobytes() == image.resize(new_size, Image.Resampling.BICUBIC).crop(window).tobytes()


def _runs_vertical_first(size: tuple[int, int], new_size: tuple[int, int]) -> bool:
    """Tell whether Pillow shrinks the height first: Pillow 13 where the height loses more than twice as much,
    earlier ones only for very tall images."""
    lost_rows, lost_columns = size[1] - new_size[1], size[0] - new_size[0]
    if not _PILLOW_CHOOSES_ORDER:
        return lost_rows > 0 and size[1] > 100 * size[0]
    return lost_rows > 0 and lost_rows > 2 * lost_columns


class _Span(NamedTuple):
    """Pixels [start, stop) of an axis that is resized from `length` to `new_length`."""

    length: int
    new_length: int
    start: int
    stop: int

    def source_range(self) -> tuple[int, int]:
        """Return the source pixels [first, last) that the span is made of."""
        scale = self.length / self.new_length
        support = _SUPPORT_PX * max(scale, 1.0)
        first, last = (self.start + 0.5) * scale, (self.stop - 0.5) * scale
        return max(int(first - support + 0.5), 0), min(int(last + support + 0.5), self.length)


def _resample_columns(pixels_HCW: Floats, span: _Span) -> Floats:
    height, bands, width = pixels_HCW.shape
    source_MI = pixels_HCW.reshape(height * bands, width)
    result_MO = np.empty((height * bands, span.stop - span.start))
    for outputs, inputs, weights_OI in _products(span):
        np.matmul(source_MI[:, inputs], weights_OI.T, out=result_MO[:, outputs])
    return _round_to_bytes(result_MO).reshape(height, bands, -1)


def _resample_rows(pixels_HCW: Floats, span: _Span) -> Floats:
    height, bands, width = pixels_HCW.shape
    source_IM = pixels_HCW.reshape(height, bands * width)
    result_OM = np.empty((span.stop - span.start, bands * width))
    for outputs, inputs, weights_OI in _products(span):
        np.matmul(weights_OI, source_IM[inputs], out=result_OM[outputs])
    return _round_to_bytes(result_OM).reshape(-1, bands, width)


def _products(span: _Span) -> Iterator[tuple[slice, slice, Floats]]:
    """Yield (pixels of the span, pixels of its source range, weights) to multiply, in blocks of _BLOCK_PX or fewer."""
    source_start, source_stop = span.source_range()
    for block in range(span.start // _BLOCK_PX, (span.stop - 1) // _BLOCK_PX + 1):
        block_start, weights = block * _BLOCK_PX, _block_weights(span.length, span.new_length, block)
        first, last = max(span.start, block_start), min(span.stop, block_start + _BLOCK_PX)
        begin, end = max(source_start, weights.start), min(source_stop, weights.start + weights.matrix_OI.shape[1])
        yield (
            slice(first - span.start, last - span.start),
            slice(begin - source_start, end - source_start),
            weights.matrix_OI[first - block_start : last - block_start, begin - weights.start : end - weights.start],
        )


def _round_to_bytes(values: Floats) -> Floats:
    values += 0.5
    np.floor(values, out=values)
    np.maximum(values, 0.0, out=values)
    return np.minimum(values, 255.0, out=values)


class _Weights(NamedTuple):
    """Weights of O pixels of the result, multiples of 2**-22; start: the source pixel of the first column."""

    matrix_OI: Floats
    start: int


@lru_cache(maxsize=512)
def _block_weights(length: int, new_length: int, block: int) -> _Weights:
    """Return the weights of the result's pixels [block * _BLOCK_PX, ...), about 10 to 30 kB at common sizes."""
    taps_OK, lows_O = _axis_taps(length, new_length)
    rows = slice(block * _BLOCK_PX, (block + 1) * _BLOCK_PX)
    taps_OK, lows_O = taps_OK[rows], lows_O[rows]
    num_rows, num_taps = taps_OK.shape
    start = int(lows_O[0])
    matrix_OI = np.zeros((num_rows, int(lows_O[-1]) + num_taps - start))
    columns_OK = (lows_O - start)[:, None] + np.arange(num_taps)
    matrix_OI[np.arange(num_rows)[:, None], columns_OK] = taps_OK
    return _Weights(matrix_OI, start)


@lru_cache(maxsize=8)
def _axis_taps(length: int, new_length: int) -> tuple[Floats, Integers]:
    """Return, for each of O pixels of the result, the weights of K neighboring source pixels and the first of these.

    Weights beyond the filter or the image are 0.
    """
    scale = length / new_length
    filter_scale = max(scale, 1.0)
    support = _SUPPORT_PX * filter_scale
    centers_O = (np.arange(new_length, dtype=np.float64) + 0.5) * scale
    lows_O = np.maximum(np.trunc(centers_O - support + 0.5), 0.0)
    highs_O = np.minimum(np.trunc(centers_O + support + 0.5), length)
    sources_OK = lows_O[:, None] + np.arange(int((highs_O - lows_O).max()))
    distances_OK = np.abs((sources_OK - centers_O[:, None] + 0.5) * (1.0 / filter_scale))
    taps_OK = np.where(sources_OK < highs_O[:, None], _bicubic(distances_OK), 0.0)
    taps_OK /= np.cumsum(taps_OK, axis=1)[:, -1:]  # summed from left to right as in Pillow; np.sum has another order
    return np.trunc(taps_OK * _FIXED_POINT + np.copysign(0.5, taps_OK)) / _FIXED_POINT, lows_O.astype(np.intp)


def _bicubic(distances: Floats) -> Floats:
    """Evaluate Keys' cubic with a = -0.5 at distances >= 0."""
    a, x = -0.5, distances
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
