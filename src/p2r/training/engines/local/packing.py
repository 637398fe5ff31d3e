"""Prompts and their responses in one row, each prompt and each image once.

A group of G responses to one prompt is usually trained as G rows that repeat the prompt and its images. Here it is

    [ prompt | response 0 without its last token | response 1 without its last token | ... ]

one such stretch per prompt, behind one another, ragged, without padding. All that works token by token (embeddings,
norms, MLPs, the vision tower's tokens put in place) is right as it stands; a response's positions go on where the
prompt's end; and `SharedPrefix` lets each response see the prompt and itself alone. Log-probs and gradients are those
of the repeated rows (the last token of a response predicts nothing and is left out).

Background: PERFORMANCE, redundancies 1 and 2; the paper's equation 5 is a sum over such groups.

Shapes: G responses of a group, R longest of them less one, P prompt tokens, N packed tokens, B responses of all groups,
T longest response, M response tokens of all groups, K places whose successor is predicted, H and D as in `attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from p2r.errors import DataError
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import VisionLanguageModel
from p2r.models.profiles import QWEN3_VL, PatchFormat
from p2r.training.engines.local.attention import attend_causally, attend_grouped, repeat_rows


@dataclass(frozen=True, slots=True)
class Packed:
    """What one forward pass takes, and where its predictions belong.

    ids_1N, positions_31N: tokens of the row, and their three rotary axes.
    layout: which token sees which.
    patches, grids, patch_format: the images as bytes, each once; None where there are none.
    predictors_K: places in the row whose successors are predicted.
    source_M, target_M, place_M: for each response token, ordered by source: the predictor (an index into predictors_K),
        the token, and where its log-prob stands in the flattened (B, T).
    mask_BT: True where a response has a token.
    """

    ids_1N: torch.Tensor
    positions_31N: torch.Tensor
    layout: SharedPrefix
    patches: NDArray[np.uint8] | None
    grids: torch.Tensor | None
    patch_format: PatchFormat
    predictors_K: torch.Tensor
    source_M: torch.Tensor
    target_M: torch.Tensor
    place_M: torch.Tensor
    mask_BT: torch.Tensor


def pack(
    model: VisionLanguageModel,
    groups: Sequence[tuple[EncodedPrompt, Sequence[Sequence[int]]]],
    *,
    patch_format: PatchFormat = QWEN3_VL,
) -> Packed:
    """Put groups into one row.

    Args:
        model: whose positions, heads and device count; `attention.install` has been called on it.
        groups: prompts, each with the token ids of its responses (one token at least, the end token included).
        patch_format: that of the checkpoint the prompts were encoded for.

    Raises:
        DataError: a response is empty, or holds the token that stands for an image.
    """
    _check(groups, model.config.image_token_id)
    ids: list[int] = []
    axes: list[torch.Tensor] = []
    stretches: list[Stretch] = []
    predictors: list[int] = []
    tokens: list[tuple[int, int, int, int]] = []  # source, target, row in B, place in T
    row = 0
    for prompt, responses in groups:
        start, own = len(ids), [len(response) - 1 for response in responses]
        prompt_axes = _prompt_positions(model, prompt)
        ids.extend(prompt.token_ids)
        axes.append(prompt_axes)
        after, last = int(prompt_axes.max()) + 1, len(predictors)
        predictors.append(len(ids) - 1)  # the prompt's last token predicts every response's first
        for response in responses:
            axes.append(torch.arange(after, after + len(response) - 1).expand(3, -1))
            sources = [last, *range(len(predictors), len(predictors) + len(response) - 1)]
            predictors.extend(range(len(ids), len(ids) + len(response) - 1))
            tokens.extend(
                (source, token, row, t) for t, (source, token) in enumerate(zip(sources, response, strict=True))
            )
            ids.extend(response[:-1])
            row += 1
        stretches.append(Stretch.make(start, len(prompt.token_ids), own, model))
    tokens.sort(key=lambda each: each[0])
    source_M, target_M, row_M, t_M = torch.tensor(tokens).T.contiguous()
    longest = int(t_M.max()) + 1
    place_M = row_M * longest + t_M
    mask_BT = torch.zeros(row * longest, dtype=torch.bool)
    mask_BT[place_M] = True
    patches = [rows for prompt, _ in groups for rows in prompt.patches]
    grids = [grid for prompt, _ in groups for grid in prompt.grids]
    device = model.device
    return Packed(
        ids_1N=torch.tensor([ids], device=device),
        positions_31N=torch.cat(axes, dim=1)[:, None].to(device),
        layout=SharedPrefix(tuple(stretches)),
        patches=np.concatenate(patches) if patches else None,
        grids=torch.tensor(grids, device=device) if grids else None,
        patch_format=patch_format,
        predictors_K=torch.tensor(predictors, device=device),
        source_M=source_M.to(device),
        target_M=target_M.to(device),
        place_M=place_M.to(device),
        mask_BT=mask_BT.view(row, longest).to(device),
    )


@dataclass(frozen=True, slots=True)
class Stretch:
    """One prompt and its responses within the row.

    index_GR: places of the responses' tokens; shorter responses are filled up with the prompt's last token.
    real_S: which of the flattened (G, R) are tokens, in the row's order.
    mask: on a CPU, for `attend_grouped`; None on a GPU, whose kernel knows this mask by name.
    """

    start: int
    num_prompt: int
    index_GR: torch.Tensor
    real_S: torch.Tensor
    mask: torch.Tensor | None

    @classmethod
    def make(cls, start: int, num_prompt: int, own: Sequence[int], model: VisionLanguageModel) -> Stretch:
        """own: the number of packed tokens of each response."""
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
    """Prompts see themselves; each response sees its prompt and itself (an `attention.Layout`)."""

    stretches: tuple[Stretch, ...]

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, layer: int
    ) -> torch.Tensor:
        outputs: list[torch.Tensor] = []
        for stretch in self.stretches:
            prompt = slice(stretch.start, stretch.start + stretch.num_prompt)
            prompt_key, prompt_value = key[:, :, prompt], value[:, :, prompt]
            outputs.append(attend_causally(query[:, :, prompt], prompt_key, prompt_value, scale))
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


def _prompt_positions(model: VisionLanguageModel, prompt: EncodedPrompt) -> torch.Tensor:
    """(3, P), on the CPU: transformers computes them in Python loops."""
    ids_1P = torch.tensor([prompt.token_ids])
    axes_31P, _ = model.model.get_rope_index(
        ids_1P,  # pyright: ignore[reportArgumentType]  # any tensor will do, here and below
        mm_token_type_ids=(ids_1P == model.config.image_token_id).int(),  # pyright: ignore[reportArgumentType]
        image_grid_thw=torch.tensor(prompt.grids) if prompt.grids else None,  # pyright: ignore[reportArgumentType]
    )
    return axes_31P[:, 0]


def _check(groups: Sequence[tuple[EncodedPrompt, Sequence[Sequence[int]]]], image_token_id: int) -> None:
    for number, (_, responses) in enumerate(groups):
        if not responses:
            raise DataError(f"prompt {number} has no responses", hint="leave out prompts whose rollouts are all masked")
        for which, response in enumerate(responses):
            if not response:
                raise DataError(
                    f"response {which} to prompt {number} has no tokens", hint="a response holds its end token at least"
                )
            if image_token_id in response:
                raise DataError(
                    f"response {which} to prompt {number} holds token {image_token_id}, which stands for an image",
                    hint="take rollouts from group_generation, which never draws it",
                )
