"""What programs may call of Pillow and of numpy's arrays."""

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from p2r.programs.canvas import MOST_PIXELS, Canvas, Pixels, check_size, crop
from p2r.programs.values import MethodKey, ProgramError, Value

MODES = ("RGB", "L", "HSV", "YCbCr", "RGBA", "1")
TYPES = ("uint8", "int16", "int32", "float32", "float64")
MOST_RADIUS = 31
"""The largest radius of a filter in pixels."""


def resize(canvas: Canvas, size: Value, resample: int = 3, **_: Value) -> Canvas:
    """Size an image to (width, height)."""
    return canvas.made(canvas.image.resize(check_size(size), Image.Resampling(resample)))


def rotate(canvas: Canvas, angle: float, resample: int = 0, expand: bool = False, fillcolor: Value = None) -> Canvas:
    """Turn an image by degrees, against the clock."""
    width, height = canvas.size
    check_size((width + height, width + height) if expand else (width, height))
    method = Image.Resampling(resample if resample in (0, 2, 3) else 3)
    return canvas.made(canvas.image.rotate(angle, method, expand=expand, fillcolor=fillcolor), turned=True)


def transpose(canvas: Canvas, method: int) -> Canvas:
    """Mirror an image, or turn it by quarters."""
    return canvas.made(canvas.image.transpose(Image.Transpose(method)), turned=True)


def convert(canvas: Canvas, mode: str) -> Canvas:
    """Convert an image to another mode."""
    if mode not in MODES:
        raise ProgramError(f"the mode {mode!r} is not offered here")
    return canvas.made(canvas.image.convert(mode))


def thumbnail(canvas: Canvas, size: Value, resample: int = 3) -> None:
    """Refuse to change an image in place."""
    raise ProgramError("thumbnail is not offered here; use resize")


@dataclass(frozen=True, slots=True)
class ImageFilterChoice:
    """A filter of ImageFilter: its name and numbers."""

    name: str
    numbers: tuple[float, ...]


def make_filter(name: str) -> Callable[..., ImageFilterChoice]:
    """Return a function that makes a filter."""
    return lambda *numbers, **named: ImageFilterChoice(name, (*numbers, *named.values()))


def apply_filter(canvas: Canvas, how: Value) -> Canvas:
    """Filter an image."""
    choice = how if isinstance(how, ImageFilterChoice) else ImageFilterChoice(str(how), ())
    if any(abs(number) > MOST_RADIUS for number in choice.numbers[:1]):
        raise ProgramError(f"the radius of a filter is at most {MOST_RADIUS} pixels here")
    plain = _PLAIN_FILTERS.get(choice.name)
    made = plain() if plain else _FILTERS[choice.name](*choice.numbers)
    return canvas.made(canvas.image.filter(made))


_PLAIN_FILTERS: Mapping[str, Callable[[], ImageFilter.BuiltinFilter]] = {
    "SHARPEN": ImageFilter.SHARPEN,
    "DETAIL": ImageFilter.DETAIL,
    "EDGE_ENHANCE": ImageFilter.EDGE_ENHANCE,
    "EDGE_ENHANCE_MORE": ImageFilter.EDGE_ENHANCE_MORE,
    "SMOOTH": ImageFilter.SMOOTH,
    "BLUR": ImageFilter.BLUR,
}
_FILTERS: Mapping[str, Callable[..., ImageFilter.MultibandFilter | ImageFilter.RankFilter | ImageFilter.Filter]] = {
    "GaussianBlur": ImageFilter.GaussianBlur,
    "BoxBlur": ImageFilter.BoxBlur,
    "UnsharpMask": ImageFilter.UnsharpMask,
    "MedianFilter": ImageFilter.MedianFilter,
}
_ENHANCERS: Mapping[str, Callable[[Image.Image], ImageEnhance.Contrast]] = {
    "Contrast": ImageEnhance.Contrast,
    "Brightness": ImageEnhance.Brightness,  # type: ignore[dict-item]
    "Sharpness": ImageEnhance.Sharpness,
    "Color": ImageEnhance.Color,
}


@dataclass(frozen=True, slots=True)
class Enhancer:
    """An enhancer of ImageEnhance, and the image that it was made for."""

    name: str
    canvas: Canvas


def enhance(enhancer: Enhancer, factor: float) -> Canvas:
    """Enhance the image by a factor; 1 leaves it as it is."""
    canvas = enhancer.canvas
    return canvas.made(_ENHANCERS[enhancer.name](canvas.image).enhance(float(factor)))


def operate(how: Callable[..., Image.Image], *, turned: bool = False) -> Callable[..., Canvas]:
    """Offer a function of ImageOps."""
    return lambda canvas, *numbers, **named: canvas.made(how(canvas.image, *numbers, **named), turned=turned)


def to_array(value: Value, dtype: str = "") -> Canvas:
    """Return an image, or lists of numbers, as an array."""
    if isinstance(value, Canvas):
        return astype(value.made(np.array(value.pixels)), dtype or "auto")
    return astype(Canvas(np.array(value)), dtype or "auto")


def astype(canvas: Canvas, dtype: str) -> Canvas:
    """Return an array in other numbers."""
    pixels = canvas.array
    if pixels.dtype.kind not in "biuf" or pixels.ndim not in (1, 2, 3):
        raise ProgramError("an array holds numbers, in one to three dimensions")
    return canvas if dtype == "auto" else Canvas(pixels.astype(check_type(dtype)), canvas.region, canvas.turned)


def check_type(dtype: Value) -> str:
    """Return the name of a type of numbers. Raises ProgramError for another."""
    if dtype not in TYPES:
        raise ProgramError(f"the numbers {str(dtype)[:50]!r} are not offered here")
    return dtype


def fill(value: float, shape: Value, dtype: str = "float64") -> Canvas:
    """Return an array of one value."""
    sides = [shape] if isinstance(shape, int) else [*shape]
    if len(sides) > 3 or not 0 < np.prod([float(side) for side in sides]) <= MOST_PIXELS:
        raise ProgramError("an array is larger than is offered here")
    return Canvas(np.full(sides, value, check_type(dtype)))


def to_numbers(values: Value) -> Pixels:
    """Return the numbers of an array, or of a list. Raises ProgramError."""
    return (values if isinstance(values, Canvas) else to_array(values)).array


def stack(canvases: Sequence[Canvas], axis: int) -> Canvas:
    """Put arrays beside (1) or below (0) each other."""
    first = canvases[0]
    height, width = (sum(canvas.size[side] for canvas in canvases) for side in (1, 0))
    check_size((width, first.size[1]) if axis else (first.size[0], height))
    return first.made(np.concatenate([canvas.array for canvas in canvases], axis), turned=True)


def clip(canvas: Canvas, least: float, most: float) -> Canvas:
    """Limit an array's numbers."""
    return canvas.made(np.clip(canvas.array, least, most))


PILLOW: Mapping[str, Callable[..., Value] | Value] = {
    "Image.fromarray": lambda canvas, mode=None: canvas.made(Image.fromarray(canvas.array)),
    **{f"Image.{item.name}": int(item) for kind in (Image.Resampling, Image.Transpose) for item in kind},
    **{f"Image.Resampling.{item.name}": int(item) for item in Image.Resampling},
    **{f"Image.Transpose.{item.name}": int(item) for item in Image.Transpose},
    "Image.ANTIALIAS": 1,
    **{f"ImageFilter.{name}": name for name in _PLAIN_FILTERS},
    **{f"ImageFilter.{name}": make_filter(name) for name in _FILTERS},
    **{f"ImageEnhance.{name}": (lambda canvas, name=name: Enhancer(name, canvas)) for name in _ENHANCERS},
    **{
        f"ImageOps.{how.__name__}": operate(how)
        for how in (ImageOps.grayscale, ImageOps.autocontrast, ImageOps.equalize, ImageOps.invert)
    },
    "ImageOps.mirror": operate(ImageOps.mirror, turned=True),
    "ImageOps.flip": operate(ImageOps.flip, turned=True),
    "ImageOps.exif_transpose": lambda canvas: canvas,
}
"""The names below PIL."""
NUMPY: Mapping[str, Callable[..., Value] | Value] = {
    "array": to_array,
    "asarray": to_array,
    "clip": clip,
    "ones": lambda shape, dtype="float64": fill(1, shape, dtype),
    "zeros": lambda shape, dtype="float64": fill(0, shape, dtype),
    "rot90": lambda canvas, k=1: canvas.view(np.rot90(canvas.array, int(k) % 4), turned=True),
    "fliplr": lambda canvas: canvas.view(np.fliplr(canvas.array), turned=True),
    "flipud": lambda canvas: canvas.view(np.flipud(canvas.array), turned=True),
    "hstack": lambda canvases: stack(canvases, 1),
    "vstack": lambda canvases: stack(canvases, 0),
    **{
        how.__name__: (lambda values, how=how: how(to_numbers(values)).item())
        for how in (np.mean, np.median, np.min, np.max, np.std, np.sum)
    },
    **{
        name: (lambda number, *digits, name=name: getattr(np, name)(float(number), *digits).item())
        for name in ("sqrt", "floor", "ceil", "round", "sin", "cos", "tan", "radians", "deg2rad", "degrees", "rad2deg")
    },
    "abs": abs,
    "pi": math.pi,
    **{name: name for name in TYPES},
}
"""The names of numpy."""
METHODS: Mapping[MethodKey, Callable[..., Value]] = {
    (Canvas, "crop"): crop,
    (Canvas, "resize"): resize,
    (Canvas, "rotate"): rotate,
    (Canvas, "transpose"): transpose,
    (Canvas, "convert"): convert,
    (Canvas, "filter"): apply_filter,
    (Canvas, "thumbnail"): thumbnail,
    (Canvas, "astype"): astype,
    (Canvas, "close"): lambda canvas: None,
    (Canvas, "copy"): lambda canvas: canvas.made(canvas.pixels),
    (Canvas, "mean"): lambda canvas: float(np.mean(canvas.array)),
    (Enhancer, "enhance"): enhance,
}
PROPERTIES: Mapping[MethodKey, Callable[[Value], Value]] = {
    (Canvas, "shape"): lambda canvas: tuple(canvas.array.shape),
    (Canvas, "size"): lambda canvas: int(canvas.pixels.size) if isinstance(canvas.pixels, np.ndarray) else canvas.size,
    (Canvas, "width"): lambda canvas: canvas.image.width,
    (Canvas, "height"): lambda canvas: canvas.image.height,
    (Canvas, "mode"): lambda canvas: canvas.image.mode,
}
