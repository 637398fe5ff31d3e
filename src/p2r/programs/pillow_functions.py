"""What programs may call of Pillow and of numpy's arrays."""

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from p2r.programs.pictures import MOST_PIXELS, Picture, check_size, crop
from p2r.programs.values import MethodKey, ProgramError, Value

MODES = ("RGB", "L", "HSV", "YCbCr", "RGBA", "1")
TYPES = ("uint8", "int16", "int32", "float32", "float64")
MOST_RADIUS = 31
"""The largest radius of a filter in pixels."""


def resize(picture: Picture, size: Value, resample: int = 3, **_: Value) -> Picture:
    """Size an image to (width, height)."""
    return picture.made(picture.image.resize(check_size(size), Image.Resampling(resample)))


def rotate(picture: Picture, angle: float, resample: int = 0, expand: bool = False, fillcolor: Value = None) -> Picture:
    """Turn an image by degrees, against the clock."""
    width, height = picture.size
    check_size((width + height, width + height) if expand else (width, height))
    method = Image.Resampling(resample if resample in (0, 2, 3) else 3)
    return picture.made(picture.image.rotate(angle, method, expand=expand, fillcolor=fillcolor), turned=True)


def transpose(picture: Picture, method: int) -> Picture:
    """Mirror an image, or turn it by quarters."""
    return picture.made(picture.image.transpose(Image.Transpose(method)), turned=True)


def convert(picture: Picture, mode: str) -> Picture:
    """Convert an image to another mode."""
    if mode not in MODES:
        raise ProgramError(f"the mode {mode!r} is not offered here")
    return picture.made(picture.image.convert(mode))


def thumbnail(picture: Picture, size: Value, resample: int = 3) -> None:
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


def apply_filter(picture: Picture, how: Value) -> Picture:
    """Filter an image."""
    choice = how if isinstance(how, ImageFilterChoice) else ImageFilterChoice(str(how), ())
    if any(abs(number) > MOST_RADIUS for number in choice.numbers[:1]):
        raise ProgramError(f"the radius of a filter is at most {MOST_RADIUS} pixels here")
    plain = _PLAIN_FILTERS.get(choice.name)
    made = plain() if plain else _FILTERS[choice.name](*choice.numbers)
    return picture.made(picture.image.filter(made))


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
    picture: Picture


def enhance(enhancer: Enhancer, factor: float) -> Picture:
    """Enhance the image by a factor; 1 leaves it as it is."""
    picture = enhancer.picture
    return picture.made(_ENHANCERS[enhancer.name](picture.image).enhance(float(factor)))


def operate(how: Callable[..., Image.Image], *, turned: bool = False) -> Callable[..., Picture]:
    """Offer a function of ImageOps."""
    return lambda picture, *numbers, **named: picture.made(how(picture.image, *numbers, **named), turned=turned)


def to_array(value: Value, dtype: str = "") -> Picture:
    """Return an image, or lists of numbers, as an array."""
    if isinstance(value, Picture):
        return value.made(np.array(value.pixels))
    return astype(Picture(np.array(value)), dtype or "auto")


def astype(picture: Picture, dtype: str) -> Picture:
    """Return an array in other numbers."""
    pixels = picture.array
    if pixels.dtype.kind not in "biuf" or pixels.ndim not in (1, 2, 3):
        raise ProgramError("an array holds numbers, in one to three dimensions")
    return picture if dtype == "auto" else Picture(pixels.astype(check_type(dtype)), picture.region, picture.turned)


def check_type(dtype: Value) -> str:
    """Return the name of a type of numbers. Raises ProgramError for another."""
    if dtype not in TYPES:
        raise ProgramError(f"the numbers {str(dtype)[:50]!r} are not offered here")
    return dtype


def fill(value: float, shape: Value, dtype: str = "float64") -> Picture:
    """Return an array of one value."""
    sides = [shape] if isinstance(shape, int) else [*shape]
    if len(sides) > 3 or not 0 < np.prod([float(side) for side in sides]) <= MOST_PIXELS:
        raise ProgramError("an array is larger than is offered here")
    return Picture(np.full(sides, value, check_type(dtype)))


def stack(pictures: Sequence[Picture], axis: int) -> Picture:
    """Put arrays beside (1) or below (0) each other."""
    first = pictures[0]
    height, width = (sum(picture.size[side] for picture in pictures) for side in (1, 0))
    check_size((width, first.size[1]) if axis else (first.size[0], height))
    return first.made(np.concatenate([picture.array for picture in pictures], axis), turned=True)


def clip(picture: Picture, least: float, most: float) -> Picture:
    """Limit an array's numbers."""
    return picture.made(np.clip(picture.array, least, most))


PILLOW: Mapping[str, Callable[..., Value] | Value] = {
    "Image.fromarray": lambda picture, mode=None: picture.made(Image.fromarray(picture.array)),
    **{f"Image.{item.name}": int(item) for kind in (Image.Resampling, Image.Transpose) for item in kind},
    **{f"Image.Resampling.{item.name}": int(item) for item in Image.Resampling},
    **{f"Image.Transpose.{item.name}": int(item) for item in Image.Transpose},
    "Image.ANTIALIAS": 1,
    **{f"ImageFilter.{name}": name for name in _PLAIN_FILTERS},
    **{f"ImageFilter.{name}": make_filter(name) for name in _FILTERS},
    **{f"ImageEnhance.{name}": (lambda picture, name=name: Enhancer(name, picture)) for name in _ENHANCERS},
    **{
        f"ImageOps.{how.__name__}": operate(how)
        for how in (ImageOps.grayscale, ImageOps.autocontrast, ImageOps.equalize, ImageOps.invert)
    },
    "ImageOps.mirror": operate(ImageOps.mirror, turned=True),
    "ImageOps.flip": operate(ImageOps.flip, turned=True),
    "ImageOps.exif_transpose": lambda picture: picture,
}
"""By the names below PIL."""
NUMPY: Mapping[str, Callable[..., Value] | Value] = {
    "array": to_array,
    "asarray": to_array,
    "clip": clip,
    "ones": lambda shape, dtype="float64": fill(1, shape, dtype),
    "zeros": lambda shape, dtype="float64": fill(0, shape, dtype),
    "rot90": lambda picture, k=1: picture.made(np.rot90(picture.array, int(k) % 4), turned=True),
    "fliplr": lambda picture: picture.made(np.fliplr(picture.array), turned=True),
    "flipud": lambda picture: picture.made(np.flipud(picture.array), turned=True),
    "hstack": lambda pictures: stack(pictures, 1),
    "vstack": lambda pictures: stack(pictures, 0),
    **{
        name: (lambda picture, how=how: float(how(picture.array)))
        for name, how in (("mean", np.mean), ("min", np.min), ("max", np.max), ("std", np.std))
    },
    **{name: name for name in TYPES},
}
"""By the names of numpy."""
METHODS: Mapping[MethodKey, Callable[..., Value]] = {
    (Picture, "crop"): crop,
    (Picture, "resize"): resize,
    (Picture, "rotate"): rotate,
    (Picture, "transpose"): transpose,
    (Picture, "convert"): convert,
    (Picture, "filter"): apply_filter,
    (Picture, "thumbnail"): thumbnail,
    (Picture, "astype"): astype,
    (Picture, "copy"): lambda picture: picture,
    (Picture, "mean"): lambda picture: float(np.mean(picture.array)),
    (Enhancer, "enhance"): enhance,
}
PROPERTIES: Mapping[MethodKey, Callable[[Value], Value]] = {
    (Picture, "shape"): lambda picture: tuple(picture.array.shape),
    (Picture, "size"): lambda picture: (
        int(picture.pixels.size) if isinstance(picture.pixels, np.ndarray) else picture.size
    ),
    (Picture, "width"): lambda picture: picture.image.width,
    (Picture, "height"): lambda picture: picture.image.height,
    (Picture, "mode"): lambda picture: picture.image.mode,
}
