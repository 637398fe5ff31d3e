"""Log-probs of packed responses, with gradient: one forward pass through the stock model.

Logits are made only where a response token is predicted, in float32 at least; more than fit into `MAX_LOGITS` at once
are made in pieces that backward makes again, so that a vocabulary of 150,000 does not fill the memory.

Shapes: as in `packing`; V vocabulary, C channels of the hidden state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from p2r.models.local.engine import VisionLanguageModel
from p2r.models.local.patches import normalize
from p2r.training.engines.local.packing import Packed

MAX_LOGITS = 2**27
"""Logits held at once (512 MB in float32)."""


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Of each response token, 0 where a response has none.

    logprobs_BT: float32 (float64 of a float64 model), with gradient.
    mask_BT: True where a response has a token.
    entropy_BT: of the distribution each token was drawn from, in nats, without gradient; None where not asked for.
    """

    logprobs_BT: torch.Tensor
    mask_BT: torch.Tensor
    entropy_BT: torch.Tensor | None


def compute_logprobs(
    model: VisionLanguageModel, packed: Packed, *, temperature: float = 1.0, with_entropy: bool = False
) -> Logprobs:
    """Run the model over a packed row.

    Args:
        model: with `attention.install` called on it.
        temperature: that of sampling; logits are divided by it.
    """
    images: dict[str, torch.Tensor] = {}
    if packed.patches is not None and packed.grids is not None:
        frames: int = model.model.visual.patch_embed.temporal_patch_size  # pyright: ignore[reportAssignmentType]
        pixels = normalize(packed.patches, packed.patch_format, device=model.device, dtype=model.dtype, frames=frames)
        images = {"pixel_values": pixels, "image_grid_thw": packed.grids}
    hidden_NC = model.model(
        input_ids=packed.ids_1N,
        position_ids=packed.positions_31N,
        use_cache=False,
        layout=packed.layout,
        **images,
    ).last_hidden_state[0]
    hidden_KC = hidden_NC[packed.predictors_K]

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
    return Logprobs(
        _lay_out(torch.cat(logprobs), packed),
        packed.mask_BT,
        _lay_out(torch.cat(entropies), packed) if with_entropy else None,
    )


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
