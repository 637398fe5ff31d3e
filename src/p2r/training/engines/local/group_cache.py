"""Keys and values of prompts and of their rollouts, in one row per group (an `attention.Layout`).

    [ prompt | first tokens of the G rollouts | second tokens of the G rollouts | ... ]

Prompts are read one after the other in one row, without padding. Each step adds G places to a group, at its own end: a
group that has ended makes way for another one, whatever the rest are at. A mask lets each rollout see only the prompt
and its own places.

Growing, there is room ahead, which is doubled when it runs out, and a step reads the places in use. Fixed, there is
room for whole groups from the start, and a step reads all of it: all steps are the same computation on the same memory,
so that a recorded one can be replayed.

Shapes: P groups, G rollouts per group, L places there is room for, K key heads, H / K query heads of each, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig

from p2r.training.engines.local.attention import attend_at_end, attend_causally, attend_grouped

STEPS_AHEAD = 64
"""Tokens of each rollout that there is room for at first, unless shapes are fixed."""

ALIGNMENT = 16
"""The places that are read are a multiple of this: a GPU's kernel would copy any other mask, in each layer."""


class GroupCache:
    """Holds so many groups at once, each from its prompt on."""

    def __init__(
        self, num_groups: int, num_rollouts: int, config: PreTrainedConfig, device: torch.device, *, fixed: bool
    ) -> None:
        self._num_key_heads = int(config.num_key_value_heads)
        self._num_repeats = int(config.num_attention_heads) // self._num_key_heads
        self._num_rollouts, self._fixed = num_rollouts, fixed
        self._steps_ahead: int = STEPS_AHEAD
        # What a group uses is known here and on the device: a step asks neither of the two for what the other knows.
        self._ends: list[int] = [0] * num_groups
        self._most: list[int] = [0] * num_groups
        self._end_P1 = torch.zeros(num_groups, 1, dtype=torch.long, device=device)
        self._growth_P1 = torch.zeros_like(self._end_P1)
        self._own_G = torch.arange(num_rollouts, device=device)
        self._places_PG = self._end_P1 + self._own_G
        self._num_places: int = 0
        self._num_seen: int = 0
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._bias: torch.Tensor = torch.empty(0)

    def reading(self, groups: Sequence[int], lengths: Sequence[int], limits: Sequence[int]) -> PromptReading:
        """Begin groups, and return the `layout` of a call that reads their prompts, one after the other in one row.

        Args:
            groups: places of groups that have ended, or not begun.
            lengths: the prompts' numbers of tokens.
            limits: the most tokens of a rollout.
        """
        for group, length, limit in zip(groups, lengths, limits, strict=True):
            # The last token of a rollout is never stored.
            self._ends[group], self._most[group] = length, length + max(1, limit - 1) * self._num_rollouts
            self._end_P1[group], self._growth_P1[group] = length, self._num_rollouts
        self._make_room()
        return PromptReading(self, groups, lengths)

    def end(self, group: int) -> None:
        """Note that a group has ended. Until another one begins there, steps write into its first places."""
        self._ends[group] = self._most[group] = 0
        self._end_P1[group] = self._growth_P1[group] = 0

    def put(self, layer: int, group: int, key_KSD: torch.Tensor, value_KSD: torch.Tensor) -> None:
        """Store the keys and values of a prompt, layer by layer."""
        if layer == len(self._keys):
            shape = (len(self._ends), self._num_key_heads, self._num_places, key_KSD.shape[-1])
            self._keys.append(key_KSD.new_zeros(shape))
            self._values.append(value_KSD.new_zeros(shape))
        if layer == 0:
            self._show_prompt(group, key_KSD.shape[1])
        self._keys[layer][group, :, : key_KSD.shape[1]] = key_KSD
        self._values[layer][group, :, : key_KSD.shape[1]] = value_KSD

    def prepare_step(self) -> int:
        """Make room for one more token of each rollout, before each step; returns the places there is room for."""
        self._make_room()
        needed = max(self._ends) + self._num_rollouts
        self._num_seen = self._num_places if self._fixed else min(self._num_places, _round_up(needed))
        self._ends = [end and end + self._num_rollouts for end in self._ends]
        return self._num_places

    def next_step(self) -> GroupCache:
        """The `layout` of a step, to be called in it: it decides on the device where the new tokens go."""
        self._places_PG = self._end_P1 + self._own_G
        self._end_P1 += self._growth_P1
        self._bias.scatter_(3, self._places_PG.repeat(1, self._num_repeats)[:, None, :, None], 0)
        return self

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, layer: int
    ) -> torch.Tensor:
        keys, values = self._keys[layer], self._values[layer]
        places = self._places_PG[:, None, :, None].expand_as(key)
        keys.scatter_(2, places, key)
        values.scatter_(2, places, value)
        seen = slice(0, self._num_seen)
        return attend_grouped(query, keys[:, :, seen], values[:, :, seen], self._bias[..., seen], scale)

    def keep(self, groups: Sequence[int], rollouts_PG: torch.Tensor) -> None:
        """Keep these groups, and of each these rollouts, in this order."""
        groups_P = torch.tensor(groups, device=rollouts_PG.device)
        bias_PRGL = self._bias.view(len(self._ends), self._num_repeats, self._num_rollouts, -1)[groups_P]
        index = rollouts_PG[:, None, :, None].expand(-1, self._num_repeats, -1, self._num_places)
        self._bias = bias_PRGL.gather(2, index).flatten(1, 2)[:, None]
        self._ends, self._most = [self._ends[group] for group in groups], [self._most[group] for group in groups]
        self._num_rollouts = rollouts_PG.shape[1]
        self._own_G, self._end_P1 = self._own_G[: self._num_rollouts], self._end_P1[groups_P]
        self._growth_P1 = self._growth_P1[groups_P].clamp(max=self._num_rollouts)
        for layer in range(len(self._keys)):
            self._keys[layer], self._values[layer] = self._keys[layer][groups_P], self._values[layer][groups_P]

    def _make_room(self) -> None:
        needed = max(self._ends) + self._num_rollouts
        if needed <= self._num_places:
            return
        most = max(self._most)
        if not self._fixed:
            most = min(most, needed + (self._steps_ahead - 1) * self._num_rollouts)
            self._steps_ahead *= 2
        self._num_places = _round_up(max(most, needed))
        for layer in range(len(self._keys)):  # each in its place, so that there are never two copies of all
            self._keys[layer] = self._with_room(self._keys[layer])
            self._values[layer] = self._with_room(self._values[layer])
        if self._keys:
            more = self._num_places - self._bias.shape[-1]
            self._bias = torch.nn.functional.pad(self._bias, (0, more), value=-torch.inf)

    def _show_prompt(self, group: int, length: int) -> None:
        """Set what is added to a group's attention scores: 0 at places that a rollout sees, -inf at all others."""
        if not len(self._bias):
            shape = (len(self._ends), 1, self._num_repeats * self._num_rollouts, self._num_places)
            self._bias = torch.full(shape, -torch.inf, dtype=self._keys[0].dtype, device=self._keys[0].device)
        self._bias[group] = -torch.inf
        self._bias[group, ..., :length] = 0

    def _with_room(self, states_PKLD: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(states_PKLD, (0, 0, 0, self._num_places - states_PKLD.shape[2]))


class PromptReading:
    """Each prompt sees itself, and leaves its keys and values in the cache (an `attention.PromptLayout`)."""

    def __init__(
        self, cache: GroupCache, groups: Sequence[int], lengths: Sequence[int], *, is_at_end: bool = False
    ) -> None:
        self._cache, self._groups, self._lengths = cache, groups, lengths
        self._attend = attend_at_end if is_at_end else attend_causally

    def at_end(self) -> PromptReading:
        return PromptReading(self._cache, self._groups, self._lengths, is_at_end=True)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, layer: int
    ) -> torch.Tensor:
        outputs: list[torch.Tensor] = []
        start = 0
        for group, length in zip(self._groups, self._lengths, strict=True):
            own = slice(start, start + length)
            prompt_key, prompt_value = key[:, :, own], value[:, :, own]
            outputs.append(self._attend(query[:, :, own], prompt_key, prompt_value, scale))
            self._cache.put(layer, group, prompt_key[0], prompt_value[0])
            start += length
        return torch.cat(outputs, dim=2)


def _round_up(num_places: int) -> int:
    return -(-num_places // ALIGNMENT) * ALIGNMENT
