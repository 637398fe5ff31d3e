"""What programs may call of cv2, by Pillow and numpy. Constants are names here: "BGR2GRAY" for COLOR_BGR2GRAY."""

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from p2r.programs.canvas import Canvas, Pixels, change, check_size, to_bytes
from p2r.programs.values import ProgramError, Value

_RESAMPLING = {"NEAREST": 0, "LINEAR": 2, "CUBIC": 3, "AREA": 4, "LANCZOS4": 1}
_SPACES: Mapping[str, Literal["RGB", "HSV", "YCbCr"]] = {"HSV": "HSV", "LAB": "YCbCr", "YCrCb": "YCbCr", "YUV": "YCbCr"}
MOST_KERNEL = 31
"""The longest side of a filter in pixels."""


def resize(
    src: Canvas, dsize: Value = None, dst: None = None, fx: float = 0, fy: float = 0, interpolation: str = "LINEAR"
) -> Canvas:
    """Size an image to (width, height), or by factors."""
    width, height = src.size
    size = check_size(
        dsize if dsize is not None and tuple(dsize) != (0, 0) else (round(width * fx), round(height * fy))
    )
    method = Image.Resampling(_RESAMPLING[interpolation])
    return change(src, lambda image: image.resize(size, method))


def rotate(src: Canvas, rotate_code: str) -> Canvas:
    """Turn an image by quarters."""
    quarters = {"90_CLOCKWISE": 3, "180": 2, "90_COUNTERCLOCKWISE": 1}[rotate_code]
    return src.made(np.rot90(src.array, quarters).copy(), turned=True)


def flip(src: Canvas, code: int) -> Canvas:
    """Mirror an image: 0 upside down, 1 left to right, -1 both."""
    axes = (0,) if code == 0 else (1,) if code > 0 else (0, 1)
    return src.made(np.flip(src.array, axes).copy(), turned=True)


def find_rotation(center: Sequence[float], angle: float, scale: float) -> list[list[float]]:
    """Return the matrix of a rotation, as getRotationMatrix2D does."""
    across, down = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    x, y = center
    return [
        [float(across), float(down), float((1 - across) * x - down * y)],
        [float(-down), float(across), float(down * x + (1 - across) * y)],
    ]


def warp(src: Canvas, matrix: Value, dsize: Value, **_: Value) -> Canvas:
    """Move an image by a matrix of 2 x 3."""
    full = np.linalg.inv(np.array([*matrix, [0, 0, 1]], dtype=float))
    size, data = check_size(dsize), [float(number) for number in full[:2].ravel()]
    moved = change(src, lambda image: image.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR))
    return moved.made(moved.pixels, turned=True)


def convert(src: Canvas, code: str) -> Canvas:
    """Convert colors, such as "BGR2GRAY"."""
    before, _, after = code.partition("2")
    pixels = to_bytes(src.array)
    if before == "GRAY":
        return src.made(np.stack([pixels] * 3, axis=-1))
    pixels = pixels[..., :3]
    if before in _SPACES:
        rgb = np.asarray(Image.fromarray(pixels, mode=_SPACES[before]).convert("RGB"))
    else:
        rgb = pixels[..., ::-1] if before.startswith("BGR") else pixels
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if after == "GRAY":
        return src.made(np.asarray(image.convert("L")))
    if after in _SPACES:
        return src.made(np.asarray(image.convert(_SPACES[after])))
    return src.made(np.ascontiguousarray(rgb[..., ::-1] if after.startswith("BGR") else rgb))


def scale_contrast(src: Canvas, dst: None = None, alpha: float = 1, beta: float = 0) -> Canvas:
    """Return |alpha * image + beta|, at most 255."""
    return src.made(to_bytes(np.abs(src.array.astype(np.float32) * alpha + beta).round()))


def add_weighted(src1: Canvas, alpha: float, src2: Canvas, beta: float, gamma: float, *_: Value) -> Canvas:
    """Return the weighted sum of two images of one size."""
    if src1.array.shape != src2.array.shape:
        raise ProgramError("the two images have different sizes")
    total = src1.array.astype(np.float32) * alpha + src2.array.astype(np.float32) * beta + gamma
    return src1.made(to_bytes(total.round()))


def find_threshold(src: Canvas, thresh: float, maxval: float, kind: str) -> tuple[float, Canvas]:
    """Return the threshold ("OTSU" finds it) and the image in two values."""
    pixels = to_bytes(src.array)
    if "OTSU" in kind:
        counts = np.bincount(pixels.ravel(), minlength=256).astype(float)
        weight, total = counts.cumsum(), (counts * np.arange(256)).cumsum()
        with np.errstate(all="ignore"):
            spread = (total[-1] * weight / weight[-1] - total) ** 2 / (weight * (weight[-1] - weight))
        thresh = float(np.nan_to_num(spread, posinf=0).argmax())
    return float(thresh), src.made(_choose(pixels > thresh, maxval, kind))


def adapt_threshold(src: Canvas, maxval: float, _: str, kind: str, block: int, less: float) -> Canvas:
    """Compare each pixel with those around it."""
    pixels = to_bytes(src.array).astype(np.float32)
    around = np.asarray(Image.fromarray(to_bytes(src.array)).filter(ImageFilter.BoxBlur(block // 2)), dtype=np.float32)
    return src.made(_choose(pixels > around - less, maxval, kind))


def _choose(is_above: Pixels, maxval: float, kind: str) -> Pixels:
    return to_bytes(np.where(is_above != kind.startswith("BINARY_INV"), maxval, 0))


def filter_by(src: Canvas, ddepth: int, kernel: Value, **_: Value) -> Canvas:
    """Filter an image by a kernel."""
    weights = np.array(kernel.array if isinstance(kernel, Canvas) else kernel, dtype=np.float32)
    if weights.ndim != 2 or max(weights.shape) > MOST_KERNEL:
        raise ProgramError(f"the kernel of a filter has at most {MOST_KERNEL} x {MOST_KERNEL} numbers")
    rows, columns = weights.shape
    edges = [(rows // 2, rows - 1 - rows // 2), (columns // 2, columns - 1 - columns // 2)]
    pixels = src.array.astype(np.float32)
    padded = np.pad(pixels, edges + [(0, 0)] * (pixels.ndim - 2), mode="reflect")
    total = np.zeros_like(pixels)
    for row, column in np.argwhere(weights):
        total += weights[row, column] * padded[row : row + pixels.shape[0], column : column + pixels.shape[1]]
    return src.made(to_bytes(total.round()))


def blur(src: Canvas, ksize: Sequence[int], sigma: float = 0, **_: Value) -> Canvas:
    """Blur an image by a bell of a size in pixels."""
    radius = sigma or 0.3 * ((ksize[0] - 1) * 0.5 - 1) + 0.8
    return change(src, lambda image: image.filter(ImageFilter.GaussianBlur(min(radius, MOST_KERNEL))))


def blur_evenly(src: Canvas, ksize: Value, **_: Value) -> Canvas:
    """Blur an image by a square, or take the median of it for a single number."""
    if isinstance(ksize, int):
        return change(src, lambda image: image.filter(ImageFilter.MedianFilter(min(ksize, MOST_KERNEL))))
    return change(src, lambda image: image.filter(ImageFilter.BoxBlur(min(ksize[0] // 2, MOST_KERNEL))))


def equalize(src: Canvas) -> Canvas:
    """Use all values of a gray image equally."""
    return change(src, ImageOps.equalize)


@dataclass(frozen=True, slots=True)
class LocalEqualizer:
    """Equalizes each tile of a gray image by itself, and none by more than a limit: what createCLAHE returns."""

    limit: float
    tiles: tuple[int, int]

    def apply(self, src: Canvas) -> Canvas:
        """Equalize a gray image."""
        pixels = to_bytes(src.array)
        if pixels.ndim != 2:
            raise ProgramError("CLAHE takes a gray image")
        (height, width), (across, down) = pixels.shape, (min(max(int(tiles), 1), 32) for tiles in self.tiles)
        rows, columns = np.arange(height) * down // height, np.arange(width) * across // width
        tables = np.stack(
            [
                [self._table(pixels[rows == row][:, columns == column]) for column in range(across)]
                for row in range(down)
            ]
        )
        y, x = (np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1) for n, m in ((height, down), (width, across)))
        total = np.zeros(pixels.shape, np.float32)
        for row, by_row in ((np.floor(y), 1 - y % 1), (np.ceil(y), y % 1)):
            for column, by_column in ((np.floor(x), 1 - x % 1), (np.ceil(x), x % 1)):
                found = tables[row.astype(int)[:, None], column.astype(int)[None], pixels]
                total += found * np.outer(by_row, by_column).astype(np.float32)
        return src.made(to_bytes(total.round()))

    def _table(self, tile: Pixels) -> Pixels:
        counts = np.bincount(tile.ravel(), minlength=256).astype(np.float32)
        most = max(self.limit * tile.size / 256, 1) if self.limit > 0 else tile.size
        clipped = np.minimum(counts, most)
        return (clipped + (counts - clipped).sum() / 256).cumsum() * (255 / max(tile.size, 1))


def make_local_equalizer(clipLimit: float = 40, tileGridSize: tuple[int, int] = (8, 8)) -> LocalEqualizer:
    """Make what createCLAHE returns."""
    return LocalEqualizer(clipLimit, tileGridSize)


CV2: Mapping[str, Callable[..., Value] | Value] = {
    "resize": resize,
    "rotate": rotate,
    "flip": flip,
    "getRotationMatrix2D": find_rotation,
    "warpAffine": warp,
    "cvtColor": convert,
    "convertScaleAbs": scale_contrast,
    "addWeighted": add_weighted,
    "threshold": find_threshold,
    "adaptiveThreshold": adapt_threshold,
    "filter2D": filter_by,
    "GaussianBlur": blur,
    "medianBlur": blur_evenly,
    "blur": blur_evenly,
    "equalizeHist": equalize,
    "createCLAHE": make_local_equalizer,
    "bitwise_not": lambda src: src.made(255 - to_bytes(src.array)),
    "split": lambda src: [src.made(np.ascontiguousarray(src.array[..., i])) for i in range(src.array.shape[-1])],
    "merge": lambda parts: parts[0].made(np.stack([part.array for part in parts], axis=-1)),
    "IMWRITE_JPEG_QUALITY": 1,
    "IMWRITE_PNG_COMPRESSION": 16,
    "IMREAD_COLOR": "COLOR",
    "IMREAD_UNCHANGED": "COLOR",
    "IMREAD_GRAYSCALE": "GRAY",
    **{f"INTER_{name}": name for name in _RESAMPLING},
    **{f"ROTATE_{name}": name for name in ("90_CLOCKWISE", "180", "90_COUNTERCLOCKWISE")},
    **{f"THRESH_{name}": name for name in ("BINARY", "BINARY_INV", "OTSU")},
    **{f"ADAPTIVE_THRESH_{name}_C": name for name in ("MEAN", "GAUSSIAN")},
    **{
        f"COLOR_{before}2{after}": f"{before}2{after}"
        for before in ("BGR", "RGB", "GRAY", *_SPACES)
        for after in ("BGR", "RGB", "GRAY", *_SPACES)
        if before != after
    },
}
"""The names of cv2, without reading and writing, which are the folder's."""
