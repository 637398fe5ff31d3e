"""Attention by a layout of ours, inside the stock models of transformers.

`install` gives a model's language part an attention function that does what stock sdpa does, unless the call carries a
`layout`, which then attends itself. There are two: `SharedPrefix` (one prompt, many responses, with gradient) and
`group_cache.GroupCache` (many tokens per step against one cached prompt). Model code, vision tower, positions,
checkpointing and sharding stay those of transformers.

No layer follows the last one, so all that it computes for a token behind its attention is of use only where the caller
reads the hidden state. A call with `wanted` places has these alone in its result: a prompt is read for its keys, values
and last token, and a nano model of four layers saves a fifth of its arithmetic.

It is installed for good, not around a call: gradient checkpointing runs a layer again during backward, after any `with`
block around the forward has closed. The layout is an argument of the call, so it is there in both runs.

Shapes: H query heads, K key heads (H a multiple of K: grouped queries), D channels of a head; G responses of a group, R
longest of them less one token.
"""

# transformers and torch are typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MethodType
from typing import Protocol

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from p2r.errors import ModelError
from p2r.models.local.engine import VisionLanguageModel

NAME = "p2r_layout"


class Layout(Protocol):
    """The way in which the tokens of a call see each other."""

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, layer: int
    ) -> torch.Tensor:
        """(B, H, N, D) from a query (B, H, N, D) and a key and value (B, K, N, D), rotary positions applied."""
        ...


class PromptLayout(Layout, Protocol):
    """A layout that reads prompts."""

    def at_end(self) -> PromptLayout:
        """The layout of the last layer, in which of a prompt only the last token attends."""
        ...


def install(model: VisionLanguageModel) -> None:
    """Let calls with a `layout`, and with `wanted` places, through; all other calls stay as they are.

    Raises:
        ModelError: the model drops attention weights at random, which no layout does, or its last layer is followed by
            more than a norm.
    """
    config, layers = model.model.language_model.config, model.model.language_model.layers
    if len(layers) <= len(getattr(model.config.vision_config, "deepstack_visual_indexes", ())):
        raise ModelError("this model adds features of images behind its last layer, which is not supported in training")
    if getattr(config, "attention_dropout", 0.0):
        raise ModelError(
            f"this model has an attention_dropout of {config.attention_dropout}, which is not supported in training",
            hint="set attention_dropout to 0 in its config.json, as published models do",
        )
    setattr(config, "_attn_implementation", NAME)  # noqa: B010  # transformers has no public setter
    layers[-1].forward = MethodType(_forward_last, layers[-1])


class _DecoderLayer(Protocol):
    """A decoder layer of transformers, by its parts."""

    input_layernorm: torch.nn.Module
    self_attn: torch.nn.Module
    post_attention_layernorm: torch.nn.Module
    mlp: torch.nn.Module

    def forward(self, hidden_states: torch.Tensor, **rest: object) -> torch.Tensor: ...


def _forward_last(
    layer: _DecoderLayer,
    hidden_states: torch.Tensor,
    *,
    layout: PromptLayout | None = None,
    wanted: torch.Tensor | None = None,
    **rest: object,
) -> torch.Tensor:
    """Run the last layer: with `wanted` places, behind its attention at these alone."""
    if layout is None or wanted is None:
        return type(layer).forward(layer, hidden_states, layout=layout, **rest)
    states = layer.input_layernorm(hidden_states)
    attended, _ = layer.self_attn(hidden_states=states, layout=layout.at_end(), **rest)
    hidden_states = hidden_states[:, wanted] + attended[:, wanted]
    return hidden_states + layer.mlp(layer.post_attention_layernorm(hidden_states))


def attend_causally(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Each token sees itself and those before it."""
    if query.is_cuda:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=True)
    repeats = query.shape[1] // key.shape[1]  # the CPU's fast kernel knows no grouped queries
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)


def attend_at_end(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """The last token sees all; zeros stand for what the others would see."""
    output = attend_grouped(query[:, :, -1:], key, value, None, scale)
    return torch.nn.functional.pad(output, (0, 0, query.shape[2] - 1, 0))


def attend_grouped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
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


@dataclass(frozen=True, slots=True)
class Stretch:
    """One prompt and its responses within a packed row.

    index_GR: places of the responses' tokens; shorter responses are filled up with the prompt's last token.
    real_S: places of real tokens in the flattened (G, R), in the row's order.
    mask: on a CPU, for `attend_grouped`; None on a GPU, whose kernel has this mask by name.
    """

    start: int
    num_prompt: int
    index_GR: torch.Tensor
    real_S: torch.Tensor
    mask: torch.Tensor | None

    @classmethod
    def make(cls, start: int, num_prompt: int, own: Sequence[int], model: VisionLanguageModel) -> Stretch:
        """Make the stretch of one prompt and its responses.

        Args:
            start: the position of the prompt's first token in the packed call.
            num_prompt: the number of the prompt's tokens.
            own: the number of packed tokens of each response.
        """
        longest, end = max(own), start + num_prompt
        index_GR = torch.full((len(own), longest), end - 1)
        for row, num_tokens in enumerate(own):
            index_GR[row, :num_tokens] = torch.arange(end, end + num_tokens)
            end += num_tokens
        real_S = (torch.arange(longest) < torch.tensor(own)[:, None]).flatten().nonzero()[:, 0]
        mask = None
        if model.device.type != "cuda":
            sees_RM = torch.ones(longest, num_prompt + longest, dtype=torch.bool).tril(num_prompt)
            config = model.config.get_text_config()
            mask = repeat_rows(sees_RM[None], config.num_attention_heads, config.num_key_value_heads).to(model.device)
        return cls(start, num_prompt, index_GR.to(model.device), real_S.to(model.device), mask)


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Prompts see themselves; each response sees its prompt and itself (a `PromptLayout`)."""

    stretches: tuple[Stretch, ...]
    is_at_end: bool = False

    def at_end(self) -> SharedPrefix:
        return replace(self, is_at_end=True)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, layer: int
    ) -> torch.Tensor:
        outputs: list[torch.Tensor] = []
        attend_prompt = attend_at_end if self.is_at_end else attend_causally
        for stretch in self.stretches:
            prompt = slice(stretch.start, stretch.start + stretch.num_prompt)
            prompt_key, prompt_value = key[:, :, prompt], value[:, :, prompt]
            outputs.append(attend_prompt(query[:, :, prompt], prompt_key, prompt_value, scale))
            if not len(stretch.real_S):
                continue
            group_size = len(stretch.index_GR)
            query_GHRD = query[0][:, stretch.index_GR].transpose(0, 1)
            key_GKRD = key[0][:, stretch.index_GR].transpose(0, 1)
            value_GKRD = value[0][:, stretch.index_GR].transpose(0, 1)
            output_GHRD = _attend_after_prompt(
                query_GHRD,
                torch.cat([prompt_key.expand(group_size, -1, -1, -1), key_GKRD], dim=2),
                torch.cat([prompt_value.expand(group_size, -1, -1, -1), value_GKRD], dim=2),
                stretch.mask,
                scale,
            )
            outputs.append(output_GHRD.transpose(0, 1).flatten(1, 2)[:, stretch.real_S][None])
        return torch.cat(outputs, dim=2)


def _attend_after_prompt(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """The queries are the last of the keys' places: causal, aligned at the end."""
    if mask is not None:
        return attend_grouped(query, key, value, mask, scale)
    bias = causal_lower_right(query.shape[2], key.shape[2])
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=bias,  # pyright: ignore[reportArgumentType]  # a tensor to torch, which picks the kernel by its type
        scale=scale,
        enable_gqa=True,
    )


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
    """Compute attention for transformers, which calls this in each layer; returns (B, N, H, D)."""
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
