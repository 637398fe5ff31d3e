"""Pictures: load them upright, and size them to a model's pixel budget so that no later resize changes them.

Source: the budget rule is the smart resize of the Qwen-VL family. It exists in two published variants that differ on thin
images (`transformers`: floor may reach one factor only after rounding; `qwen_vl_utils`: sides are at least one factor first).
Ours is the one inside the model family's own processor, `transformers`; the other is kept to compare with published code.
"""

from __future__ import annotations

import math
from typing import Literal

from PIL import Image

from p2r.errors import ImageError
from p2r.types import Budget

MAX_ASPECT_RATIO = 200


def smart_resize(
    height: int, width: int, budget: Budget, *, variant: Literal["transformers", "qwen_vl_utils"] = "transformers"
) -> tuple[int, int]:
    """The (height, width) in pixels at which a model with this budget sees a height x width picture.

    Raises:
        ImageError: one side is more than 200 times the other.
    """
    if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise ImageError(
            f"the picture is {width} x {height} pixels, one side more than {MAX_ASPECT_RATIO} times the other",
            hint="cut it into pieces that are less thin",
        )
    factor, least = budget.factor, (budget.factor if variant == "qwen_vl_utils" else 0)
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


def fit(image: Image.Image, budget: Budget) -> Image.Image:
    """`image` at the size at which a model with this budget sees it (bicubic, as in the family's processor)."""
    height, width = smart_resize(image.height, image.width, budget)
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


class Picture:
    """A decoded picture, with its sized version kept so that perceiver and evidence share one resize.

    image: upright RGB at full resolution; never modified.
    """

    __slots__ = ("_fitted", "image")

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self._fitted: dict[Budget, Image.Image] = {}

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.size

    def fitted(self, budget: Budget) -> Image.Image:
        """The whole picture as a model with this budget sees it."""
        if budget not in self._fitted:
            self._fitted[budget] = fit(self.image, budget)
        return self._fitted[budget]
