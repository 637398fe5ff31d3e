"""Prompts about noise, and the replies of several models to them, to be compared word for word and token for token."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from p2r.dialogue import Decoding, Model, Prompt, Turn
from p2r.models.scripted import ScriptedModel
from p2r.types import Completion, Trace

BRIEF = Decoding(max_new_tokens=24)
Facts = tuple[object, ...]


def noise(width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def ask_about(*images: Image.Image, question: str = "Where is the red star?") -> Prompt:
    return Prompt("perceiver", "", question, images, "test")


def begin(prompt: Prompt, *parts: str | Image.Image) -> Prompt:
    """The prompt with the beginning of its reply."""
    return replace(prompt, later=(*prompt.later, Turn("assistant", parts)))


def reply_all(model: Model, prompts: Sequence[Prompt], decoding: Decoding = BRIEF) -> list[Completion]:
    """The replies to prompts that are asked at once."""

    async def ask() -> list[Completion]:
        return list(await asyncio.gather(*(model.complete(prompt, decoding) for prompt in prompts)))

    return asyncio.run(ask())


def reply(model: Model, *images: Image.Image, decoding: Decoding = BRIEF) -> Completion:
    return reply_all(model, [ask_about(*images)], decoding)[0]


def keep_decodings(model: ScriptedModel) -> list[Decoding]:
    """The decodings with which a model is asked from now on."""
    kept: list[Decoding] = []
    complete = model.complete

    async def keep(prompt: Prompt, decoding: Decoding) -> Completion:
        kept.append(decoding)
        return await complete(prompt, decoding)

    model.complete = keep
    return kept


def facts_of(completion: Completion | None) -> Facts:
    """What two models have to agree on: the text, how it ended, and all counts of tokens."""
    assert completion is not None
    return (completion.text, completion.finish_reason, completion.usage)


def facts_of_traces(traces: Mapping[str, Trace]) -> dict[str, list[Facts]]:
    """The same for both replies of each trace, by sample."""
    found: dict[str, list[Facts]] = {}
    for sample_id, trace in traces.items():
        assert trace.failure is None and trace.perception is not None
        found[sample_id] = [facts_of(trace.perception.completion), facts_of(trace.reasoning)]
    return found
