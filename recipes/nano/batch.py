"""Rows put together into tensors. Shapes: B rows, L tokens, N visual tokens, D width, K levels of deepstack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recipes.nano.rows import POINTER_HEADS, Row


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows put together, padded on the right. Places are (row, token) pairs."""

    ids_BL: Tensor
    positions_3BL: Tensor
    bias_B1LL: Tensor
    visual_BL: Tensor
    tokens_ND: Tensor
    deep_KND: Tensor
    places: tuple[Tensor, Tensor]
    labels: Tensor
    weights: Tensor
    kinds: Tensor
    pointers: dict[int, tuple[Tensor, Tensor, Tensor]]
    box_digits: tuple[Tensor, Tensor, Tensor] | None


def collate(rows: Sequence[Row], pad_id: int, image_id: int, width: int, levels: int) -> Batch:
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad_id)
    positions = torch.zeros(3, len(rows), length, dtype=torch.long)
    segments = torch.full((len(rows), length), -1)
    for b, row in enumerate(rows):
        ids[b, : len(row.ids)] = torch.tensor(row.ids)
        positions[:, b, : len(row.ids)] = torch.tensor(row.positions).T
        segments[b, : len(row.ids)] = torch.tensor(row.segments)
    images = [image for row in rows for image in row.images]
    tokens = torch.cat([image.tokens for image in images]).float() if images else torch.zeros(0, width)
    deep = torch.cat([image.deep for image in images], 1).float() if images else torch.zeros(levels, 0, width)
    flat = [(b, k) for b, row in enumerate(rows) for k, label in enumerate(row.labels) if label >= 0]
    pick = [(rows[b].labels[k], rows[b].weights[k], rows[b].kinds[k]) for b, k in flat]
    pointers = {}
    for slot in POINTER_HEADS:
        found = [(b, query, key) for b, row in enumerate(rows) for kind, query, key in row.pointers if kind == slot]
        if found:
            pointers[slot] = tuple(torch.tensor(column) for column in zip(*found, strict=True))
    digits = [(b, place, values) for b, row in enumerate(rows) for place, values in row.digits]
    return Batch(
        ids_BL=ids,
        positions_3BL=positions,
        bias_B1LL=attention_bias(segments),
        visual_BL=ids == image_id,
        tokens_ND=tokens,
        deep_KND=deep,
        places=(torch.tensor([b for b, _ in flat]), torch.tensor([k for _, k in flat])),
        labels=torch.tensor([label for label, _, _ in pick]),
        weights=torch.tensor([weight for _, weight, _ in pick]),
        kinds=torch.tensor([kind for _, _, kind in pick]),
        pointers=pointers,
        box_digits=tuple(torch.tensor(column) for column in zip(*digits, strict=True)) if digits else None,
    )


def attention_bias(segments_BL: Tensor) -> Tensor:
    """(B, 1, L, L): 0 where a token may look (earlier, and in the prefix or its own segment), a huge negative number
    elsewhere."""
    length = segments_BL.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    same = segments_BL[:, :, None] == segments_BL[:, None, :]
    allowed = earlier & (same | (segments_BL[:, None, :] == 0))
    return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[:, None]
