"""Line 34 of algorithm 1: a clipped policy gradient with a KL penalty (paper, equations 5 and 6), and its relatives.

Per token: -min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A) + kl_coef * kl, with the k3 estimate
kl = exp(ref - new) - (ref - new) - 1. The estimators of the field differ in
- the reduction. "token-mean" (the authors' release, DAPO): over all response tokens of the batch. "sequence-mean"
  (GRPO; verl's "seq-mean-token-mean"): over the tokens of each rollout, then over rollouts. "dr-grpo": the sum over
  tokens, divided by a constant, so that a token counts the same in long and in short replies;
- the ratio, one per token (GRPO), or one per rollout, the geometric mean of its tokens' ratios (GSPO).

Departure: equation 6 writes one ratio per rollout, that of the whole reply's probabilities. Taken literally it is a
product over hundreds of tokens, which no clip range of 0.2 fits; the release has a ratio per token, as GRPO does.
"sequence-mean" with ratio "sequence" is the closest variant that trains.

The losses of micro-batches add up to the loss of the batch, however it is split, because each is divided by the size of
the whole batch (`BatchSize`).

Shapes: B rollouts of a micro-batch, T longest response.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from p2r.config import LossSettings


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The whole batch that the optimizer steps on, of all processes.

    num_tokens: response tokens.
    max_response_tokens: the longest response that is allowed; "dr-grpo" divides by it.
    num_measured: response tokens that go through the model. Without a KL term those of dead groups do not.
    """

    num_rollouts: int
    num_tokens: int
    max_response_tokens: int
    num_measured: int


@dataclass(frozen=True, slots=True)
class LossReport:
    """The loss and metrics of it. Each entry adds up over the micro-batches of a batch.

    loss: policy + kl_coef * KL, reduced as set; the only entry with a gradient.
    policy: the loss without the KL term.
    kl, entropy, clip_share, ratio: means over the tokens that were measured, whatever the reduction; entropy is 0
        where none was computed. clip_share counts tokens whose gradient the clip has stopped.
    """

    loss: torch.Tensor
    policy: torch.Tensor
    kl: torch.Tensor
    entropy: torch.Tensor
    clip_share: torch.Tensor
    ratio: torch.Tensor


def policy_loss(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor | None,
    ref_logprobs_BT: torch.Tensor | None,
    advantages_B: torch.Tensor,
    mask_BT: torch.Tensor,
    settings: LossSettings,
    batch: BatchSize,
    *,
    entropy_BT: torch.Tensor | None = None,
) -> LossReport:
    """A micro-batch's share of the loss.

    Args:
        logprobs_BT: of the policy, with gradient.
        old_logprobs_BT: of the policy that sampled; None when it is the policy itself, so that every ratio is 1.
        ref_logprobs_BT: of the KL's reference; may be None when `settings.kl_coef` is 0.
        mask_BT: 1 at response tokens that count.
        batch: size of the whole batch.
    """
    mask_BT = mask_BT.to(logprobs_BT.dtype)
    old_logprobs_BT = logprobs_BT.detach() if old_logprobs_BT is None else old_logprobs_BT
    log_ratio_BT = (logprobs_BT - old_logprobs_BT) * mask_BT
    length_B1 = mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
    if settings.ratio == "sequence":
        log_ratio_BT = (log_ratio_BT.sum(dim=1, keepdim=True) / length_B1).expand_as(log_ratio_BT)
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    gain_BT, clipped_gain_BT = ratio_BT * advantages_B[:, None], clipped_BT * advantages_B[:, None]
    policy_BT = -torch.minimum(gain_BT, clipped_gain_BT)

    if settings.kl_coef:
        assert ref_logprobs_BT is not None, "a KL term needs the reference's log-probs"
        toward_BT = (ref_logprobs_BT - logprobs_BT) * mask_BT
        kl_BT = toward_BT.exp() - toward_BT - 1
        loss_BT = policy_BT + settings.kl_coef * kl_BT
    else:
        kl_BT = torch.zeros_like(policy_BT)
        loss_BT = policy_BT

    weight_BT = mask_BT * _token_weight(settings, batch, length_B1)
    token_share_BT = mask_BT / max(1, batch.num_measured)
    entropy_BT = torch.zeros_like(policy_BT) if entropy_BT is None else entropy_BT
    stopped_BT = (clipped_gain_BT < gain_BT).to(mask_BT.dtype)
    return LossReport(
        loss=(loss_BT * weight_BT).sum(),
        policy=(policy_BT * weight_BT).sum().detach(),
        kl=(kl_BT * token_share_BT).sum().detach(),
        entropy=(entropy_BT * token_share_BT).sum().detach(),
        clip_share=(stopped_BT * token_share_BT).sum().detach(),
        ratio=(ratio_BT * token_share_BT).sum().detach(),
    )


def _token_weight(settings: LossSettings, batch: BatchSize, length_B1: torch.Tensor) -> torch.Tensor:
    """The weight of a token of each rollout, (B, 1)."""
    if settings.reduction == "token-mean":
        return torch.ones_like(length_B1) / max(1, batch.num_tokens)
    if settings.reduction == "sequence-mean":
        return 1 / (length_B1 * max(1, batch.num_rollouts))
    return torch.ones_like(length_B1) / (max(1, batch.num_rollouts) * batch.max_response_tokens)
