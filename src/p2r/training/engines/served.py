"""A policy behind an asynchronous client of servers: rollouts ask it from a thread, for all replies at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from PIL.Image import Image

from p2r.dialogue import Decoding, ModelProfile, Prompt
from p2r.models.local.encoding import EncodedPrompt, PromptEncoder
from p2r.training.engines.local.generate import Generated, Wanted


@dataclass(frozen=True, slots=True)
class SeenPrompt(EncodedPrompt):
    """A prompt with its images, and without patches, which servers make themselves."""

    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class ServedActor:
    """Samples replies of the active role from servers, which batch them.

    ask: asks for one reply to a prompt, by its seed.
    loop: the one in which `ask` runs.
    """

    encoder: PromptEncoder
    profile: ModelProfile
    ask: Callable[[SeenPrompt, int, Decoding], Awaitable[Generated]]
    loop: asyncio.AbstractEventLoop
    name: str = "policy"

    def encode(self, prompt: Prompt) -> SeenPrompt:
        encoded = self.encoder.encode(prompt)
        return SeenPrompt(encoded.token_ids, (), encoded.grids, encoded.visual_tokens, images=prompt.all_images)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.encoder.decode(token_ids)

    def sample(
        self, wanted: Iterable[Wanted], decoding: Decoding, num_at_once: int, abandoned: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Generated]]]:
        """Ask for all prompts at once. See `Actor.sample`."""
        asking = self._ask_all([*wanted], decoding)  # prompts are waited for in this thread
        yield from enumerate(asyncio.run_coroutine_threadsafe(asking, self.loop).result())

    async def _ask_all(self, wanted: Sequence[Wanted], decoding: Decoding) -> list[list[Generated]]:
        return await asyncio.gather(*(self._ask_each(one, decoding) for one in wanted))

    async def _ask_each(self, wanted: Wanted, decoding: Decoding) -> list[Generated]:
        assert isinstance(wanted.prompt, SeenPrompt), "it was encoded here"
        return await asyncio.gather(*(self.ask(wanted.prompt, seed, decoding) for seed in wanted.seeds))
