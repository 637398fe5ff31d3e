"""Groups of rollouts: each prompt is read once, and its G rollouts grow in one row, by G tokens per step.

`Engine.generate` for training. Keys and values of a prompt are computed, stored and read once per group instead of G
times; a rollout sees only its prompt and its own tokens. Prefill, limits, end tokens and sampling are the engine's.
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

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from p2r.dialogue import Decoding
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Abandoned, Engine
from p2r.models.local.sampling import Sampler
from p2r.training.engines.local.group_cache import GroupCache


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
) -> list[list[Generated]]:
    """Draw `num_rollouts` replies to each prompt.

    Args:
        engine: `attention.install` was called on its model, which may be in training mode.
        seeds_PG: one per rollout; `decoding.seed` is not read.
        abandoned: called at each layer of the prefill and at each token.

    Returns:
        For each prompt its rollouts, in the order of the seeds.

    Raises:
        Abandoned: `abandoned` returned True.
    """
    was_training = engine.model.training
    engine.model.eval()  # in training mode, a model that checkpoints its layers drops the cache
    try:
        return _generate(engine, prompts, num_rollouts, decoding, seeds_PG, abandoned)
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
) -> list[list[Generated]]:
    prefill = engine.prefill(prompts, abandoned)
    limits = [engine.limit(prompt, decoding) for prompt in prompts]
    logits_BV = prefill.logits_BV.repeat_interleave(num_rollouts, dim=0)
    sampler = Sampler(
        decoding,
        prefill.ids_BP.repeat_interleave(num_rollouts, dim=0),
        prefill.mask_BP.repeat_interleave(num_rollouts, dim=0),
        logits_BV.shape[-1],
        [seed for seeds in seeds_PG for seed in seeds],
        max(limits),
    )
    config = engine.model.config.get_text_config()
    cache = GroupCache(prefill.cache, prefill.mask_BP, num_rollouts, max(limits) - 1, config)
    place_P1 = prefill.length_B1 + prefill.shift_B1
    del prefill

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
