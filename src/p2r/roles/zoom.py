"""A perceiver that searches parts of parts of the image by yes-no questions, closer and closer to the answer.

This is a training-free visual search in the manner of ZoomEye (Shen et al., 2025), one of the paper's baselines. The
image is quartered, and each quarter again. The model is asked about every part: is the thing in question in it, and may
it show on a closer look? The most promising part is opened next, until the question can be answered from one. Only the
probabilities of "Yes" and "No" as the first word are read. Limits and weights are ZoomEye's published settings, which
depend on the model; docs/deviations.md lists the differences.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from p2r.dialogue import Budget, Decoding, Model, Prompt
from p2r.errors import ModelError
from p2r.evidence import annotate_fitted
from p2r.images.budget import FullImage, cut, fit
from p2r.prompts import PromptSet
from p2r.roles.base import WHOLE, complete, hash_role
from p2r.roles.parts import count_levels, longer_side_px, split
from p2r.types import Box, Completion, Perception, Sample

CUES = Decoding(max_new_tokens=64)
YES_OR_NO = Decoding(max_new_tokens=1, first_words=("Yes", "No"))
OVERVIEW_TOKENS = 256
"""Most visual tokens of the whole image when it is shown beside a part."""
SURROUNDINGS = 0.1
"""The surroundings shown on each side of a part, as a share of its width or height."""


@dataclass(frozen=True, slots=True)
class Search:
    """The limits of a search. Confidences go from -1 (surely not) to 1 (surely).

    enough: the search ends at a part from which the question can be answered with this confidence.
    least: the search fails when `enough` falls below this confidence.
    steps: by how much `enough` falls each time patience runs out; the last step is repeated.
    patience: the parts to open before the first fall, per level of the search; two more before each further fall.
    max_levels: how often the image is quartered.
    smallest_px: parts whose longer side is shorter are not quartered.
    sight: the weight of what is seen, against what may show on a closer look, at the top; it grows to 1 at the bottom.
    max_cues: most things to look for; each has its own search.
    """

    enough: float = 0.95
    least: float = 0.0
    steps: tuple[float, ...] = (0.05, 0.1, 0.2)
    patience: int = 3
    max_levels: int = 5
    smallest_px: int = 448
    sight: float = 0.6
    max_cues: int = 3


QWEN_VL, LLAVA = Search(), Search(enough=0.6, steps=(0.1, 0.1, 0.2))
INTERN_VL = Search(enough=0.2, least=-0.2, steps=(0.1, 0.1, 0.2))
"""ZoomEye's settings by model, at its commit 6762d79: how sure "Yes" must be."""


def find_search(name: str) -> Search:
    """Return ZoomEye's settings for a model, by its name; those of Qwen2.5-VL for any that is not known."""
    found = re.search(r"(internvl)|(llava)", name.lower())
    return QWEN_VL if found is None else INTERN_VL if found[1] else LLAVA


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A part of the image.

    level: 0 for the whole image.
    promise: confidence that opening the part is worth it.
    """

    box: Box
    level: int
    promise: float = 1.0


@dataclass(frozen=True, slots=True)
class ZoomPerceiver:
    """Searches for what the question is about, part by part. The perception keeps every call.

    No boxes mean that nothing was found, or that the whole image is enough.
    """

    model: Model
    prompts: PromptSet
    search: Search = Search()
    budget: Budget | None = None

    @property
    def fingerprint(self) -> str:
        return hash_role(self.model, self.prompts, YES_OR_NO, self.budget, f"{CUES} {self.search}")

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        hunt = _Hunt(self, sample, full_image)
        boxes: list[Box] = []
        if hunt.num_levels:
            cues = await hunt.name_cues()
            for cue in cues:
                found = await hunt.find(cue, alone=len(cues) == 1)
                if found is not None and found.xyxy not in [box.xyxy for box in boxes]:
                    boxes.append(found)
        last = hunt.calls[-1].model_copy(update={"earlier": tuple(hunt.calls[:-1])}) if hunt.calls else None
        return Perception(source=f"zoom:{self.model.name}", boxes=tuple(boxes), completion=last)


class _Hunt:
    """The search for one question in one image, and its calls."""

    def __init__(self, perceiver: ZoomPerceiver, sample: Sample, full_image: FullImage) -> None:
        self._model, self._prompts, self._search = perceiver.model, perceiver.prompts, perceiver.search
        self._sample, self._image = sample, full_image
        self._budget = perceiver.budget or perceiver.model.profile.budget
        overview_px = OVERVIEW_TOKENS * self._budget.factor**2
        self._overview = self._budget.model_copy(update={"max_pixels": min(self._budget.max_pixels, overview_px)})
        self.num_levels = count_levels(
            full_image.size, smallest_px=self._search.smallest_px, most=self._search.max_levels
        )
        self.calls: list[Completion] = []

    async def name_cues(self) -> list[str]:
        """Ask the model what has to be seen."""
        prompts = self._prompts
        prompt = Prompt("perceiver", prompts.system, prompts.zoom_cues(self._sample), (), prompts.fingerprint)
        completion = await complete(self._model, prompt, CUES, self._budget)
        self.calls.append(completion)
        return read_cues(completion.text)[: self._search.max_cues]

    async def find(self, cue: str, *, alone: bool) -> Box | None:
        """Find the part to look at for `cue`; None when there is none, or when it is the whole image.

        Args:
            alone: nothing else is looked for, so that the question itself decides and the whole image may be enough.
        """
        enough, patience = self._search.enough, self._search.patience * self.num_levels
        steps = itertools.chain(self._search.steps, itertools.repeat(self._search.steps[-1]))
        waiting = [ImagePart(WHOLE, level=0)]
        opened: list[tuple[float, ImagePart]] = []
        while waiting:
            part = waiting.pop(0)
            opened.append((await self._weigh_enough(part, cue, alone=alone), part))
            if opened[-1][0] >= enough:
                return _name(part, cue)
            if len(opened) >= patience:
                enough, patience = round(enough - next(steps), 6), patience + 2
                confidence, best = max(opened, key=lambda each: each[0])
                if confidence >= enough:
                    return _name(best, cue)
                if enough < self._search.least:
                    return None
            if part.level < self.num_levels and longer_side_px(part.box, self._image.size) >= self._search.smallest_px:
                waiting += await self._look_into(part, cue)
                waiting.sort(key=lambda each: each.promise, reverse=True)
        return None

    async def _weigh_enough(self, part: ImagePart, cue: str, *, alone: bool) -> float:
        """Return the confidence that this part is enough."""
        if alone:
            text = self._prompts.zoom_answerable(self._sample)
        elif part.level:
            text = self._prompts.zoom_clear(cue)
        else:
            return -1.0
        return (await self._weigh([part], [text]))[0]

    async def _look_into(self, part: ImagePart, cue: str) -> list[ImagePart]:
        """Return the quarters of a part with what they promise."""
        quarters = [ImagePart(box, part.level + 1) for box in split(part.box, self._image.size)]
        weighed = await self._weigh(quarters, [self._prompts.zoom_exists(cue), self._prompts.zoom_likely(cue)])
        sight = self._search.sight + (1 - self._search.sight) * (part.level + 1) ** 2 / self.num_levels**2
        return [
            replace(quarter, promise=sight * seen + (1 - sight) * likely)
            for quarter, seen, likely in zip(quarters, weighed[::2], weighed[1::2], strict=True)
        ]

    async def _weigh(self, parts: Sequence[ImagePart], texts: Sequence[str]) -> list[float]:
        """Return the confidence in "Yes" for each question about each part; all are asked side by side."""
        views = await asyncio.gather(*(asyncio.to_thread(self._show, part) for part in parts))
        completions = await asyncio.gather(*(self._ask(view, text) for view in views for text in texts))
        self.calls += completions
        return [read_confidence(completion) for completion in completions]

    async def _ask(self, view: tuple[Image.Image, ...], text: str) -> Completion:
        prompts = self._prompts
        words = f"{prompts.zoom_view}\n{text}" if len(view) > 1 else text
        prompt = Prompt("perceiver", prompts.system, words, view, prompts.fingerprint)
        return await complete(self._model, prompt, YES_OR_NO, self._budget)

    def _show(self, part: ImagePart) -> tuple[Image.Image, ...]:
        """Show the whole image, or a part beside the whole image, small and with the part marked."""
        if part.level == 0:
            return (self._image.fitted(self._budget),)
        left, top, right, bottom = part.box.to_pixels(*self._image.size)
        margin_x, margin_y = self._margin_px(right - left), self._margin_px(bottom - top)
        width, height = self._image.size
        rect = (
            max(0, left - margin_x),
            max(0, top - margin_y),
            min(width, right + margin_x),
            min(height, bottom + margin_y),
        )
        return (
            annotate_fitted(self._image, (part.box,), self._overview),
            fit(cut(self._image.image, rect), self._budget),
        )

    def _margin_px(self, side_px: int) -> int:
        """Return the surroundings to show on each side of a part, in pixels: more of them around a small part."""
        return int(max(SURROUNDINGS * side_px, (self._search.smallest_px - side_px) / 2))


def read_confidence(completion: Completion) -> float:
    """Return how much likelier "Yes" is than "No", from -1 to 1.

    Raises:
        ModelError: neither of them may begin the reply.
    """
    yes, no = completion.first_probs
    if yes + no == 0:
        raise ModelError(
            f"{completion.model} answers neither Yes nor No, but {completion.text[:40]!r}",
            hint="a search needs a model that answers yes-no questions",
        )
    return (yes - no) / (yes + no)


_LIST_MARK = re.compile(r"^\s{0,64}(?:[-*•]|\d{1,3}[.)](?=\s))")


def read_cues(reply: str) -> list[str]:
    """List the things that a reply names, each once."""
    said = reply.rsplit("</think>", 1)[-1]
    named = [_LIST_MARK.sub("", cue).strip(" \t\r.,:\"'") for cue in re.split(r"[;\n]", said)]
    return list(dict.fromkeys(cue for cue in named if cue))


def _name(part: ImagePart, cue: str) -> Box | None:
    return part.box.model_copy(update={"label": cue}) if part.level else None
