"""Generate replies with a Qwen-VL model, a batch at a time: one prefill, then a token per row and step.

This loop does what `generate` does not: nothing is inherited from generation_config.json (greedy is greedy); each row
has its own limit; a seeded row draws the same tokens whatever shares its batch, and the global random state is not
used; the repetition penalty does not see padding; the token that stands for an image is never drawn; a batch whose
callers have left stops. When half of the rows have ended, they leave the batch. Tests compare the loop with `generate`
where both can do the same. Training has the same prefill, limits and sampler for many rollouts of one prompt.

Shapes: B rows, P longest prompt (shorter ones are padded on the left), V vocabulary.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# The models of transformers are only partly typed.

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from p2r.dialogue import Decoding
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.patches import normalize
from p2r.models.local.sampling import Sampler
from p2r.models.local.sight import Sight, VisionLanguageModel
from p2r.models.profiles import PatchFormat

__all__ = ["Abandoned", "Engine", "GeneratedTokens", "VisionLanguageModel", "fold_patch_embedding", "left_when"]


class Abandoned(Exception):
    """Nobody waits for the replies any more."""


@dataclass(frozen=True, slots=True)
class GeneratedTokens:
    """Generated tokens without the end token.

    ended: False when the limit cut the reply off.
    first_probs: for each token that was asked for, its probability of being the first.
    """

    token_ids: tuple[int, ...]
    ended: bool
    num_generated: int
    first_probs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Prefill:
    """Prompts that the model has read.

    cache: keys and values, (B, heads, P, channels) in each layer.
    logits_BV: the logits of each row's first token.
    length_B1: the number of tokens in each prompt.
    shift_B1: the shift of a token's place on the rotary axes, since an image takes fewer positions than tokens.
    """

    cache: DynamicCache
    logits_BV: torch.Tensor
    mask_BP: torch.Tensor
    length_B1: torch.Tensor
    shift_B1: torch.Tensor


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded model and what generating with it needs.

    num_frames: how often a patch is repeated for the vision tower; see `fold_patch_embedding`.
    sight: looks at images in training; None to run the tower over all images of a batch.
    """

    model: VisionLanguageModel
    patches: PatchFormat
    image_token_id: int
    end_token_ids: frozenset[int]
    max_positions: int | None
    num_frames: int
    sight: Sight | None = None

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        decoding: Decoding,
        abandoned: Callable[[], bool] = lambda: False,
        first_ids: Sequence[int] = (),
        num_at_once: int | None = None,
        stops: Callable[[Sequence[int]], bool] | None = None,
    ) -> list[GeneratedTokens]:
        """Reply to each prompt.

        Args:
            abandoned: called at each step; once it returns True, the tokens so far are returned.
            first_ids: tokens whose probability of being the first is wanted, before penalty and temperature.
            num_at_once: the most prompts in a batch; None for all of them.
            stops: tells of the tokens of a reply so far whether it ends with them; None where only the model ends it.

        Raises:
            Abandoned: it was abandoned before the first token.
        """
        if num_at_once is not None and len(prompts) > num_at_once:
            batches = [prompts[start : start + num_at_once] for start in range(0, len(prompts), num_at_once)]
            return [
                reply
                for batch in batches
                for reply in self.generate(batch, decoding, abandoned, first_ids, num_at_once, stops)
            ]
        prefill = self.prefill(prompts, abandoned)
        cache, logits_BV, mask_BP = prefill.cache, prefill.logits_BV, prefill.mask_BP
        length_B1, shift_B1 = prefill.length_B1, prefill.shift_B1
        first_probs_BF: list[list[float]] = logits_BV.softmax(-1)[:, list(first_ids)].tolist()
        limits = [self.limit(prompt, decoding) for prompt in prompts]
        stated = [decoding.seed if prompt.seed is None else prompt.seed for prompt in prompts]
        seeds = [secrets.randbits(62) if seed is None else seed for seed in stated]
        sampler = Sampler(decoding, len(prompts), max(limits), logits_BV.shape[-1], logits_BV.device)
        for row, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            sampler.start(row, prompt.token_ids, [seed])

        tokens: list[list[int]] = [[] for _ in prompts]
        ended = [False] * len(prompts)
        rows = list(range(len(prompts)))
        for step in range(max(limits)):
            next_B = sampler.choose(logits_BV).ids_B
            for row, token in zip(rows, next_B.tolist(), strict=True):
                if not ended[row] and len(tokens[row]) < limits[row]:
                    tokens[row].append(token)
                    is_end = token in self.end_token_ids
                    ended[row] = is_end or (stops is not None and stops(tokens[row]))
                    if (on_token := prompts[row].on_token) is not None and not is_end:
                        on_token(len(tokens[row]) - 1, token)
            going = [slot for slot, row in enumerate(rows) if not ended[row] and len(tokens[row]) < limits[row]]
            if not going or abandoned():
                break
            if len(going) <= len(rows) // 2:
                keep = torch.tensor(going, device=mask_BP.device)
                # Layers of linear attention can be put in another order, and know no selection by another name.
                cache.reorder_cache(keep)  # pyright: ignore[reportArgumentType]  # any tensor will do
                sampler.keep(keep)
                mask_BP, length_B1, shift_B1, next_B = mask_BP[keep], length_B1[keep], shift_B1[keep], next_B[keep]
                rows = [rows[slot] for slot in going]
            mask_BP = torch.cat([mask_BP, mask_BP.new_ones(len(rows), 1)], dim=1)
            place_B1 = length_B1 + step
            axes_3B1 = (place_B1 + shift_B1)[None].expand(3, -1, -1)
            logits_BV = self._step(cache, next_B[:, None], mask_BP, torch.cat([place_B1[None], axes_3B1]))
        return [
            GeneratedTokens(tuple(chosen[:-1] if is_end else chosen), has_ended, len(chosen), tuple(first_probs))
            for chosen, has_ended, first_probs in zip(tokens, ended, first_probs_BF, strict=True)
            for is_end in (has_ended and chosen[-1] in self.end_token_ids,)
        ]

    def prefill(self, prompts: Sequence[EncodedPrompt], abandoned: Callable[[], bool] = lambda: False) -> Prefill:
        """Read prompts, also of different lengths, in one batch.

        Args:
            abandoned: called at each layer.

        Raises:
            Abandoned: it returned True.
        """
        ids_BP, mask_BP = self.pad(prompts)
        types_BP = (ids_BP == self.image_token_id).int() * mask_BP.int()
        images = self._images(prompts)
        grid = images.get("image_grid_thw")
        axes_3BP, shift_B1 = self.model.model.get_rope_index(
            ids_BP,  # pyright: ignore[reportArgumentType]  # any tensor will do, here and below
            mm_token_type_ids=types_BP,  # pyright: ignore[reportArgumentType]
            image_grid_thw=grid,  # pyright: ignore[reportArgumentType]
            attention_mask=mask_BP,
        )
        order_BP = (mask_BP.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config.get_text_config())
        with left_when(self.model, abandoned):
            logits_BV = self._step(cache, ids_BP, mask_BP, torch.cat([order_BP[None], axes_3BP]), types_BP, images)
        return Prefill(cache, logits_BV, mask_BP, mask_BP.sum(-1, keepdim=True), shift_B1)

    def limit(self, prompt: EncodedPrompt, decoding: Decoding) -> int:
        """Return the most tokens of a reply: as asked for, and within the model's positions."""
        if self.max_positions is None:
            return decoding.max_new_tokens
        return max(1, min(decoding.max_new_tokens, self.max_positions - len(prompt.token_ids)))

    def allow(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits (..., V) in float32 that forbid the token of an image, which means nothing in a reply."""
        logits = logits.float()
        logits[..., self.image_token_id] = -torch.inf
        return logits

    def _step(
        self,
        cache: DynamicCache,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        types: torch.Tensor | None = None,
        images: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return logits (B, V) after the last token of `ids`; `cache` grows by `ids`."""
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            mm_token_type_ids=types,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **(images or {}),
        )
        return self.allow(output.logits[:, -1])

    def pad(self, prompts: Sequence[EncodedPrompt]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token ids and mask, (B, P), padded on the left: each row's last token is in the last column."""
        rows = [prompt.token_ids for prompt in prompts]
        longest = max(map(len, rows))
        filler = min(self.end_token_ids, default=0)
        ids = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows], device=self.model.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.model.device)
        assert bool(mask[:, -1].all()), "prompts are padded on the left"
        return ids, mask

    def _images(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        patches = [rows for prompt in prompts for rows in prompt.patches]
        if not patches:
            return {}
        grids = torch.tensor([grid for prompt in prompts for grid in prompt.grids], device=self.model.device)
        pixels = normalize(
            patches, self.patches, device=self.model.device, dtype=self.model.dtype, frames=self.num_frames
        )
        return {"pixel_values": pixels, "image_grid_thw": grids}


@contextmanager
def left_when(model: VisionLanguageModel, abandoned: Callable[[], bool]) -> Generator[None, None, None]:
    """Leave a forward pass at the next layer once `abandoned` returns True: a large prefill takes seconds."""

    def check(*_: object) -> None:
        if abandoned():
            raise Abandoned

    layers = (*model.model.visual.blocks, *model.model.language_model.layers)
    handles = [layer.register_forward_pre_hook(check) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def fold_patch_embedding(
    model: VisionLanguageModel, *, dtype: torch.dtype | None = None, keep_frames: bool = False
) -> int:
    """Replace the patch embedding's 3-D convolution by the matrix product that it is, which is several times faster.

    In float32 the weights of the two (equal) frames are also summed, which only changes rounding and halves the pixels.
    In 16 bits the sum would be rounded, so both frames stay and every product is that of the convolution.

    Args:
        dtype: of the computation, where the weights have another one as yet.
        keep_frames: sum them in each call, for a model whose weights are trained and saved.

    Returns:
        The frames per patch that the vision tower now takes.
    """
    embed = model.model.visual.patch_embed
    weight = embed.proj.weight.detach()
    num_frames = int(weight.shape[2])
    num_summed = 1
    if (dtype or weight.dtype) == torch.float32:
        if keep_frames:
            num_summed = num_frames
        else:
            weight = weight.sum(dim=2, keepdim=True)
        embed.temporal_patch_size = num_frames = 1
    projection = _PatchProjection(weight, embed.proj.bias, num_summed=num_summed)
    embed.proj = projection  # pyright: ignore[reportAttributeAccessIssue]
    return num_frames


class _PatchProjection(torch.nn.Module):
    """Stands in for the Conv3d whose kernel is as large as its input.

    num_summed: frames whose weights are summed, since they are equal and only one is given.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, *, num_summed: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.flatten(1).contiguous(), requires_grad=False)
        self.bias = bias
        self._num_summed = num_summed

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        if self._num_summed > 1:
            weight = weight.view(len(weight), 3, self._num_summed, -1).sum(dim=2).flatten(1)
        return torch.nn.functional.linear(patches.flatten(1), weight, self.bias)
