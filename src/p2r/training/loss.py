"""Line 34 of algorithm 1: a clipped policy gradient with a KL penalty (paper, equations 5 and 6), and its relatives.

Per token: -min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A) + kl_coef * kl, with the k3 estimate
kl = exp(ref - new) - (ref - new) - 1. Where A is negative the ratio counts as `dual_clip` at most (dual-clip PPO, arXiv
1912.09729). The limits of `clamp` are verl's and hold for single tokens far out: without them a token whose probability
fell to nothing has a divergence of millions, and its gradient alone fills the clipped step.

The estimators of the field differ in
- the objective. "clipped" is the one above. "cispo" (arXiv 2506.13585): -clip(ratio) * A * new, with the clipped ratio
  as a weight without gradient, so that no token is left without one;
- the reduction. "token-mean" (the authors' release, DAPO): over all response tokens of the batch. "sequence-mean"
  (GRPO; verl's "seq-mean-token-mean"): over the tokens of each rollout, then over rollouts. "dr-grpo": the sum over
  tokens, divided by a constant, so that a token counts the same in long and in short replies;
- the ratio, one per token (GRPO), or one per rollout, the geometric mean of its tokens' ratios (GSPO).

Departure: equation 6 writes one ratio per rollout, that of the whole reply's probabilities. Taken literally it is a
product over hundreds of tokens, which no clip range of 0.2 fits; the release has a ratio per token, as GRPO does.
"sequence-mean" with ratio "sequence" is the closest variant that trains.

The resting role, which the same weights play and this phase does not train, can be kept where it was (off by default,
not in the paper). The frozen copy wrote its replies, and their tokens add resting_kl_coef times the k3 estimate of the
divergence of the policy from that copy, in the mean over all such tokens of the batch. Who drew the tokens decides the
direction: here it was the copy, and so exp(new - ref) - (new - ref) - 1. With it a token that the policy has become a
thousand times less likely to say still pulls it back, which `clamp` would not let it in the other direction.

With `importance_cap` the policy's part of each token is weighted by min(old / sampler, cap) without gradient: truncated
importance sampling, for rollouts from a program or a number format whose probabilities are not the policy's own.

The losses of micro-batches add up to the loss of the batch, however it is split, because each is divided by the size of
the whole batch (`BatchSize`).

Shapes: B rollouts of a micro-batch, T longest response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from p2r.config import LossSettings

MAX_LOG, MAX_DIVERGENCE = 20.0, 10.0
"""The limits of `clamp`: of the logarithm of a ratio of probabilities, and of the divergence of a token."""
LOG_RATIO_RANGE: Mapping[str, tuple[float | None, float]] = {"token": (-MAX_LOG, MAX_LOG), "sequence": (None, 10.0)}
"""The limits of `clamp` for the logarithm of new / old, by `loss.ratio`."""


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The whole batch that the optimizer steps on, of all processes.

    num_tokens: response tokens.
    max_response_tokens: the longest response that is allowed; "dr-grpo" divides by it.
    num_measured: response tokens that go through the model. Without a KL term those of dead groups do not.
    num_resting: tokens of the resting role's replies.
    """

    num_rollouts: int
    num_tokens: int
    max_response_tokens: int
    num_measured: int
    num_resting: int = 0


@dataclass(frozen=True, slots=True)
class LossReport:
    """The loss and metrics of it. Each entry adds up over the micro-batches of a batch.

    loss: policy + kl_coef * KL, reduced as set, + resting_kl_coef * resting_kl; the only entry with a gradient.
    policy: the loss without the KL terms.
    kl, entropy, clip_share, ratio: means over the tokens that were measured, whatever the reduction; entropy is 0
        where none was computed. clip_share counts tokens whose gradient a clip has stopped, or whose weight it has
        changed (cispo).
    resting_kl: mean over the tokens of the resting role's replies.
    """

    loss: torch.Tensor
    policy: torch.Tensor
    kl: torch.Tensor
    entropy: torch.Tensor
    clip_share: torch.Tensor
    ratio: torch.Tensor
    resting_kl: torch.Tensor


def policy_loss(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor | None,
    ref_logprobs_BT: torch.Tensor | None,
    advantages_B: torch.Tensor,
    mask_BT: torch.Tensor,
    settings: LossSettings,
    batch: BatchSize,
    *,
    sampler_logprobs_BT: torch.Tensor | None = None,
    entropy_BT: torch.Tensor | None = None,
) -> LossReport:
    """A micro-batch's share of the loss.

    Args:
        logprobs_BT: of the policy, with gradient.
        old_logprobs_BT: of the policy that sampled; None when it is the policy itself, so that every ratio is 1.
        ref_logprobs_BT: of the KL's reference; may be None when `settings.kl_coef` is 0.
        mask_BT: 1 at response tokens that count.
        batch: size of the whole batch.
        sampler_logprobs_BT: of the program that sampled; needed with `settings.importance_cap`.
    """
    mask_BT = mask_BT.to(logprobs_BT.dtype)
    old_logprobs_BT = logprobs_BT.detach() if old_logprobs_BT is None else old_logprobs_BT
    length_B1 = mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
    ratio_BT = _log_ratio((logprobs_BT - old_logprobs_BT) * mask_BT, length_B1, settings).exp()
    policy_BT, stopped_BT = _policy_terms(logprobs_BT, ratio_BT, advantages_B[:, None], settings)
    if settings.importance_cap:
        assert sampler_logprobs_BT is not None, "importance weights need the sampler's log-probs"
        apart_BT = torch.where(mask_BT > 0, old_logprobs_BT - sampler_logprobs_BT, 0)
        policy_BT = policy_BT * apart_BT.exp().clamp(max=settings.importance_cap)

    if settings.kl_coef:
        assert ref_logprobs_BT is not None, "a KL term needs the reference's log-probs"
        kl_BT = _divergence((ref_logprobs_BT - logprobs_BT) * mask_BT, settings)
        loss_BT = policy_BT + settings.kl_coef * kl_BT
    else:
        kl_BT = torch.zeros_like(policy_BT)
        loss_BT = policy_BT

    weight_BT = mask_BT * _token_weight(settings, batch, length_B1)
    token_share_BT = mask_BT / max(1, batch.num_measured)
    entropy_BT = torch.zeros_like(policy_BT) if entropy_BT is None else entropy_BT
    return LossReport(
        loss=(loss_BT * weight_BT).sum(),
        policy=(policy_BT * weight_BT).sum().detach(),
        kl=(kl_BT * token_share_BT).sum().detach(),
        entropy=(entropy_BT * token_share_BT).sum().detach(),
        clip_share=(stopped_BT.to(mask_BT.dtype) * token_share_BT).sum().detach(),
        ratio=(ratio_BT * token_share_BT).sum().detach(),
        resting_kl=torch.zeros_like(loss_BT[0, 0]).detach(),
    )


def resting_loss(
    logprobs_BT: torch.Tensor,
    ref_logprobs_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    settings: LossSettings,
    batch: BatchSize,
) -> LossReport:
    """A micro-batch's share of what keeps the resting role where it was.

    Args:
        logprobs_BT: of the policy, with gradient, for tokens that the frozen copy wrote.
        ref_logprobs_BT: of that copy.
        mask_BT: 1 at tokens that count.
        batch: size of the whole batch.
    """
    mask_BT = mask_BT.to(logprobs_BT.dtype)
    kl_BT = _divergence((logprobs_BT - ref_logprobs_BT) * mask_BT, settings)
    resting_kl = (kl_BT * mask_BT).sum() / max(1, batch.num_resting)
    nothing = torch.zeros_like(resting_kl).detach()
    return LossReport(
        loss=settings.resting_kl_coef * resting_kl,
        policy=nothing,
        kl=nothing,
        entropy=nothing,
        clip_share=nothing,
        ratio=nothing,
        resting_kl=resting_kl.detach(),
    )


def _log_ratio(log_ratio_BT: torch.Tensor, length_B1: torch.Tensor, settings: LossSettings) -> torch.Tensor:
    """The logarithm of each token's ratio, which with "sequence" is its rollout's."""
    if settings.ratio == "sequence":
        log_ratio_BT = (log_ratio_BT.sum(dim=1, keepdim=True) / length_B1).expand_as(log_ratio_BT)
    low, high = LOG_RATIO_RANGE[settings.ratio]
    return log_ratio_BT.clamp(low, high) if settings.clamp else log_ratio_BT


def _policy_terms(
    logprobs_BT: torch.Tensor, ratio_BT: torch.Tensor, advantages_B1: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The policy's part of the loss, token by token, and where a limit of the ratio holds."""
    clipped_BT = ratio_BT.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    if settings.objective == "cispo":
        return -clipped_BT.detach() * advantages_B1 * logprobs_BT, clipped_BT != ratio_BT
    gain_BT, clipped_gain_BT = ratio_BT * advantages_B1, clipped_BT * advantages_B1
    policy_BT, stopped_BT = -torch.minimum(gain_BT, clipped_gain_BT), clipped_gain_BT < gain_BT
    if settings.dual_clip:
        is_far_BT = (advantages_B1 < 0) & (ratio_BT > settings.dual_clip)
        policy_BT = torch.where(is_far_BT, -settings.dual_clip * advantages_B1, policy_BT)
        stopped_BT = stopped_BT | is_far_BT
    return policy_BT, stopped_BT


def _divergence(toward_BT: torch.Tensor, settings: LossSettings) -> torch.Tensor:
    """The k3 estimate of a divergence, by the logarithm of the other's probability / that of who drew the token."""
    if not settings.clamp:
        return toward_BT.exp() - toward_BT - 1
    toward_BT = toward_BT.clamp(-MAX_LOG, MAX_LOG)
    return (toward_BT.exp() - toward_BT - 1).clamp(max=MAX_DIVERGENCE)


def _token_weight(settings: LossSettings, batch: BatchSize, length_B1: torch.Tensor) -> torch.Tensor:
    """The weight of a token of each rollout, (B, 1)."""
    if settings.reduction == "token-mean":
        return torch.ones_like(length_B1) / max(1, batch.num_tokens)
    if settings.reduction == "sequence-mean":
        return 1 / (length_B1 * max(1, batch.num_rollouts))
    return torch.ones_like(length_B1) / (max(1, batch.num_rollouts) * batch.max_response_tokens)
