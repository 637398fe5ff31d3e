"""Keys and values of prompts and of their rollouts, in one row per prompt (an `attention.Layout`).

    [ padding | prompt | first tokens of the G rollouts | second tokens of the G rollouts | ... ]

Prompts are read one after the other in one row, without padding. Each step adds G places; a mask lets each rollout see
only the prompt and its own places. Room is made ahead and doubled when it runs out, so that a step copies nothing but
its own tokens.

Shapes: P prompts, G rollouts per prompt, S longest prompt, L places there is room for, K key heads, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig

from p2r.training.engines.local.attention import attend_causally, attend_grouped, repeat_rows

STEPS_AHEAD = 64
"""Tokens of each rollout that there is room for at first."""

ALIGNMENT = 16
"""The places that are read are a multiple of this: a GPU's kernel would copy any other mask, in each layer."""


class GroupCache:
    """Holds prompts of these lengths once they have been read, and takes at most `max_steps` steps."""

    def __init__(
        self,
        lengths: Sequence[int],
        num_rollouts: int,
        max_steps: int,
        config: PreTrainedConfig,
        device: torch.device,
    ) -> None:
        self._num_heads, self._num_key_heads = int(config.num_attention_heads), int(config.num_key_value_heads)
        longest = max(lengths)
        self._prompt_mask_PS = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
        self._prompt_mask_PS = self._prompt_mask_PS.to(device)
        self._num_rollouts = num_rollouts
        self._num_steps, self._max_steps = 0, max_steps
        self._room: int = min(STEPS_AHEAD, max_steps)
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._bias = torch.empty(0)

    def reading(self, first: int, lengths: Sequence[int]) -> PromptReading:
        """The `layout` of a call that reads prompts of these lengths, one after the other in one row.

        Args:
            first: the place of the first of them among all prompts.
        """
        return PromptReading(self, first, lengths)

    def put(self, layer: int, prompt: int, key_KSD: torch.Tensor, value_KSD: torch.Tensor) -> None:
        """Store the keys and values of a prompt, layer by layer."""
        if layer == len(self._keys):
            shape = (len(self._prompt_mask_PS), self._num_key_heads, self._num_places, key_KSD.shape[-1])
            self._keys.append(key_KSD.new_zeros(shape))
            self._values.append(value_KSD.new_zeros(shape))
        own = slice(self._num_prompt - key_KSD.shape[1], self._num_prompt)
        self._keys[layer][prompt, :, own] = key_KSD
        self._values[layer][prompt, :, own] = value_KSD

    def next_step(self) -> GroupCache:
        """Make room for one more token of each rollout; pass the result as the `layout` of that step."""
        if self._num_steps == self._room:
            self._room = min(2 * self._room, self._max_steps)
            for layer in range(len(self._keys)):
                self._keys[layer] = self._with_room(self._keys[layer])
                self._values[layer] = self._with_room(self._values[layer])
            self._bias = self._make_bias()
        elif self._num_steps == 0:
            self._bias = self._make_bias()
        self._num_steps += 1
        own_GG = torch.full((self._num_rollouts, self._num_rollouts), -torch.inf).fill_diagonal_(0)
        self._bias[..., self._end - self._num_rollouts : self._end] = repeat_rows(
            own_GG[None], self._num_heads, self._num_key_heads
        )
        return self

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, layer: int
    ) -> torch.Tensor:
        new, seen = slice(self._end - self._num_rollouts, self._end), _round_up(self._end)
        keys, values = self._keys[layer], self._values[layer]
        keys[:, :, new], values[:, :, new] = key, value
        return attend_grouped(query, keys[:, :, :seen], values[:, :, :seen], self._bias[..., :seen], scale)

    def keep(self, prompts_P: torch.Tensor, rollouts_PG: torch.Tensor) -> None:
        """Keep these prompts, and of each these rollouts, in this order."""
        steps_T1 = torch.arange(self._room, device=rollouts_PG.device)[:, None] * self._num_rollouts
        own_PL = self._num_prompt + (steps_T1 + rollouts_PG[:, None]).flatten(1)
        prompt_PL = torch.arange(self._num_prompt, device=rollouts_PG.device).expand(len(prompts_P), -1)
        self._prompt_mask_PS = self._prompt_mask_PS[prompts_P]
        self._num_rollouts = rollouts_PG.shape[1]
        places_PL = torch.cat([prompt_PL, own_PL], dim=1)
        places_PL = torch.nn.functional.pad(places_PL, (0, self._num_places - places_PL.shape[1]))
        for layer in range(len(self._keys)):
            self._keys[layer] = _select(self._keys[layer], prompts_P, places_PL)
            self._values[layer] = _select(self._values[layer], prompts_P, places_PL)
        self._bias = self._make_bias()

    @property
    def _end(self) -> int:
        """The number of places in use."""
        return self._num_prompt + self._num_steps * self._num_rollouts

    @property
    def _num_places(self) -> int:
        return _round_up(self._num_prompt + self._room * self._num_rollouts)

    @property
    def _num_prompt(self) -> int:
        return self._prompt_mask_PS.shape[1]

    def _with_room(self, states_PKLD: torch.Tensor) -> torch.Tensor:
        num_prompts, num_key_heads, length, channels = states_PKLD.shape
        roomy = states_PKLD.new_zeros(num_prompts, num_key_heads, self._num_places, channels)
        roomy[:, :, :length] = states_PKLD
        return roomy

    def _make_bias(self) -> torch.Tensor:
        """Make what is added to attention scores: 0 where a rollout may look, -inf elsewhere and at unused places."""
        sees_PGL = torch.zeros(
            len(self._prompt_mask_PS),
            self._num_rollouts,
            self._num_places,
            dtype=torch.bool,
            device=self._prompt_mask_PS.device,
        )
        sees_PGL[:, :, : self._num_prompt] = self._prompt_mask_PS[:, None]
        own_GL = torch.eye(self._num_rollouts, dtype=torch.bool).repeat(1, self._num_steps)
        sees_PGL[:, :, self._num_prompt : self._end] = own_GL.to(sees_PGL.device)
        bias_PGL = torch.full_like(sees_PGL, -torch.inf, dtype=self._keys[0].dtype)
        return repeat_rows(bias_PGL.masked_fill_(sees_PGL, 0), self._num_heads, self._num_key_heads)


class PromptReading:
    """Each prompt sees itself, and leaves its keys and values in the cache (an `attention.Layout`)."""

    def __init__(self, cache: GroupCache, first: int, lengths: Sequence[int]) -> None:
        self._cache, self._first, self._lengths = cache, first, lengths

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, layer: int
    ) -> torch.Tensor:
        outputs: list[torch.Tensor] = []
        start = 0
        for place, length in enumerate(self._lengths, start=self._first):
            own = slice(start, start + length)
            prompt_key, prompt_value = key[:, :, own], value[:, :, own]
            outputs.append(attend_causally(query[:, :, own], prompt_key, prompt_value, scale))
            self._cache.put(layer, place, prompt_key[0], prompt_value[0])
            start += length
        return torch.cat(outputs, dim=2)


def _round_up(num_places: int) -> int:
    return -(-num_places // ALIGNMENT) * ALIGNMENT


def _select(states_PKLD: torch.Tensor, prompts_P: torch.Tensor, places_PL: torch.Tensor) -> torch.Tensor:
    chosen = states_PKLD[prompts_P]
    index = places_PL[:, None, :, None].expand(-1, chosen.shape[1], -1, chosen.shape[3])
    return chosen.gather(2, index)
