"""Replies of a model in training, in batches, by the product's own generation."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from p2r.dialogue import Decoding
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Engine
from p2r.models.local.patches import QWEN3_VL
from p2r.models.local.sight import Images, Sight
from recipes.nano.pool import View

BATCH = 48


class Replier:
    """Asks a model whose vision tower is frozen: it looks at each image once, however often that is asked about."""

    def __init__(self, model: Qwen3VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer, self._sight = tokenizer, Sight()
        self._engine = Engine(
            model=model,
            patches=QWEN3_VL,
            image_token_id=model.config.image_token_id,
            end_token_ids=frozenset({tokenizer.eos_token_id}),
            max_positions=None,
            num_frames=1,
        )

    def reply(self, system: str, items: Sequence[tuple[str, Sequence[View]]], decoding: Decoding) -> list[str]:
        """One reply per (user text, images), in order. Without `system` there is no system turn."""
        prompts = [self._encode(system, text, views) for text, views in items]
        order = sorted(range(len(items)), key=lambda index: len(prompts[index].token_ids))
        replies = [""] * len(items)
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            asked = [prompts[index] for index in part]
            patches, grids = ([one for each in asked for one in getattr(each, name)] for name in ("patches", "grids"))
            with self._sight.shown_to(self._engine.model, Images(patches, grids, QWEN3_VL), keep=True):
                generated = self._engine.generate(asked, decoding)
            for index, tokens in zip(part, generated, strict=True):
                replies[index] = self._tokenizer.decode(tokens.token_ids, skip_special_tokens=True)
        return replies

    def _encode(self, system: str, text: str, views: Sequence[View]) -> EncodedPrompt:
        sizes = tuple(rows * columns for rows, columns in (view.grid for view in views))
        images = "".join("<|vision_start|>" + "<|image_pad|>" * size + "<|vision_end|>" for size in sizes)
        opening = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
        turn = f"{opening}<|im_start|>user\n{images}{text}<|im_end|>\n<|im_start|>assistant\n"
        return EncodedPrompt(
            token_ids=tuple(self._tokenizer.encode(turn, add_special_tokens=False)),
            patches=tuple(view.patches for view in views),
            grids=tuple((1, 2 * rows, 2 * columns) for rows, columns in (view.grid for view in views)),
            visual_tokens=sizes,
        )
