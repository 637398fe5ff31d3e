"""Groups of rollouts: each prompt is read once, and its G rollouts grow in one row, by G tokens per step.

`Engine.generate` for training. Keys and values of a prompt are computed, stored and read once per group instead of G
times; a rollout sees only its prompt and its own tokens. Prompts are read one after the other in one row, so that
nothing is padded. Limits, end tokens and sampling are the engine's. The frozen role replies in the same way.
A rollout's tokens depend on its own seed, not on which prompts or rollouts share the batch (up to rounding, which is
the device's own for each shape). Rollouts that have ended leave when half of the groups, or half of the largest group,
have.

Background: docs/performance.md.

Shapes: P prompts, G rollouts per prompt, B = P * G, V vocabulary, S longest prompt (shorter ones are padded on the
left), L places in the cache, K key heads, D channels of a head.
"""

# transformers and torch are typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

import torch

from p2r.dialogue import Decoding
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Abandoned, Engine, GeneratedTokens, VisionLanguageModel, left_when
from p2r.models.local.sampling import Sampler
from p2r.models.local.sight import Sight
from p2r.training.engines.local.distributed import is_split
from p2r.training.engines.local.group_cache import GroupCache
from p2r.training.engines.local.logprobs import find_positions, join_images

TOKENS_AT_ONCE = {"cpu": 2**11, "cuda": 2**15}
"""Tokens of prompts that are read together, by device; a longer prompt is read alone."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A rollout's tokens, the end token included; `ended` is False when the token limit cut it off.

    logprobs: of each token in the distribution that it was drawn from; empty when decoding was greedy.
    """

    token_ids: tuple[int, ...]
    ended: bool
    logprobs: tuple[float, ...] = ()


def generate_groups(
    engine: Engine,
    prompts: Sequence[EncodedPrompt],
    num_rollouts: int,
    decoding: Decoding,
    seeds_PG: Sequence[Sequence[int]],
    abandoned: Callable[[], bool] = lambda: False,
    *,
    keep: bool = True,
) -> list[list[Generated]]:
    """Draw `num_rollouts` replies to each prompt.

    Args:
        engine: `attention.install` was called on its model, which may be in training mode.
        seeds_PG: one per rollout; `decoding.seed` is not read.
        abandoned: called at each layer of the prefill and at each token.
        keep: the engine's sight keeps what it sees, for the update.

    Returns:
        For each prompt its rollouts, in the order of the seeds.

    Raises:
        Abandoned: `abandoned` returned True.
    """
    was_training = engine.model.training
    engine.model.eval()  # in training mode, a model that checkpoints its layers drops the cache
    try:
        return _generate(engine, prompts, num_rollouts, decoding, seeds_PG, abandoned, keep)
    finally:
        engine.model.train(was_training)


@torch.inference_mode()
def _generate(
    engine: Engine,
    prompts: Sequence[EncodedPrompt],
    num_rollouts: int,
    decoding: Decoding,
    seeds_PG: Sequence[Sequence[int]],
    abandoned: Callable[[], bool],
    keep: bool,
) -> list[list[Generated]]:
    limits = [engine.limit(prompt, decoding) for prompt in prompts]
    lengths = [len(prompt.token_ids) for prompt in prompts]
    config, device = engine.model.config.get_text_config(), engine.model.device
    cache = GroupCache(lengths, num_rollouts, max(limits) - 1, config, device)
    logits_PV, place_P1 = _read(engine, prompts, cache, abandoned, keep and not is_split(engine.model))
    logits_BV = logits_PV.repeat_interleave(num_rollouts, dim=0)
    ids_BP, mask_BP = (each.repeat_interleave(num_rollouts, dim=0) for each in engine.pad(prompts))
    seeds = [seed for seeds in seeds_PG for seed in seeds]
    sampler = Sampler(decoding, ids_BP, mask_BP, logits_BV.shape[-1], seeds, max(limits))

    rollouts = [[_Growing(limit) for _ in range(num_rollouts)] for limit in limits]
    slots_PG = rollouts  # the rollout at each place of the batch
    for step in range(max(limits)):
        next_B, logprobs_B = sampler.choose(logits_BV)
        logprobs = [None] * len(next_B) if logprobs_B is None else logprobs_B.tolist()
        slots = (each for row in slots_PG for each in row)
        for rollout, token, logprob in zip(slots, next_B.tolist(), logprobs, strict=True):
            if rollout.going:
                rollout.grow(token, logprob, engine.end_token_ids)
        num_going = [sum(rollout.going for rollout in row) for row in slots_PG]
        if not any(num_going):
            break
        if abandoned():
            raise Abandoned
        next_PG = next_B.view(len(slots_PG), -1)
        if 2 * sum(map(bool, num_going)) <= len(slots_PG) or 2 * max(num_going) <= len(slots_PG[0]):
            keep_P, keep_PG = _who_stays(slots_PG, max(num_going))
            slots_PG = [[slots_PG[p][g] for g in row] for p, row in zip(keep_P, keep_PG, strict=True)]
            rows_P, rows_PG = torch.tensor(keep_P, device=next_B.device), torch.tensor(keep_PG, device=next_B.device)
            sampler.keep((rows_P[:, None] * next_PG.shape[1] + rows_PG).flatten())
            cache.keep(rows_P, rows_PG)
            next_PG, place_P1 = next_PG[rows_P].gather(1, rows_PG), place_P1[rows_P]
        axes_3PG = (place_P1 + step).expand(3, -1, next_PG.shape[1])
        output = engine.model(input_ids=next_PG, position_ids=axes_3PG, use_cache=False, layout=cache.next_step())
        logits_BV = engine.allow(output.logits.flatten(0, 1))
    return [[rollout.finish() for rollout in row] for row in rollouts]


def _read(
    engine: Engine, prompts: Sequence[EncodedPrompt], cache: GroupCache, abandoned: Callable[[], bool], keep: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read prompts into the cache, a few at a time in one row.

    Returns:
        The logits (P, V) after each, and the place (P, 1) of what follows it on the rotary axes.
    """
    model, sight = engine.model, engine.sight or Sight()
    most = TOKENS_AT_ONCE.get(model.device.type, TOKENS_AT_ONCE["cuda"])
    logits: list[torch.Tensor] = []
    places: list[int] = []
    while len(places) < len(prompts):
        first = len(places)
        num_tokens = list(accumulate(len(prompt.token_ids) for prompt in prompts[first:]))
        some = prompts[first : first + max(1, bisect_right(num_tokens, most))]
        axes = [find_positions(model, prompt) for prompt in some]
        images = join_images(some, engine.patches)
        with left_when(model, abandoned), sight.shown_to(model, images, keep=keep) as shown:
            output = model(
                input_ids=torch.tensor([[token for prompt in some for token in prompt.token_ids]], device=model.device),
                position_ids=torch.cat(axes, dim=1)[:, None].to(model.device),
                use_cache=False,
                layout=cache.reading(first, [len(prompt.token_ids) for prompt in some]),
                logits_to_keep=torch.tensor(num_tokens[: len(some)], device=model.device) - 1,
                **shown,
            )
        logits.append(engine.allow(output.logits[0]))
        places += [int(each.max()) + 1 for each in axes]
    return torch.cat(logits), torch.tensor(places, device=model.device)[:, None]


def _who_stays(slots_PG: Sequence[Sequence[_Growing]], width: int) -> tuple[list[int], list[list[int]]]:
    """Groups that still grow, and `width` rollouts of each: growing ones first, filled up with ended ones."""
    keep_P = [p for p, row in enumerate(slots_PG) if any(rollout.going for rollout in row)]
    keep_PG = [sorted(range(len(slots_PG[p])), key=lambda g: not slots_PG[p][g].going)[:width] for p in keep_P]
    return keep_P, keep_PG


class _Growing:
    """A rollout that grows."""

    def __init__(self, limit: int) -> None:
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.ended = False
        self._limit = limit

    @property
    def going(self) -> bool:
        return not self.ended and len(self.tokens) < self._limit

    def finish(self) -> Generated:
        return Generated(tuple(self.tokens), self.ended, tuple(self.logprobs))

    def grow(self, token: int, logprob: float | None, end_token_ids: frozenset[int]) -> None:
        self.tokens.append(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        self.ended = token in end_token_ids


class FrozenEngine(Engine):
    """An engine that replies to each prompt once, as `Engine` does, from a cache with room ahead."""

    __slots__ = ()

    @classmethod
    def of(cls, engine: Engine, model: VisionLanguageModel) -> FrozenEngine:
        """The engine, with a model of the same kind."""
        parts: dict[str, Any] = {field.name: getattr(engine, field.name) for field in fields(Engine)}
        parts["model"] = model
        return cls(**parts)

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        decoding: Decoding,
        abandoned: Callable[[], bool] = lambda: False,
        first_ids: Sequence[int] = (),
    ) -> list[GeneratedTokens]:
        if first_ids:
            return Engine.generate(self, prompts, decoding, abandoned, first_ids)
        seeds = [[secrets.randbits(62) if decoding.seed is None else decoding.seed] for _ in prompts]
        drawn = generate_groups(self, prompts, 1, decoding, seeds, abandoned, keep=False)
        return [
            GeneratedTokens(one.token_ids[: -1 if one.ended else None], one.ended, len(one.token_ids))
            for [one] in drawn
        ]
