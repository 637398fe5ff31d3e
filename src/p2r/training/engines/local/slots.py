"""Slots in which groups of rollouts grow together, by a token of each rollout per step; what a step does on the device.

A prompt is read into a slot, whatever its neighbors are at, and its group stays there until another one takes its
place. A step is one call of the model and one of the sampler, over all slots. It asks the host for nothing and tells it
nothing but the tokens that it returns.

Shapes: P slots, G rollouts in each, B = P * G, V vocabulary.
"""

# transformers and torch are typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch

from p2r.dialogue import Decoding
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Engine, VisionLanguageModel, left_when
from p2r.models.local.sampling import Chosen, Sampler
from p2r.models.local.sight import Sight
from p2r.training.engines.local.distributed import is_split
from p2r.training.engines.local.group_cache import GroupCache
from p2r.training.engines.local.logprobs import find_positions, join_images
from p2r.training.engines.local.replay import Replay

TOKENS_AT_ONCE = {"cpu": 2**11, "cuda": 2**15}
"""Tokens of prompts that are read together, by device; a longer prompt is read alone."""


class Slots:
    """Empty at first; see `read`.

    keep: the engine's sight keeps what it sees, for the update.
    fixed: all steps have the same shapes and addresses, until a prompt comes that has no room; see `GroupCache`.
    """

    def __init__(
        self, engine: Engine, num_slots: int, num_rollouts: int, decoding: Decoding, *, keep: bool, fixed: bool
    ) -> None:
        model, device = engine.model, engine.model.device
        config = model.config.get_text_config()
        self._engine, self._decoding = engine, decoding
        self._keeps_sight = keep and not is_split(model)
        self._next_PG = torch.zeros(num_slots, num_rollouts, dtype=torch.long, device=device)
        self._place_P1 = torch.zeros(num_slots, 1, dtype=torch.long, device=device)
        self._cache = GroupCache(num_slots, num_rollouts, config, device, fixed=fixed)
        self._sampler = Sampler(decoding, num_slots * num_rollouts, decoding.max_new_tokens, config.vocab_size, device)
        self._replay = Replay[Chosen]() if can_replay(model, fixed=fixed) else None

    @property
    def shape(self) -> tuple[int, int]:
        """(P, G)."""
        num_slots, num_rollouts = self._next_PG.shape
        return num_slots, num_rollouts

    def read(
        self,
        slots: Sequence[int],
        prompts: Sequence[EncodedPrompt],
        seeds: Sequence[Sequence[int]],
        abandoned: Callable[[], bool],
    ) -> Chosen:
        """Begin a group in each of these slots, a few prompts at a time in one row.

        Args:
            slots: in which no group grows any more.
            seeds: for each prompt one per rollout.

        Returns:
            The first token of each of their rollouts, in the order of the slots.
        """
        device, num_rollouts = self._next_PG.device, self._next_PG.shape[1]
        slots_P = torch.tensor(slots, device=device)
        logits_PV = self._read(slots, prompts, abandoned)
        for slot, prompt, own in zip(slots, prompts, seeds, strict=True):
            self._sampler.start(slot * num_rollouts, prompt.token_ids, own)
        rows_PG = slots_P[:, None] * num_rollouts + torch.arange(num_rollouts, device=device)
        chosen = self._sampler.choose(logits_PV.repeat_interleave(num_rollouts, dim=0), rows_PG.flatten())
        self._next_PG[slots_P] = chosen.ids_B.view_as(rows_PG)
        return chosen

    def end(self, slot: int) -> None:
        """Note that the group in a slot has ended."""
        self._cache.end(slot)

    def advance(self) -> Chosen:
        """The next token of every rollout. What comes from slots without a group means nothing."""
        num_places = self._cache.prepare_step()
        return self.step() if self._replay is None else self._replay(self.step, num_places)

    def step(self) -> Chosen:
        """The part of `advance` that can be recorded: the same calls every time, on the device alone."""
        axes_3PG = self._place_P1.expand(3, -1, self._next_PG.shape[1])
        output = self._engine.model(
            input_ids=self._next_PG, position_ids=axes_3PG, use_cache=False, layout=self._cache.next_step()
        )
        chosen = self._sampler.choose(self._engine.allow(output.logits.flatten(0, 1)))
        self._next_PG.copy_(chosen.ids_B.view_as(self._next_PG))
        self._place_P1 += 1
        return chosen

    def keep(self, slots: Sequence[int], rollouts: Sequence[Sequence[int]]) -> None:
        """Keep these slots, and of each these rollouts, equally many, in this order."""
        slots_P, rollouts_PG = (torch.tensor(each, device=self._next_PG.device) for each in (slots, rollouts))
        self._sampler.keep((slots_P[:, None] * self._next_PG.shape[1] + rollouts_PG).flatten())
        self._cache.keep(slots, rollouts_PG)
        self._next_PG = self._next_PG[slots_P].gather(1, rollouts_PG)
        self._place_P1 = self._place_P1[slots_P]

    def _read(
        self, slots: Sequence[int], prompts: Sequence[EncodedPrompt], abandoned: Callable[[], bool]
    ) -> torch.Tensor:
        """Read prompts into the cache; returns the logits (P, V) after each."""
        engine, model, sight = self._engine, self._engine.model, self._engine.sight or Sight()
        most = TOKENS_AT_ONCE.get(model.device.type, TOKENS_AT_ONCE["cuda"])
        logits: list[torch.Tensor] = []
        first = 0
        while first < len(prompts):
            num_tokens = list(accumulate(len(prompt.token_ids) for prompt in prompts[first:]))
            some = prompts[first : first + max(1, bisect_right(num_tokens, most))]
            own = slots[first : first + len(some)]
            axes = [find_positions(model, prompt) for prompt in some]
            lengths = [len(prompt.token_ids) for prompt in some]
            limits = [engine.limit(prompt, self._decoding) for prompt in some]
            images = join_images(some, engine.patches)
            with left_when(model, abandoned), sight.shown_to(model, images, keep=self._keeps_sight) as shown:
                output = model(
                    input_ids=torch.tensor([[t for prompt in some for t in prompt.token_ids]], device=model.device),
                    position_ids=torch.cat(axes, dim=1)[:, None].to(model.device),
                    use_cache=False,
                    layout=self._cache.reading(own, lengths, limits),
                    wanted=torch.tensor(num_tokens[: len(some)], device=model.device) - 1,
                    **shown,
                )
            logits.append(engine.allow(output.logits[0]))
            for slot, each in zip(own, axes, strict=True):
                self._place_P1[slot] = int(each.max()) + 1
            first += len(some)
        return torch.cat(logits)


def can_replay(model: VisionLanguageModel, *, fixed: bool) -> bool:
    """Tell whether steps can be recorded: they are all the same, on a GPU, and ask no other process."""
    return fixed and model.device.type == "cuda" and not is_split(model)
