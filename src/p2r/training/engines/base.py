"""The policy as rollouts see it: it encodes prompts and samples groups of replies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from p2r.dialogue import Decoding, ModelProfile, Prompt
from p2r.models.local.encoding import EncodedPrompt, PromptEncoder
from p2r.models.local.engine import Engine
from p2r.training.engines.local.generate import Generated, Wanted, generate_groups
from p2r.types import Completion, Usage


class Speaker(Protocol):
    """Plays the active role, whoever samples its replies."""

    @property
    def name(self) -> str: ...

    @property
    def profile(self) -> ModelProfile: ...

    def decode(self, token_ids: Sequence[int]) -> str: ...


class Actor(Speaker, Protocol):
    """Samples replies of the active role."""

    def encode(self, prompt: Prompt) -> EncodedPrompt:
        """Raises a P2RError for a prompt that the model cannot take."""
        ...

    def sample(
        self, wanted: Iterable[Wanted], decoding: Decoding, num_at_once: int, abandoned: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Generated]]]:
        """Yield each prompt's place with its replies as soon as they have ended.

        Args:
            num_at_once: the most prompts whose replies grow at the same time. The next prompt is waited for.
            abandoned: once it returns True, nobody wants them.
        """
        ...


@dataclass(frozen=True, slots=True)
class EngineActor:
    """A policy in this process, with the weights that it has when it is called."""

    name: str
    profile: ModelProfile
    encoder: PromptEncoder
    engine: Engine

    def encode(self, prompt: Prompt) -> EncodedPrompt:
        return self.encoder.encode(prompt)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.encoder.decode(token_ids)

    def sample(
        self, wanted: Iterable[Wanted], decoding: Decoding, num_at_once: int, abandoned: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Generated]]]:
        return generate_groups(self.engine, wanted, decoding, num_at_once, abandoned)


def as_completion(actor: Speaker, prompt: EncodedPrompt, generated: Generated) -> Completion:
    """A sampled reply in the form that traces and roles use."""
    return Completion(
        text=actor.decode(generated.token_ids),
        finish_reason="stop" if generated.ended else "length",
        model=actor.name,
        usage=Usage(
            visual_tokens=prompt.visual_tokens,
            prompt_tokens=len(prompt.token_ids),
            generated_tokens=len(generated.token_ids),
        ),
    )


def seed_rollouts(run_seed: int, purpose: str, step: int, row: str, num_rollouts: int) -> list[int]:
    """A seed for each rollout, from what it is and not from its place in a batch.

    Args:
        purpose: a phase and a role.
        row: the sample's id.
    """
    names = (f"{run_seed}/{purpose}/{step}/{row}/{rollout}" for rollout in range(num_rollouts))
    # 63 bits, the most that torch's generators take as a positive seed.
    return [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1 for name in names]
