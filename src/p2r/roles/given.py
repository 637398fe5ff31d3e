"""Roles that ask no model: gold boxes, random boxes, no boxes, and what was perceived or said before.

They compare what is known about an image with what a model finds in it (the paper's Figure 12), and hand on what was
perceived once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pydantic import JsonValue

from p2r.errors import ConfigError, DataError, count_nouns
from p2r.evidence import Evidence
from p2r.images.budget import FullImage
from p2r.roles.base import hash_parts
from p2r.types import Box, Completion, Perception, Sample


@dataclass(frozen=True, slots=True)
class OraclePerceiver:
    """Looks at the sample's gold boxes, where the evidence is."""

    @property
    def fingerprint(self) -> str:
        return hash_parts({"source": "oracle"})

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        return Perception(source="oracle", boxes=_gold_boxes(sample, "the oracle"))


@dataclass(frozen=True, slots=True)
class RandomPerceiver:
    """Looks at uniformly random places in the image, to show what the wrong evidence is worth.

    A sample's boxes depend only on the seed and the sample's id.

    num_boxes: None for one box of each size.
    sizes: (width, height) of boxes per mille; None for the sizes of the sample's gold boxes. With `num_boxes`, each box
        draws one of them; otherwise each is used once.

    Raises:
        ConfigError: the number of boxes or a size is not usable.
    """

    seed: int = 0
    num_boxes: int | None = None
    sizes: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        if self.num_boxes is not None and self.num_boxes < 0:
            raise ConfigError(
                f"a random perceiver cannot place {count_nouns(self.num_boxes, 'box', 'boxes')}", hint="give 0 or more"
            )
        bad = next((size for size in self.sizes or () if not (0 < size[0] <= 1000 and 0 < size[1] <= 1000)), None)
        if bad is not None or self.sizes == ():
            raise ConfigError(
                f"{bad or 'an empty list'} is not a size of a random box",
                hint="give width and height in (0, 1000] per mille",
            )

    @property
    def fingerprint(self) -> str:
        sizes: JsonValue = None if self.sizes is None else [list(size) for size in self.sizes]
        return hash_parts({"source": "random", "seed": self.seed, "num_boxes": self.num_boxes, "sizes": sizes})

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        draw = random.Random(f"{self.seed}/{sample.id}")
        sizes = self.sizes or tuple(_size_in_frame(box) for box in _gold_boxes(sample, "random boxes without sizes"))
        if self.num_boxes is not None:
            sizes = tuple(draw.choice(sizes) for _ in range(self.num_boxes))
        return Perception(source=f"random:{self.seed}", boxes=tuple(_place(size, draw) for size in sizes))


@dataclass(frozen=True, slots=True)
class NoPerceiver:
    """Looks nowhere in particular: the reasoner is shown the image alone."""

    @property
    def fingerprint(self) -> str:
        return hash_parts({"source": "none"})

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        return Perception(source="none", boxes=())


@dataclass(frozen=True, slots=True)
class FixedPerceiver:
    """Looks at the same boxes, whatever the question."""

    boxes: tuple[Box, ...]

    @property
    def fingerprint(self) -> str:
        return hash_parts({"source": "fixed", "boxes": [box.model_dump(mode="json") for box in self.boxes]})

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        return Perception(source="fixed", boxes=self.boxes)


@dataclass(frozen=True, slots=True)
class GivenPerceiver:
    """Hands on what was perceived before, whatever the question: boxes, and the reply that they come from."""

    perception: Perception

    @property
    def fingerprint(self) -> str:
        """Short hash of what was perceived, but not of how long it took."""
        completion = self.perception.completion and _without_times(self.perception.completion)
        timeless = self.perception.model_copy(update={"completion": completion})
        return hash_parts({"source": "given", "perception": timeless.model_dump(mode="json")})

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        return self.perception


@dataclass(frozen=True, slots=True)
class GivenReasoner:
    """Hands on a reply that was sampled before."""

    completion: Completion

    @property
    def fingerprint(self) -> str:
        return hash_parts({"source": "given", "model": self.completion.model})

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        return self.completion


def _gold_boxes(sample: Sample, who: str) -> tuple[Box, ...]:
    if not sample.gold_boxes:
        raise DataError(
            f"sample {sample.id!r} has no gold boxes, which {who} needs",
            hint="use samples with gold boxes, or another perceiver",
        )
    return sample.gold_boxes


def _size_in_frame(box: Box) -> tuple[float, float]:
    return min(box.x2 - box.x1, 1000.0), min(box.y2 - box.y1, 1000.0)


def _place(size: tuple[float, float], draw: random.Random) -> Box:
    width, height = size
    x, y = draw.uniform(0, 1000 - width), draw.uniform(0, 1000 - height)
    return Box(x1=x, y1=y, x2=min(x + width, 1000), y2=min(y + height, 1000))


def _without_times(completion: Completion) -> Completion:
    earlier = tuple(map(_without_times, completion.earlier))
    return completion.model_copy(update={"seconds": 0.0, "earlier": earlier})
