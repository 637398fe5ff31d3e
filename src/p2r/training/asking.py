"""What the policy is asked: images opened, prompts made and encoded, each once; then groups of replies sampled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from p2r.config import ActiveRole, Recipe
from p2r.dialogue import Decoding, Prompt
from p2r.errors import P2RError
from p2r.evidence import gather
from p2r.images.budget import FullImage
from p2r.models.local.encoding import EncodedPrompt
from p2r.prompts import PromptSet
from p2r.roles import perceiver_prompt, reasoner_prompt
from p2r.training.engines.base import Actor
from p2r.training.engines.local.generate import Generated
from p2r.training.failures import FailureGauge
from p2r.training.seeds import seed_rollouts
from p2r.types import Perception, Sample

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Opened:
    """A row and its decoded image."""

    sample: Sample
    full_image: FullImage


@dataclass(frozen=True, slots=True)
class Looked:
    """A row, and the box set that an answer is to be based on. name: what the answer's seeds depend on."""

    name: str
    sample: Sample
    full_image: FullImage
    perception: Perception


@dataclass(frozen=True, slots=True)
class Asked:
    """What the policy replies to.

    name: what its seeds depend on.
    perception: what the evidence is made of, when an answer is asked for; None when boxes are.
    """

    name: str
    sample: Sample
    full_image: FullImage
    prompt: Prompt
    encoded: EncodedPrompt
    perception: Perception | None = None

    @property
    def role(self) -> ActiveRole:
        return "perceiver" if self.perception is None else "reasoner"


class Asker:
    """Asks the policy of one phase. `None` stands where something failed twice, which is counted.

    purpose: what seeds depend on besides run, role, step, row and rollout.
    """

    def __init__(
        self, recipe: Recipe, actor: Actor, prompts: PromptSet, failures: FailureGauge, *, purpose: str
    ) -> None:
        self._recipe, self._actor, self._prompts, self._failures = recipe, actor, prompts, failures
        self._purpose = purpose

    async def open_rows(self, rows: Sequence[Sample]) -> list[Opened | None]:
        """Decode the image of each row."""
        return await self._try_each(rows, lambda row: Opened(row, FullImage(row.image.load())))

    async def ask_where(self, opened: Sequence[Opened]) -> list[Asked | None]:
        """Prompts of the perceiver."""

        def ask(one: Opened) -> Asked:
            prompt = perceiver_prompt(self._prompts, one.sample, one.full_image, self._actor.profile.budget)
            return Asked(one.sample.id, one.sample, one.full_image, prompt, self._actor.encode(prompt))

        return await self._try_each(opened, ask)

    async def ask_what(self, looked: Sequence[Looked]) -> list[Asked | None]:
        """Prompts of the reasoner."""

        def ask(one: Looked) -> Asked:
            evidence = gather(one.full_image, one.perception.boxes)
            prompt = reasoner_prompt(self._prompts, one.sample, evidence, self._actor.profile.budget)
            return Asked(one.name, one.sample, one.full_image, prompt, self._actor.encode(prompt), one.perception)

        return await self._try_each(looked, ask)

    async def sample(self, asked: Sequence[Asked], num_rollouts: int, step: int) -> list[tuple[Asked, Generated]]:
        """`num_rollouts` replies to each of the same role, in order."""
        if not asked:
            return []
        settings, role = self._recipe.rollout, asked[0].role
        decoding = Decoding(
            max_new_tokens=settings.max_new_tokens.of(role), temperature=settings.temperature, top_p=settings.top_p
        )
        purpose = f"{self._purpose}/{role}"
        seeds = [seed_rollouts(self._recipe.seed, purpose, step, one.name, num_rollouts) for one in asked]
        groups = await asyncio.to_thread(self._actor.sample, [one.encoded for one in asked], decoding, seeds)
        return [(one, each) for one, group in zip(asked, groups, strict=True) for each in group]

    async def _try_each(self, items: Sequence[Given], make: Callable[[Given], Made]) -> list[Made | None]:
        """Make something of each, in threads."""

        def make_twice(item: Given) -> tuple[Made | None, str]:
            try:
                return make(item), ""
            except P2RError:
                pass
            try:
                return make(item), ""
            except P2RError as error:
                return None, error.message

        made = await asyncio.gather(*(asyncio.to_thread(make_twice, item) for item in items))
        self._failures.count(cause for _, cause in made if cause)
        return [result for result, _ in made]
