"""Views through the vision tower, quickly on a CPU: the same numbers as the stock forward to rounding, about five times
faster.

Two departures from the stock modules, both exact in real arithmetic: the patch embedding of a still image (two equal
frames) is one matrix product with summed frame weights instead of a Conv3d, and attention runs over all images of one
size at once instead of one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen

from p2r.models.local.patches import normalize
from recipes.nano.pool import View


@dataclass(frozen=True, slots=True)
class Features:
    """One image: visual tokens (N, D) and the same per deepstack level (levels, N, D)."""

    tokens: Tensor
    deep: Tensor


def install_fast_vision() -> None:
    """Replace the two slow forwards for this process."""
    qwen.Qwen3VLVisionPatchEmbed.forward = _embed_patches
    qwen.Qwen3VLVisionAttention.forward = _attend


def encode(model: Qwen3VLForConditionalGeneration, views: Sequence[View]) -> list[Features]:
    """Features of each view, in order. Views of one size are processed side by side."""
    order = sorted(range(len(views)), key=lambda index: views[index].grid)
    pixels = normalize([views[index].patches for index in order], frames=1)
    grids = torch.tensor([[1, 2 * views[index].grid[0], 2 * views[index].grid[1]] for index in order])
    output = model.model.visual(pixels, grid_thw=grids, return_dict=True)
    sizes = [views[index].grid[0] * views[index].grid[1] for index in order]
    tokens = torch.split(
        output.pooler_output if isinstance(output.pooler_output, Tensor) else torch.cat(output.pooler_output), sizes
    )
    deep = torch.split(torch.stack(list(output.deepstack_features)), sizes, dim=1)
    features: list[Features | None] = [None] * len(views)
    for place, index in enumerate(order):
        features[index] = Features(tokens[place], deep[place])
    return [feature for feature in features if feature is not None]


def _embed_patches(self: qwen.Qwen3VLVisionPatchEmbed, hidden_states: Tensor) -> Tensor:
    weight = self.proj.weight
    one_frame = weight.shape[1] * weight.shape[3] * weight.shape[4]
    if hidden_states.shape[-1] == one_frame:
        weight = weight.sum(2)
    return F.linear(hidden_states.to(weight.dtype), weight.reshape(weight.shape[0], -1), self.proj.bias)


def _attend(
    self: qwen.Qwen3VLVisionAttention,
    hidden_states: Tensor,
    cu_seqlens: Tensor,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **_: object,
) -> Tensor:
    num_tokens = hidden_states.shape[0]
    query, key, value = self.qkv(hidden_states).reshape(num_tokens, 3, self.num_heads, -1).unbind(1)
    query, key = qwen.apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
    outputs, start, first = [], 0, 0
    while first < len(lengths):
        last = first
        while last < len(lengths) and lengths[last] == lengths[first]:
            last += 1
        stop = start + (last - first) * lengths[first]
        shape = (last - first, lengths[first], self.num_heads, -1)
        q, k, v = (part[start:stop].reshape(shape).transpose(1, 2) for part in (query, key, value))
        if torch.is_grad_enabled():  # plain products have a faster backward on a CPU
            mixed = ((q * self.scaling) @ k.transpose(-1, -2)).softmax(-1) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scaling)
        outputs.append(mixed.transpose(1, 2).reshape(stop - start, -1))
        start, first = stop, last
    return self.proj(torch.cat(outputs))
