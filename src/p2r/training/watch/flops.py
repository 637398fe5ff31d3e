"""The share of a GPU's arithmetic that an update used (MFU), by the products with weights that it has to make.

Not counted: attention scores, activations that are computed again, the embedding, which is a look-up, and a frozen
vision tower, which has seen most images while sampling. So the share is a lower bound.
"""

# transformers is typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from p2r.models.local.sight import learns_to_see
from p2r.training.engines.local.adapters import is_adapter
from p2r.training.engines.local.policy import Policy
from p2r.training.plan.flops import FORWARD, sum_updates

PEAK_FLOPS: Mapping[str, float] = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "B200": 2250e12}
"""Dense bfloat16 operations per second, as the vendor states them."""


def count_update_flops(
    policy: Policy,
    *,
    num_tokens: int,
    num_predictors: int,
    num_patches: int,
    num_updates: int,
    has_reference: bool,
) -> float:
    """Count the operations of the updates on one batch.

    Args:
        num_tokens, num_predictors, num_patches: what passes through the language model, the end of its last layer and
            the head, and the vision tower.
        has_reference: count the KL term's forward pass as well. That over the resting role's replies alone is not.
    """
    model = policy.model
    layers = model.model.language_model.layers
    end = _count_weights(layers[-1].get_submodule("mlp"))
    language = FORWARD * (num_tokens * (_count_weights(layers) - end) + num_predictors * end)
    head = FORWARD * num_predictors * model.lm_head.in_features * model.lm_head.out_features
    vision = FORWARD * num_patches * _count_weights(model.model.visual.blocks) if learns_to_see(model) else 0.0
    forward = language + head + vision
    # Backward: the gradients of activations, and as much again for those of weights that learn.
    learns = 1.0 if policy.has_adapters else 2.0
    backward = learns * (language + head) + 2.0 * vision
    return sum_updates(forward, backward, num_updates=num_updates, has_reference=has_reference)


def peak_flops() -> float | None:
    """Operations per second of this process's GPU; None without a GPU, or with one that is not listed."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def _count_weights(module: nn.Module) -> int:
    matrices = ((name, weight) for name, weight in module.named_parameters() if weight.ndim > 1)
    return sum(weight.numel() for name, weight in matrices if not is_adapter(name))
