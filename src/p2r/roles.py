"""Who looks and who answers: perceivers turn a question into boxes, reasoners turn evidence into a reply.

Paper: section 3.2, B.1. Direct answering, oracle, random and fixed boxes are roles like any other, so the walk has no
modes. A role sizes pictures to its model's pixel budget itself, so that no later resize by a processor or server
changes them.

Departures: greedy decoding without the release's repetition penalty of 1.05, which the paper does not mention;
RELEASE_DECODING has it. A perceiver's reply that was cut off at the token limit is still read: whole boxes in it
count.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import JsonValue

from p2r.boxes import ROBUST, ParseRules, parse_boxes
from p2r.errors import ConfigError, DataError
from p2r.evidence import Evidence
from p2r.pixels import Picture
from p2r.prompts import PromptSet
from p2r.types import Box, Budget, Completion, Decoding, Frozen, Model, Perception, Prompt, Sample, visual_tokens


class DecodingPreset(Frozen):
    """How each role's tokens are drawn."""

    perceiver: Decoding
    reasoner: Decoding


DEFAULT_DECODING = DecodingPreset(
    perceiver=Decoding(max_new_tokens=256),
    reasoner=Decoding(max_new_tokens=1024),
)
RELEASE_DECODING = DecodingPreset(
    perceiver=Decoding(max_new_tokens=256, repetition_penalty=1.05),
    reasoner=Decoding(max_new_tokens=1024, repetition_penalty=1.05),
)


class Perceiver(Protocol):
    """Says where to look. Raises a P2RError when it cannot."""

    @property
    def fingerprint(self) -> str:
        """Short hash of everything that can change a result."""
        ...

    async def __call__(self, sample: Sample, picture: Picture) -> Perception: ...


class Reasoner(Protocol):
    """Answers from evidence. Raises a P2RError when it cannot."""

    @property
    def fingerprint(self) -> str:
        """Short hash of everything that can change a result."""
        ...

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion: ...


@dataclass(frozen=True, slots=True)
class ModelPerceiver:
    """Asks a model for boxes.

    budget: pixel budget, None for the model profile's own.
    rules: how boxes are read out of the reply.
    """

    model: Model
    prompts: PromptSet
    decoding: Decoding = DEFAULT_DECODING.perceiver
    budget: Budget | None = None
    rules: ParseRules = ROBUST

    @property
    def fingerprint(self) -> str:
        return _hash_role(self.model, self.prompts, self.decoding, self.budget, repr(self.rules))

    async def __call__(self, sample: Sample, picture: Picture) -> Perception:
        text = self.prompts.perceiver(sample)
        budget = self.budget or self.model.profile.budget
        image = await asyncio.to_thread(picture.fitted, budget)
        prompt = Prompt("perceiver", self.prompts.system, text, (image,), self.prompts.fingerprint)
        completion = await _complete(self.model, prompt, self.decoding, budget)
        boxes, parse = parse_boxes(
            completion.text, rules=self.rules, frame=self.model.profile.frame, image_wh=image.size
        )
        return Perception(source=f"model:{self.model.name}", boxes=boxes, completion=completion, parse=parse)


@dataclass(frozen=True, slots=True)
class OraclePerceiver:
    """Looks where the evidence is: at the sample's gold boxes."""

    @property
    def fingerprint(self) -> str:
        return _hash({"source": "oracle"})

    async def __call__(self, sample: Sample, picture: Picture) -> Perception:
        return Perception(source="oracle", boxes=_gold_boxes(sample, "the oracle"))


@dataclass(frozen=True, slots=True)
class RandomPerceiver:
    """Looks at uniformly random places inside the picture: what evidence is worth when it is not the right one.

    A sample's boxes depend on the seed and the sample's id alone.

    num_boxes: how many; None for as many as there are sizes.
    sizes: (width, height) of boxes in per mille, None for those of the sample's gold boxes. With `num_boxes` given,
        each box draws one of them; else each is used once.
    """

    seed: int = 0
    num_boxes: int | None = None
    sizes: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        if self.num_boxes is not None and self.num_boxes < 0:
            raise ConfigError(f"a random perceiver cannot place {self.num_boxes} boxes", hint="give 0 or more")
        bad = next((size for size in self.sizes or () if not (0 < size[0] <= 1000 and 0 < size[1] <= 1000)), None)
        if bad is not None or self.sizes == ():
            raise ConfigError(
                f"{bad or 'an empty list'} is no size of a random box",
                hint="width and height lie in (0, 1000] per mille",
            )

    @property
    def fingerprint(self) -> str:
        sizes: JsonValue = None if self.sizes is None else [list(size) for size in self.sizes]
        return _hash({"source": "random", "seed": self.seed, "num_boxes": self.num_boxes, "sizes": sizes})

    async def __call__(self, sample: Sample, picture: Picture) -> Perception:
        draw = random.Random(f"{self.seed}/{sample.id}")
        sizes = self.sizes or tuple(_size_in_frame(box) for box in _gold_boxes(sample, "random boxes without sizes"))
        if self.num_boxes is not None:
            sizes = tuple(draw.choice(sizes) for _ in range(self.num_boxes))
        return Perception(source=f"random:{self.seed}", boxes=tuple(_place(size, draw) for size in sizes))


@dataclass(frozen=True, slots=True)
class NoPerceiver:
    """Looks nowhere in particular: the reasoner gets the picture alone."""

    @property
    def fingerprint(self) -> str:
        return _hash({"source": "none"})

    async def __call__(self, sample: Sample, picture: Picture) -> Perception:
        return Perception(source="none", boxes=())


@dataclass(frozen=True, slots=True)
class FixedPerceiver:
    """Looks at the boxes it is given, whatever the question."""

    boxes: tuple[Box, ...]

    @property
    def fingerprint(self) -> str:
        return _hash({"source": "fixed", "boxes": [box.model_dump(mode="json") for box in self.boxes]})

    async def __call__(self, sample: Sample, picture: Picture) -> Perception:
        return Perception(source="fixed", boxes=self.boxes)


@dataclass(frozen=True, slots=True)
class EvidenceReasoner:
    """Answers from the annotated picture and the crops; without evidence, from the picture alone (release rule)."""

    model: Model
    prompts: PromptSet
    decoding: Decoding = DEFAULT_DECODING.reasoner
    budget: Budget | None = None

    @property
    def fingerprint(self) -> str:
        return _hash_role(self.model, self.prompts, self.decoding, self.budget, "evidence")

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        found = evidence.record.annotated
        text = self.prompts.reasoner(sample) if found else self.prompts.reasoner_without_evidence(sample)
        budget = self.budget or self.model.profile.budget
        images = await asyncio.to_thread(evidence.sized, budget)
        prompt = Prompt("reasoner", self.prompts.system, text, images, self.prompts.fingerprint)
        return await _complete(self.model, prompt, self.decoding, budget)


@dataclass(frozen=True, slots=True)
class PlainReasoner:
    """Answers from the whole picture, whatever was perceived: at once ("direct") or step by step ("thinking")."""

    model: Model
    prompts: PromptSet
    style: Literal["direct", "thinking"] = "direct"
    decoding: Decoding = DEFAULT_DECODING.reasoner
    budget: Budget | None = None

    @property
    def fingerprint(self) -> str:
        return _hash_role(self.model, self.prompts, self.decoding, self.budget, self.style)

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        text = self.prompts.direct(sample) if self.style == "direct" else self.prompts.thinking(sample)
        budget = self.budget or self.model.profile.budget
        image = await asyncio.to_thread(evidence.picture.fitted, budget)
        prompt = Prompt("reasoner", self.prompts.system, text, (image,), self.prompts.fingerprint)
        return await _complete(self.model, prompt, self.decoding, budget)


async def _complete(model: Model, prompt: Prompt, decoding: Decoding, budget: Budget) -> Completion:
    """The model's reply, with the visual tokens of each image noted even by a model that does not report them."""
    completion = await model.complete(prompt, decoding)
    if completion.usage.visual_tokens:
        return completion
    usage = completion.usage.model_copy(update={"visual_tokens": visual_tokens(prompt.images, budget.factor)})
    return completion.model_copy(update={"usage": usage})


def _gold_boxes(sample: Sample, who: str) -> tuple[Box, ...]:
    if not sample.gold_boxes:
        raise DataError(
            f"sample {sample.id!r} has no gold boxes, which {who} needs",
            hint="use samples that say where the evidence is, or another perceiver",
        )
    return sample.gold_boxes


def _size_in_frame(box: Box) -> tuple[float, float]:
    return min(box.x2 - box.x1, 1000.0), min(box.y2 - box.y1, 1000.0)


def _place(size: tuple[float, float], draw: random.Random) -> Box:
    width, height = size
    x, y = draw.uniform(0, 1000 - width), draw.uniform(0, 1000 - height)
    return Box(x1=x, y1=y, x2=min(x + width, 1000), y2=min(y + height, 1000))


def _hash_role(model: Model, prompts: PromptSet, decoding: Decoding, budget: Budget | None, extra: str) -> str:
    return _hash(
        {
            "model": model.name,
            "prompts": prompts.fingerprint,
            "decoding": decoding.model_dump(mode="json"),
            "budget": (budget or model.profile.budget).model_dump(mode="json"),
            "extra": extra,
        }
    )


def _hash(parts: Mapping[str, JsonValue]) -> str:
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:12]
