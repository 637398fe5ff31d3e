"""Greedy replies of a model in training, in batches, through the stock `generate`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from p2r.models.local.patches import normalize
from recipes.nano.pool import View


@torch.no_grad()
def generate_replies(
    model: Qwen3VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    system: str,
    items: Sequence[tuple[str, Sequence[View]]],
    *,
    max_new_tokens: int,
    batch: int = 48,
) -> list[str]:
    """One reply per (user text, images), in order."""
    image_id = model.config.image_token_id
    prompts: list[list[int]] = []
    for text, views in items:
        images = "".join(
            "<|vision_start|>" + "<|image_pad|>" * (v.grid[0] * v.grid[1]) + "<|vision_end|>" for v in views
        )
        opening = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{images}{text}"
        turn = opening + "<|im_end|>\n<|im_start|>assistant\n"
        prompts.append(tokenizer.encode(turn, add_special_tokens=False))
    order = sorted(range(len(items)), key=lambda index: len(prompts[index]))
    replies = [""] * len(items)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        length = max(len(prompts[index]) for index in part)
        ids = torch.tensor([[tokenizer.pad_token_id] * (length - len(prompts[k])) + prompts[k] for k in part])
        mask = torch.tensor([[0] * (length - len(prompts[k])) + [1] * len(prompts[k]) for k in part])
        views = [view for index in part for view in items[index][1]]
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            mm_token_type_ids=(ids == image_id).int(),
            pixel_values=normalize([view.patches for view in views], frames=1),
            image_grid_thw=torch.tensor([[1, 2 * view.grid[0], 2 * view.grid[1]] for view in views]),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        texts = tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
        for index, text in zip(part, texts, strict=True):
            replies[index] = text
    return replies
