"""Log-probs of responses, with gradient: prompts and responses in one row, one forward pass through the stock model.

A group of G responses to one prompt is usually trained as G rows that repeat the prompt and its images. Here it is

    [ prompt | response 0 without its last token | response 1 without its last token | ... ]

one such stretch per prompt, one after another, ragged, without padding: each prompt and each image once, and equal
responses once. Whatever works token by token (embeddings, norms, MLPs, placing the vision tower's tokens) is right as
it is; a response's positions continue from the prompt's end; and `attention.SharedPrefix` lets each response see only
the prompt and itself. Log-probs and gradients are those of the repeated rows (the last token of a response predicts
nothing and is left out). The last layer makes hidden states only where a token is predicted.

Logits are made only where a response token is predicted, in float32 at least. More than `MAX_LOGITS` are made in
pieces, which backward makes again, so that a vocabulary of 150,000 does not fill the memory.

Background: docs/performance.md; the paper's equation 5 is a sum over such groups.

Shapes: P prompt tokens, N packed tokens, B responses of all groups, T longest response, M response tokens of all
groups, K places whose successor is predicted, V vocabulary, C channels of the hidden state.
"""

# transformers and torch are typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from p2r.errors import DataError
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import VisionLanguageModel
from p2r.models.local.patches import normalize
from p2r.models.local.sight import Images, Sight
from p2r.models.profiles import QWEN3_VL, PatchFormat
from p2r.training.engines.local.attention import SharedPrefix, Stretch
from p2r.training.engines.local.distributed import run_as_forward

MAX_LOGITS = 2**27
"""Logits held at once (512 MB in float32)."""


@dataclass(frozen=True, slots=True)
class Packed:
    """The inputs of one forward pass, and where its predictions belong.

    ids_1N, positions_31N: tokens of the row, and their three rotary axes.
    layout: says which token sees which.
    images: as bytes, each once.
    predictors_K: places in the row whose successors are predicted.
    source_M, target_M, place_M: for each response token, ordered by source: the predictor (an index into predictors_K),
        the token, and where its log-prob stands in the flattened (B, T).
    mask_BT: True where a response has a token.
    """

    ids_1N: torch.Tensor
    positions_31N: torch.Tensor
    layout: SharedPrefix
    images: Images
    predictors_K: torch.Tensor
    source_M: torch.Tensor
    target_M: torch.Tensor
    place_M: torch.Tensor
    mask_BT: torch.Tensor

    @property
    def num_tokens(self) -> int:
        return self.ids_1N.shape[1]

    @property
    def num_patches(self) -> int:
        return sum(map(len, self.images.patches))


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
    num_rows = 0
    for prompt, responses in groups:
        different = list(dict.fromkeys(map(tuple, responses)))
        start, own = len(ids), [len(response) - 1 for response in different]
        prompt_axes = find_positions(model, prompt)
        ids.extend(prompt.token_ids)
        axes.append(prompt_axes)
        after, last = int(prompt_axes.max()) + 1, len(predictors)
        predictors.append(len(ids) - 1)  # the prompt's last token predicts every response's first
        sources: dict[tuple[int, ...], list[int]] = {}
        for response in different:
            axes.append(torch.arange(after, after + len(response) - 1).expand(3, -1))
            sources[response] = [last, *range(len(predictors), len(predictors) + len(response) - 1)]
            predictors.extend(range(len(ids), len(ids) + len(response) - 1))
            ids.extend(response[:-1])
        for row, response in enumerate(map(tuple, responses), start=num_rows):
            predicted = enumerate(zip(sources[response], response, strict=True))
            tokens.extend((source, token, row, t) for t, (source, token) in predicted)
        num_rows += len(responses)
        stretches.append(Stretch.make(start, len(prompt.token_ids), own, model))
    tokens.sort(key=lambda each: each[0])
    source_M, target_M, row_M, t_M = torch.tensor(tokens).T.contiguous()
    longest = int(t_M.max()) + 1
    place_M = row_M * longest + t_M
    mask_BT = torch.zeros(num_rows * longest, dtype=torch.bool)
    mask_BT[place_M] = True
    prompts = [prompt for prompt, _ in groups]
    device = model.device
    return Packed(
        ids_1N=torch.tensor([ids], device=device),
        positions_31N=torch.cat(axes, dim=1)[:, None].to(device),
        layout=SharedPrefix(tuple(stretches)),
        images=join_images(prompts, patch_format),
        predictors_K=torch.tensor(predictors, device=device),
        source_M=source_M.to(device),
        target_M=target_M.to(device),
        place_M=place_M.to(device),
        mask_BT=mask_BT.view(num_rows, longest).to(device),
    )


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log-probabilities and entropies of each response token, 0 where a response has none.

    logprobs_BT: in nats, float32 (float64 of a float64 model), with gradient.
    mask_BT: True where a response has a token.
    entropy_BT: in nats, of the distribution each token was drawn from, without gradient; None where not asked for.
    """

    logprobs_BT: torch.Tensor
    mask_BT: torch.Tensor
    entropy_BT: torch.Tensor | None


def _pixels(model: VisionLanguageModel, packed: Packed) -> dict[str, torch.Tensor]:
    """The images as the model takes them; nothing where there are none."""
    patches, grids, patch_format = packed.images.patches, packed.images.grids, packed.images.patch_format
    if not patches:
        return {}
    frames: int = model.model.visual.patch_embed.temporal_patch_size  # pyright: ignore[reportAssignmentType]
    pixels = normalize(patches, patch_format, device=model.device, dtype=model.dtype, frames=frames)
    return {"pixel_values": pixels, "image_grid_thw": torch.tensor(grids, device=model.device)}


def compute_logprobs(
    model: VisionLanguageModel,
    packed: Packed,
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
    sight: Sight | None = None,
    at_once: int | None = None,
) -> Logprobs:
    """Run the model over a packed row.

    Args:
        model: with `attention.install` called on it; it may be split over processes, which then all call.
        temperature: that of sampling; logits are divided by it.
        sight: looks at the row's images, which are kept for the next pass; None for a tower that learns.
        at_once: as in `Sight.shown_to`.
    """
    logprobs_BT, entropy_BT = run_as_forward(model, _compute, packed, temperature, with_entropy, sight, at_once)
    return Logprobs(logprobs_BT, packed.mask_BT, entropy_BT)


def _compute(
    model: VisionLanguageModel,
    packed: Packed,
    temperature: float,
    with_entropy: bool,
    sight: Sight | None,
    at_once: int | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probs and entropies as a tuple, in which FSDP finds them."""
    shown = sight and sight.shown_to(model, packed.images, keep=True, at_once=at_once)
    with shown or nullcontext(_pixels(model, packed)) as images:
        hidden_KC = model.model(
            input_ids=packed.ids_1N,
            position_ids=packed.positions_31N,
            use_cache=False,
            layout=packed.layout,
            wanted=packed.predictors_K,
            **images,
        ).last_hidden_state[0]

    vocabulary = model.config.get_text_config().vocab_size
    piece = max(1, MAX_LOGITS // vocabulary)
    num_predictors = len(packed.predictors_K)
    logprobs: list[torch.Tensor] = []
    entropies: list[torch.Tensor] = []
    for first in range(0, num_predictors, piece):
        # The tokens are ordered by source, so each piece of the predictors has a stretch of them.
        low, high = torch.searchsorted(packed.source_M, packed.source_M.new_tensor([first, first + piece])).tolist()
        inputs = (
            hidden_KC[first : first + piece],
            packed.source_M[low:high] - first,
            packed.target_M[low:high],
            model.lm_head,
            temperature,
            with_entropy,
        )
        if num_predictors > piece and torch.is_grad_enabled():
            logprob_m, entropy_m = checkpoint(_predict, *inputs, use_reentrant=False)
        else:
            logprob_m, entropy_m = _predict(*inputs)
        logprobs.append(logprob_m)
        entropies.append(entropy_m)
    return _lay_out(torch.cat(logprobs), packed), _lay_out(torch.cat(entropies), packed) if with_entropy else None


def _predict(
    hidden_kC: torch.Tensor,
    source_m: torch.Tensor,
    target_m: torch.Tensor,
    lm_head: torch.nn.Module,
    temperature: float,
    with_entropy: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of tokens, and entropies (empty unless asked for); lower case: a piece of K, M."""
    logits_kV = lm_head(hidden_kC)
    logits_kV = logits_kV.to(torch.promote_types(logits_kV.dtype, torch.float32))
    if temperature != 1.0:
        logits_kV = logits_kV / temperature
    total_k = logits_kV.logsumexp(dim=-1)
    logprob_m = logits_kV[source_m, target_m] - total_k[source_m]
    if not with_entropy:
        return logprob_m, logprob_m.new_empty(0)
    with torch.no_grad():
        entropy_k = total_k - (logits_kV * (logits_kV - total_k[:, None]).exp()).sum(dim=-1)
    return logprob_m, entropy_k[source_m]


def _lay_out(values_M: torch.Tensor, packed: Packed) -> torch.Tensor:
    """(B, T) of values per response token."""
    flat = values_M.new_zeros(packed.mask_BT.numel())
    return flat.index_put((packed.place_M,), values_M).view(packed.mask_BT.shape)


def join_images(prompts: Sequence[EncodedPrompt], patch_format: PatchFormat) -> Images:
    """The images of all prompts, in order."""
    patches = [rows for prompt in prompts for rows in prompt.patches]
    return Images(patches, [grid for prompt in prompts for grid in prompt.grids], patch_format)


def find_positions(model: VisionLanguageModel, prompt: EncodedPrompt) -> torch.Tensor:
    """Rotary axes (3, P), on the CPU: transformers computes them in Python loops."""
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
                    hint="take rollouts from generate_groups, which never draws it",
                )
