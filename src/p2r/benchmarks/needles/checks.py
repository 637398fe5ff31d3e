"""Measure what makes needles honest: one look cannot show the details, and options cannot be guessed.

`measure_detail` renders a scene twice, with its patterns or codes and with all badges plain or plates empty, and
compares what a model sees of them in the two: the difference is all the information that the details carry.
`read_with_templates` is a reader that knows every candidate. `guess_blindly` plays the best strategies that never look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p2r.benchmarks.needles.render import draw_detail, place_detail, render
from p2r.benchmarks.needles.scene import Object, Scene
from p2r.dialogue import Budget
from p2r.evidence import crop_rect
from p2r.images.budget import fit
from p2r.images.resample import Rect
from p2r.statistics import mean_of
from p2r.types import LETTERS, Sample


@dataclass(frozen=True, slots=True)
class Detail:
    """Root mean square of the changes that the details make in the middle of badges and plates, in gray levels of 255.

    one_look: in the whole image, shown at the budget.
    crop: in a crop of the object, shown at the same budget.
    """

    one_look: float
    crop: float


def measure_detail(scene: Scene, budget: Budget) -> Detail:
    """Measure the details that a model sees at this budget in one look and in a crop with the release's margin."""
    blank = replace(scene, objects=tuple(map(_make_plain, scene.objects)))
    detailed = [item for item in scene.objects if item != _make_plain(item)]
    with_details, without = render(scene), render(blank)
    side = scene.knobs.side_px

    def compare(rect: Rect) -> NDArray[np.float64]:
        return _see(with_details, rect, budget) - _see(without, rect, budget)

    whole_rect = (0, 0, side, side)
    difference = compare(whole_rect)
    whole = [_cut_detail(difference, whole_rect, item, scene, margin=0.25) for item in detailed]
    rects = [crop_rect(item.box(side), side, side) for item in detailed]
    crops = [
        _cut_detail(compare(rect), rect, item, scene, margin=0.25) for item, rect in zip(detailed, rects, strict=True)
    ]
    return Detail(_root_mean_square(whole), _root_mean_square(crops))


def read_with_templates(
    scene: Scene, subject: int, candidates: Sequence[Object], budget: Budget, *, in_crop: bool
) -> Object:
    """Return the candidate that the subject looks most like, to a reader that knows how each looks without noise.

    It has the exact scene but for this object and the noise; no model knows so much.

    Args:
        candidates: the subject with several details.
        in_crop: show it a crop of the object with the release's margin, in place of the whole image.
    """
    side = scene.knobs.side_px
    rect = crop_rect(scene.objects[subject].box(side), side, side) if in_crop else (0, 0, side, side)
    quiet = scene.knobs.model_copy(update={"noise": 0.0})

    def see(scene: Scene, item: Object) -> NDArray[np.float64]:
        return _cut_detail(_see(render(scene), rect, budget), rect, item, scene, margin=0.0)

    def measure(candidate: Object) -> float:
        objects = (*scene.objects[:subject], candidate, *scene.objects[subject + 1 :])
        return float(((see(replace(scene, objects=objects, knobs=quiet), candidate) - seen) ** 2).sum())

    seen = see(scene, scene.objects[subject])
    return min(candidates, key=measure)


def guess_blindly(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the accuracy on choices of strategies without image and training data; all should be near chance.

    "letter X": always the same letter. "most shared words": the option with most words in common with the others.
    "rarest words": the option with fewest. "most shared characters", "rarest characters": the same by characters at
    equal places. "option X": always the option X, where all samples have the same few.
    """
    choices = [sample for sample in samples if sample.options]
    letters = LETTERS[: max((len(sample.options) for sample in choices), default=0)]
    scores = {f"letter {letter}": mean_of(sample.target == letter for sample in choices) or 0.0 for letter in letters}
    for parts, split in (("words", str.split), ("characters", _split_characters)):
        for name, sign in ((f"most shared {parts}", 1), (f"rarest {parts}", -1)):
            scores[name] = (
                mean_of(sample.target == _by_shared(sample.options, split, sign) for sample in choices) or 0.0
            )
    same = {tuple(sorted(sample.options)) for sample in choices}
    for option in same.pop() if len(same) == 1 else ():
        scores[f"option {option}"] = mean_of(_states(sample, option) for sample in choices) or 0.0
    return scores


def _make_plain(item: Object) -> Object:
    """The object without its detail: with a plain badge or an empty plate."""
    return replace(item, pattern="plain") if item.code is None else replace(item, code="")


def _states(sample: Sample, option: str) -> bool:
    return sample.target == LETTERS[sample.options.index(option)]


def _split_characters(option: str) -> list[str]:
    return [f"{place}{character}" for place, character in enumerate(option)]


def _by_shared(options: tuple[str, ...], split: Callable[[str], list[str]], sign: int) -> str:
    parts = Counter(part for option in options for part in split(option))
    shared = [sign * sum(parts[part] for part in split(option)) for option in options]
    return LETTERS[shared.index(max(shared))]


def _see(image: Image.Image, rect: Rect, budget: Budget) -> NDArray[np.float64]:
    """Return this part of the image as a model sees it."""
    return np.asarray(fit(image.crop(rect), budget), np.float64)


def _cut_detail(
    seen: NDArray[np.float64], rect: Rect, item: Object, scene: Scene, *, margin: float
) -> NDArray[np.float64]:
    """Return a badge or plate, without a margin (a share of its sides), out of what is seen of a part of the image."""
    scale_y, scale_x = seen.shape[0] / (rect[3] - rect[1]), seen.shape[1] / (rect[2] - rect[0])
    top, left, height, width = place_detail(item, draw_detail(item, scene.knobs).shape)
    rows = [round((top - rect[1] + share * height) * scale_y) for share in (margin, 1 - margin)]
    columns = [round((left - rect[0] + share * width) * scale_x) for share in (margin, 1 - margin)]
    return seen[rows[0] : max(rows[1], rows[0] + 1), columns[0] : max(columns[1], columns[0] + 1)]


def _root_mean_square(parts: Sequence[NDArray[np.float64]]) -> float:
    return float(np.sqrt(np.mean(np.concatenate([part.ravel() for part in parts]) ** 2))) if parts else 0.0
