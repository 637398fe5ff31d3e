"""Replies from a Qwen-VL model, a batch at a time: one prefill, then a token per row and step.

A loop of our own in place of `generate`, for what that does not give: nothing is inherited from
generation_config.json (greedy is greedy); each row has its own limit; a seeded row draws the same tokens whatever
shares its batch, and the global random state is left alone; the repetition penalty does not see padding; a batch
whose callers have left stops. Rows that have ended leave the batch when half of them have. Tests hold it equal to
`generate` where both can do the same.

Shapes: B rows, P longest prompt (shorter ones are padded on the left), V vocabulary.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache, Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

from p2r.models.encoding import EncodedPrompt
from p2r.models.patches import normalise
from p2r.models.profiles import PatchFormat
from p2r.types import Decoding

VisionLanguageModel = Qwen3VLForConditionalGeneration | Qwen2_5_VLForConditionalGeneration


@dataclass(frozen=True, slots=True)
class Reply:
    """Generated tokens, the end token left out; `ended` is False when the limit cut the reply off."""

    token_ids: tuple[int, ...]
    ended: bool
    num_generated: int


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded model and what generating with it needs.

    num_frames: how often a patch is repeated for the vision tower: see `fold_patch_embedding`.
    """

    model: VisionLanguageModel
    patches: PatchFormat
    image_token_id: int
    end_token_ids: frozenset[int]
    max_positions: int | None
    num_frames: int

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[EncodedPrompt], decoding: Decoding, abandoned: Callable[[], bool] = lambda: False
    ) -> list[Reply]:
        """Reply to each prompt.

        Args:
            abandoned: asked at each step; when it says yes, what is there so far is returned.
        """
        ids_BP, mask_BP = self._pad([prompt.token_ids for prompt in prompts])
        types_BP = (ids_BP == self.image_token_id).int() * mask_BP.int()
        pictures = self._pictures(prompts)
        grid = pictures.get("image_grid_thw")
        axes_3BP, shift_B1 = self.model.model.get_rope_index(
            ids_BP,  # pyright: ignore[reportArgumentType]  # any tensor will do, here and below
            mm_token_type_ids=types_BP,  # pyright: ignore[reportArgumentType]
            image_grid_thw=grid,  # pyright: ignore[reportArgumentType]
            attention_mask=mask_BP,
        )
        order_BP = (mask_BP.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config.get_text_config())
        logits_BV = self._step(cache, ids_BP, mask_BP, torch.cat([order_BP[None], axes_3BP]), types_BP, pictures)
        sampler = _Sampler(decoding, ids_BP, mask_BP, logits_BV.shape[-1])
        length_B1 = mask_BP.sum(-1, keepdim=True)

        tokens: list[list[int]] = [[] for _ in prompts]
        ended = [False] * len(prompts)
        limits = [self._limit(prompt, decoding) for prompt in prompts]
        rows = list(range(len(prompts)))
        for step in range(max(limits)):
            next_B = sampler.choose(logits_BV)
            for row, token in zip(rows, next_B.tolist(), strict=True):
                if not ended[row] and len(tokens[row]) < limits[row]:
                    tokens[row].append(token)
                    ended[row] = token in self.end_token_ids
            going = [slot for slot, row in enumerate(rows) if not ended[row] and len(tokens[row]) < limits[row]]
            if not going or abandoned():
                break
            if len(going) <= len(rows) // 2:
                keep = torch.tensor(going, device=ids_BP.device)
                cache.batch_select_indices(keep)
                sampler.keep(going, keep)
                mask_BP, length_B1, shift_B1, next_B = mask_BP[keep], length_B1[keep], shift_B1[keep], next_B[keep]
                rows = [rows[slot] for slot in going]
            mask_BP = torch.cat([mask_BP, mask_BP.new_ones(len(rows), 1)], dim=1)
            place_B1 = length_B1 + step
            axes_3B1 = (place_B1 + shift_B1)[None].expand(3, -1, -1)
            logits_BV = self._step(cache, next_B[:, None], mask_BP, torch.cat([place_B1[None], axes_3B1]))
        return [
            Reply(tuple(chosen[:-1] if has_ended else chosen), has_ended, len(chosen))
            for chosen, has_ended in zip(tokens, ended, strict=True)
        ]

    def _step(
        self,
        cache: DynamicCache,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        types: torch.Tensor | None = None,
        pictures: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Logits (B, V) after the last token of `ids`; `cache` grows by `ids`."""
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            mm_token_type_ids=types,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **(pictures or {}),
        )
        return output.logits[:, -1].float()

    def _pad(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and mask, (B, P), filled on the left: every row's last token is in the last column."""
        longest = max(map(len, rows))
        filler = min(self.end_token_ids, default=0)
        ids = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows], device=self.model.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.model.device)
        assert bool(mask[:, -1].all()), "prompts are padded on the left"
        return ids, mask

    def _pictures(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        patches = [rows for prompt in prompts for rows in prompt.patches]
        if not patches:
            return {}
        grids = torch.tensor([grid for prompt in prompts for grid in prompt.grids], device=self.model.device)
        pixels = normalise(
            patches, self.patches, device=self.model.device, dtype=self.model.dtype, frames=self.num_frames
        )
        return {"pixel_values": pixels, "image_grid_thw": grids}

    def _limit(self, prompt: EncodedPrompt, decoding: Decoding) -> int:
        if self.max_positions is None:
            return decoding.max_new_tokens
        return max(1, min(decoding.max_new_tokens, self.max_positions - len(prompt.token_ids)))


class _Sampler:
    """Chooses each row's next token."""

    def __init__(self, decoding: Decoding, ids_BP: torch.Tensor, mask_BP: torch.Tensor, vocabulary: int) -> None:
        self._decoding = decoding
        self._seen_BV: torch.Tensor | None = None
        if decoding.repetition_penalty != 1.0:
            real_BP = mask_BP.bool()
            self._seen_BV = torch.zeros(len(ids_BP), vocabulary + 1, dtype=torch.bool, device=ids_BP.device)
            self._seen_BV.scatter_(1, torch.where(real_BP, ids_BP, vocabulary), True)
            self._seen_BV = self._seen_BV[:, :vocabulary]
        self._generators: list[torch.Generator] = []
        if decoding.temperature > 0:
            for _ in range(len(ids_BP)):
                seed = secrets.randbits(62) if decoding.seed is None else decoding.seed
                self._generators.append(torch.Generator(device=ids_BP.device).manual_seed(seed))

    def choose(self, logits_BV: torch.Tensor) -> torch.Tensor:
        """(B,) token ids: the likeliest, or drawn when the temperature is above zero."""
        if self._seen_BV is not None:
            penalty = self._decoding.repetition_penalty
            punished_BV = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
            logits_BV = torch.where(self._seen_BV, punished_BV, logits_BV)
        if self._decoding.temperature > 0:
            logits_BV = _keep_top_p(logits_BV / self._decoding.temperature, self._decoding.top_p)
            # The likeliest after adding Gumbel noise is a draw from the softmax.
            noise_BV = torch.stack(
                [
                    torch.empty_like(row).exponential_(generator=each)
                    for row, each in zip(logits_BV, self._generators, strict=True)
                ]
            )
            logits_BV = logits_BV - noise_BV.log()
        chosen_B = logits_BV.argmax(-1)
        if self._seen_BV is not None:
            self._seen_BV.scatter_(1, chosen_B[:, None], True)
        return chosen_B

    def keep(self, slots: Sequence[int], index: torch.Tensor) -> None:
        if self._seen_BV is not None:
            self._seen_BV = self._seen_BV[index]
        self._generators = [self._generators[slot] for slot in slots] if self._generators else []


def _keep_top_p(logits_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Leave out the least likely tokens that together have at most 1 - top_p; the likeliest always stays."""
    if top_p >= 1.0:
        return logits_BV
    ordered_BV, index_BV = logits_BV.sort(dim=-1)
    tail_BV = ordered_BV.softmax(-1).cumsum(-1) <= 1 - top_p
    tail_BV[:, -1] = False
    return logits_BV.masked_fill(tail_BV.scatter(1, index_BV, tail_BV), -torch.inf)


def fold_patch_embedding(model: VisionLanguageModel) -> int:
    """Make the patch embedding a matrix product, which it is; its 3-D convolution is several times slower.

    In float32 the weights of the two (equal) frames are summed as well, which changes rounding only and halves the
    pixels. In 16 bits the sum would be rounded, so both frames stay and every product is that of the convolution.

    Returns:
        Frames per patch that the vision tower now takes.
    """
    embed = model.model.visual.patch_embed
    weight = embed.proj.weight.detach()
    if weight.dtype == torch.float32:
        weight = weight.sum(dim=2, keepdim=True)
        embed.temporal_patch_size = 1
    embed.proj = _PatchProjection(weight, embed.proj.bias)  # pyright: ignore[reportAttributeAccessIssue]
    return int(weight.shape[2])


class _PatchProjection(torch.nn.Module):
    """Stands in for the Conv3d whose kernel is as large as its input."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.flatten(1).contiguous(), requires_grad=False)
        self.bias = bias

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(patches.flatten(1), self.weight, self.bias)
