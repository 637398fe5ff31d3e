"""Measure what makes needles honest: one look cannot show the details, and options cannot be guessed.

`measure_detail` renders a scene twice, with its patterns and with all badges plain, and compares what a model sees of
the badges in the two: the difference is all the information that the details carry. `guess_blindly` plays the best
strategies that never look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p2r.benchmarks.needles.render import render
from p2r.benchmarks.needles.scene import Object, Scene
from p2r.dialogue import Budget
from p2r.evidence import crop_rect
from p2r.images.budget import fit
from p2r.statistics import mean_of
from p2r.types import LETTERS, Sample


@dataclass(frozen=True, slots=True)
class Detail:
    """Root mean square of the changes that the details make in the middle of the badges, in gray levels of 255.

    one_look: in the whole image, shown at the budget.
    crop: in a crop of the object, shown at the same budget.
    """

    one_look: float
    crop: float


def measure_detail(scene: Scene, budget: Budget) -> Detail:
    """Measure the details that a model sees at this budget in one look and in a crop with the release's margin."""
    blank = replace(scene, objects=tuple(replace(item, pattern="plain") for item in scene.objects))
    striped = [item for item in scene.objects if item.pattern != "plain"]
    with_details, without = render(scene), render(blank)
    side = scene.knobs.side_px
    whole: list[NDArray[np.float64]] = []
    crops: list[NDArray[np.float64]] = []
    for item in striped:
        rect = crop_rect(item.box(side), side, side)
        whole.append(_badge_difference(with_details, without, (0, 0, side, side), item, scene, budget))
        crops.append(_badge_difference(with_details, without, rect, item, scene, budget))
    return Detail(_root_mean_square(whole), _root_mean_square(crops))


def guess_blindly(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the accuracy on choices of strategies without image and training data; all should be near chance.

    "letter X": always the same letter. "most shared words": the option with most words in common with the others.
    "rarest words": the option with fewest.
    """
    choices = [sample for sample in samples if sample.options]
    letters = LETTERS[: max((len(sample.options) for sample in choices), default=0)]
    scores = {f"letter {letter}": mean_of(sample.target == letter for sample in choices) or 0.0 for letter in letters}
    for name, sign in (("most shared words", 1), ("rarest words", -1)):
        scores[name] = mean_of(sample.target == _by_shared_words(sample.options, sign) for sample in choices) or 0.0
    return scores


def _by_shared_words(options: tuple[str, ...], sign: int) -> str:
    words = Counter(word for option in options for word in option.split())
    shared = [sign * sum(words[word] for word in option.split()) for option in options]
    return LETTERS[shared.index(max(shared))]


def _badge_difference(
    one: Image.Image, other: Image.Image, rect: tuple[int, int, int, int], item: Object, scene: Scene, budget: Budget
) -> NDArray[np.float64]:
    """Return the differences in the middle half of one badge, as a model sees this part of the image."""
    seen = [np.asarray(fit(image.crop(rect), budget), np.float64) for image in (one, other)]
    scale_y, scale_x = seen[0].shape[0] / (rect[3] - rect[1]), seen[0].shape[1] / (rect[2] - rect[0])
    reach = scene.knobs.detail_share * scene.knobs.side_px / 4
    drop = 0.08 * item.size if item.shape == "triangle" else 0.0
    top, bottom = ((item.y + drop - rect[1] + sign * reach) * scale_y for sign in (-1, 1))
    left, right = ((item.x - rect[0] + sign * reach) * scale_x for sign in (-1, 1))
    window = (
        slice(round(top), max(round(bottom), round(top) + 1)),
        slice(round(left), max(round(right), round(left) + 1)),
    )
    return seen[0][window] - seen[1][window]


def _root_mean_square(parts: Sequence[NDArray[np.float64]]) -> float:
    return float(np.sqrt(np.mean(np.concatenate([part.ravel() for part in parts]) ** 2))) if parts else 0.0
