"""A place in transformers' attention where a layout of ours can step in.

`install` gives a model's language part an attention function that does what stock sdpa does, unless the call carries a
`layout`: then the layout attends. Two do: `packing.SharedPrefix` (one prompt, many responses, with gradient) and
`group_generation.GroupCache` (many tokens a step against one cached prompt). Model code, vision tower, positions,
checkpointing and sharding stay those of transformers.

Installed for good, not around a call: gradient checkpointing runs a layer again during backward, after any `with`
block around the forward has closed. The layout travels as an argument and so comes along.

Shapes: H query heads, K key heads (H a multiple of K: grouped queries), D channels of a head.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from p2r.errors import ModelError
from p2r.models.local.engine import VisionLanguageModel

NAME = "p2r_layout"


class Layout(Protocol):
    """How the tokens of a call see each other."""

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, layer: int
    ) -> torch.Tensor:
        """(B, H, N, D) from a query (B, H, N, D) and a key and value (B, K, N, D), rotary positions applied."""
        ...


def install(model: VisionLanguageModel) -> None:
    """Let calls with a `layout` through; all other calls stay as they are.

    Raises:
        ModelError: the model drops attention weights at random, which no layout does.
    """
    config = model.model.language_model.config
    if getattr(config, "attention_dropout", 0.0):
        raise ModelError(
            f"this model has an attention_dropout of {config.attention_dropout}, which is not supported in training",
            hint="set attention_dropout to 0 in its config.json, as published models do",
        )
    config._attn_implementation = NAME


def attend_causally(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Each token sees itself and those before it."""
    if query.is_cuda:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=True)
    repeats = query.shape[1] // key.shape[1]  # the CPU's fast kernel knows no grouped queries
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)


def attend_grouped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Under a mask (B or 1, 1, H / K * N, M), as `repeat_rows` makes it: the queries of all heads that share a key
    head stand one below the other, so that keys and values need no copies."""
    batch, heads, num_queries, channels = query.shape
    folded = query.reshape(batch, key.shape[1], -1, channels)
    output = scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scale)
    return output.reshape(batch, heads, num_queries, channels)


def repeat_rows(mask: torch.Tensor, num_heads: int, num_key_heads: int) -> torch.Tensor:
    """A mask (B, N, M) for `attend_grouped`."""
    return mask.repeat(1, num_heads // num_key_heads, 1)[:, None]


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    **rest: object,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer; returns (B, N, H, D)."""
    if layout is None:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            **rest,  # pyright: ignore[reportArgumentType]
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = int(module.layer_idx)  # pyright: ignore[reportArgumentType]
    return layout.attend(query, key, value, scale, layer).transpose(1, 2), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
