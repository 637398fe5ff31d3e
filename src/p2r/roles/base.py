"""The protocols of perceiver and reasoner, how their tokens are drawn, and what all roles share.

Departure: greedy decoding without the release's repetition penalty of 1.05, which the paper does not mention;
RELEASE_DECODING has it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Protocol

from pydantic import JsonValue

from p2r.dialogue import Budget, Decoding, Model, Prompt, visual_tokens
from p2r.errors import ConfigError, excerpt
from p2r.evidence import Evidence
from p2r.images.budget import FullImage
from p2r.prompts import PromptSet
from p2r.types import Box, Completion, Frozen, Perception, Sample


class DecodingPreset(Frozen):
    """The decoding of each role."""

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


def limit_replies(perceiver: object = None, reasoner: object = None) -> DecodingPreset:
    """Return the usual decoding with other limits of new tokens, where they are given.

    Raises:
        ConfigError: a limit is not a whole number from 1.
    """
    return DecodingPreset(
        perceiver=_limit(DEFAULT_DECODING.perceiver, perceiver, "perceiver"),
        reasoner=_limit(DEFAULT_DECODING.reasoner, reasoner, "reasoner"),
    )


def _limit(usual: Decoding, given: object, role: str) -> Decoding:
    if given is None:
        return usual
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigError(
            f"`{role}_new_tokens` is {excerpt(given)}, not a number of tokens", hint="give 1 or more, or None"
        )
    return usual.model_copy(update={"max_new_tokens": given})


def draw_replies(preset: DecodingPreset, temperature: float, seed: int) -> DecodingPreset:
    """Return a decoding that draws both roles' replies at a temperature above 0, from a seed."""
    if not temperature:
        return preset
    drawn = {"temperature": float(temperature), "seed": seed}
    return DecodingPreset(
        perceiver=preset.perceiver.model_copy(update=drawn), reasoner=preset.reasoner.model_copy(update=drawn)
    )


WHOLE = Box(x1=0, y1=0, x2=1000, y2=1000)
"""The whole image as a box."""


class Perceiver(Protocol):
    """Says where to look."""

    @property
    def fingerprint(self) -> str:
        """Short hash of everything that can change a result."""
        ...

    async def __call__(self, sample: Sample, full_image: FullImage) -> Perception:
        """Return boxes on the image. Raises a P2RError when that fails."""
        ...


class Reasoner(Protocol):
    """Answers from evidence."""

    @property
    def fingerprint(self) -> str:
        """Short hash of everything that can change a result."""
        ...

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        """Return a reply that holds the answer. Raises a P2RError when that fails."""
        ...


def hash_roles(perceiver: Perceiver, reasoner: Reasoner | None) -> str:
    """Hash everything about both roles that can change a result: prompts, models, budgets, decoding."""
    parts = f"{perceiver.fingerprint} {reasoner.fingerprint if reasoner else 'nobody'}"
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


async def complete(model: Model, prompt: Prompt, decoding: Decoding, budget: Budget) -> Completion:
    """Ask a model, and count the visual tokens of each image where the model does not report them."""
    completion = await model.complete(prompt, decoding)
    if completion.usage.visual_tokens:
        return completion
    usage = completion.usage.model_copy(update={"visual_tokens": visual_tokens(prompt.all_images, budget.factor)})
    return completion.model_copy(update={"usage": usage})


def hash_role(model: Model, prompts: PromptSet, decoding: Decoding, budget: Budget | None, extra: str) -> str:
    """Return the fingerprint of a role that asks a model; `extra` is what else can change its results."""
    return hash_parts(
        {
            "model": model.name,
            "prompts": prompts.fingerprint,
            "decoding": decoding.model_dump(mode="json"),
            "budget": (budget or model.profile.budget).model_dump(mode="json"),
            "extra": extra,
            **({"frame": model.profile.frame} if model.profile.frame_is_stated else {}),
        }
    )


def hash_parts(parts: Mapping[str, JsonValue]) -> str:
    """Return a short hash of named values."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:12]
