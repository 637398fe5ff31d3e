"""Keys and values of prompts and of their rollouts, in one row per prompt (an `attention.Layout`).

    [ padding | prompt | first tokens of the G rollouts | second tokens of the G rollouts | ... ]

Each step adds G places; a mask lets each rollout see only the prompt and its own places. Room is made ahead and doubled
when it runs out, so that a step copies nothing but its own tokens.

Shapes: P prompts, G rollouts per prompt, S longest prompt, L places there is room for, K key heads, D channels.
"""

from __future__ import annotations

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from p2r.training.engines.local.attention import attend_grouped, repeat_rows

STEPS_AHEAD = 64
"""Tokens of each rollout that there is room for at first."""

ALIGNMENT = 16
"""The places that are read are a multiple of this: a GPU's kernel would copy any other mask, in each layer."""


class GroupCache:
    """Starts from a prefill's cache, which it empties, and takes at most `max_steps` steps."""

    def __init__(
        self,
        prefill: DynamicCache,
        mask_PS: torch.Tensor,
        num_rollouts: int,
        max_steps: int,
        config: PreTrainedConfig,
    ) -> None:
        self._num_heads, self._num_key_heads = int(config.num_attention_heads), int(config.num_key_value_heads)
        self._prompt_mask_PS = mask_PS.bool()
        self._num_rollouts = num_rollouts
        self._num_steps, self._max_steps = 0, max_steps
        self._room: int = min(STEPS_AHEAD, max_steps)
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        while prefill.layers:  # one at a time, so that at most one layer is held twice
            layer = prefill.layers.pop(0)
            assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
            self._keys.append(self._with_room(layer.keys))
            self._values.append(self._with_room(layer.values))
        self._bias = self._make_bias()

    def next_step(self) -> GroupCache:
        """Make room for one more token of each rollout; pass the result as the `layout` of that step."""
        if self._num_steps == self._room:
            self._room = min(2 * self._room, self._max_steps)
            for layer in range(len(self._keys)):
                self._keys[layer] = self._with_room(self._keys[layer])
                self._values[layer] = self._with_room(self._values[layer])
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


def _round_up(num_places: int) -> int:
    return -(-num_places // ALIGNMENT) * ALIGNMENT


def _select(states_PKLD: torch.Tensor, prompts_P: torch.Tensor, places_PL: torch.Tensor) -> torch.Tensor:
    chosen = states_PKLD[prompts_P]
    index = places_PL[:, None, :, None].expand(-1, chosen.shape[1], -1, chosen.shape[3])
    return chosen.gather(2, index)
