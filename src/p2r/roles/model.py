"""Roles that ask a model for one reply: where to look, and what the answer is.

Paper: section 3.2, B.1. Departure: a perceiver's reply that was cut off at the token limit is still read; complete
boxes in it count.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Literal

from p2r.boxes import ROBUST, ParseRules, parse_boxes
from p2r.dialogue import Budget, Decoding, Model, Prompt
from p2r.evidence import Evidence
from p2r.images.budget import FullImage
from p2r.prompts import PromptSet
from p2r.roles.base import DEFAULT_DECODING, complete, hash_role
from p2r.roles.dialects.base import budget_of
from p2r.roles.dialects.boxes import BoxDialect
from p2r.types import Completion, Frame, Perception, Sample


@dataclass(frozen=True, slots=True)
class ModelPerceiver:
    """Asks a model for boxes.

    budget: None for the dialect's or the model's own pixel budget.
    rules: how boxes are read from the reply; a dialect has its own.
    dialect: asks as another system does, in place of the prompt set; None for p2r's way.
    """

    model: Model
    prompts: PromptSet
    decoding: Decoding = DEFAULT_DECODING.perceiver
    budget: Budget | None = None
    rules: ParseRules = ROBUST
    dialect: BoxDialect | None = None

    @property
    def fingerprint(self) -> str:
        own = self.dialect.fingerprint if self.dialect else repr(self.rules)
        return hash_role(self.model, self.prompts, self.decoding, self.shown_budget, own)

    @property
    def shown_budget(self) -> Budget:
        """The pixels of the image."""
        profile, limits = self.model.profile, self.dialect.budget_pixels if self.dialect else None
        return self.budget or budget_of(profile.budget, limits, is_stated=profile.most_is_stated)

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        name, profile, dialect = self.model.name, self.model.profile, self.dialect
        prompt = await asyncio.to_thread(
            perceiver_prompt, self.prompts, sample, full_image, self.shown_budget, dialect=dialect
        )
        image_wh = prompt.images[0].size
        if dialect is None and profile.frame == "file_pixels":
            # A model that is shown another size can only count the file's pixels when it is told how many there are.
            image_wh = full_image.size
            prompt = replace(prompt, text="{}\nSize of the image in pixels: {}x{}".format(prompt.text, *image_wh))
        completion = await complete(self.model, prompt, self.decoding, self.shown_budget)
        if dialect is None:
            return read_perception(name, completion, image_wh, profile.frame, self.rules)
        frame = profile.stated_frame or dialect.frame
        boxes, parse = dialect.read(completion.text, frame, image_wh, full_image.size)
        return Perception(source=f"model:{name}", boxes=boxes, completion=completion, parse=parse)


@dataclass(frozen=True, slots=True)
class EvidenceReasoner:
    """Answers from the annotated image and the crops; without evidence, from the image alone (release rule)."""

    model: Model
    prompts: PromptSet
    decoding: Decoding = DEFAULT_DECODING.reasoner
    budget: Budget | None = None

    @property
    def fingerprint(self) -> str:
        return hash_role(self.model, self.prompts, self.decoding, self.budget, "evidence")

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        budget = self.budget or self.model.profile.budget
        prompt = await asyncio.to_thread(reasoner_prompt, self.prompts, sample, evidence, budget)
        del evidence  # large, and not needed while the model replies
        return await complete(self.model, prompt, self.decoding, budget)


@dataclass(frozen=True, slots=True)
class PlainReasoner:
    """Answers from the whole image, whatever was perceived: at once ("direct"), or step by step ("thinking")."""

    model: Model
    prompts: PromptSet
    style: Literal["direct", "thinking"] = "direct"
    decoding: Decoding = DEFAULT_DECODING.reasoner
    budget: Budget | None = None

    @property
    def fingerprint(self) -> str:
        return hash_role(self.model, self.prompts, self.decoding, self.budget, self.style)

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        text = self.prompts.direct(sample) if self.style == "direct" else self.prompts.thinking(sample)
        budget = self.budget or self.model.profile.budget
        image = await asyncio.to_thread(evidence.full_image.fitted, budget)
        del evidence  # as above
        prompt = Prompt("reasoner", self.prompts.system, text, (image,), self.prompts.fingerprint)
        return await complete(self.model, prompt, self.decoding, budget)


def perceiver_prompt(
    prompts: PromptSet, sample: Sample, full_image: FullImage, budget: Budget, *, dialect: BoxDialect | None = None
) -> Prompt:
    """Ask where to look: the image as a model with this budget sees it, and the question, in the words of a dialect."""
    system, text = prompts.system, prompts.perceiver(sample)
    if dialect is not None:
        system, text = dialect.texts["system"], dialect.word(sample)
    return Prompt("perceiver", system, text, (full_image.fitted(budget),), prompts.fingerprint)


def reasoner_prompt(prompts: PromptSet, sample: Sample, evidence: Evidence, budget: Budget) -> Prompt:
    """Ask for the answer: the annotated image, the crops and the question; without evidence the image alone."""
    found = evidence.record.annotated
    text = prompts.reasoner(sample) if found else prompts.reasoner_without_evidence(sample)
    return Prompt("reasoner", prompts.system, text, evidence.sized(budget), prompts.fingerprint)


def read_perception(
    name: str, completion: Completion, image_wh: tuple[int, int], frame: Frame, rules: ParseRules = ROBUST
) -> Perception:
    """Read the boxes in a reply of the model `name`, written in `frame`, whose pixels are those of this image."""
    boxes, parse = parse_boxes(completion.text, rules=rules, frame=frame, image_wh=image_wh)
    return Perception(source=f"model:{name}", boxes=boxes, completion=completion, parse=parse)
