"""Rewards of a group become advantages (paper, equation 4): how much better a rollout did than its group.

A = (r - mean) / (std + eps) over the rollouts of one prompt. Departures: the paper does not say which standard
deviation; as in the authors' release it is that of a sample (n - 1), with eps 1e-6. "population" (n) and "none"
(Dr.GRPO: only the mean is taken off) are there by name. A rollout that could not be judged is left out of the group's
statistics and gets 0; a group with fewer than two judged rollouts teaches nothing and is dropped.

Shapes: P prompts, G rollouts per prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

Std: TypeAlias = Literal["sample", "population", "none"]


@dataclass(frozen=True, slots=True)
class Advantages:
    """What each rollout is worth.

    advantages_PG: 0 where a rollout was not judged, and in the whole of a dropped or dead group.
    dropped_P: fewer than two rollouts were judged.
    dead_P: judged, but all alike: no gradient but that of the KL term.
    """

    advantages_PG: torch.Tensor
    dropped_P: torch.Tensor
    dead_P: torch.Tensor


def compute_advantages(
    rewards_PG: torch.Tensor, valid_PG: torch.Tensor, *, std: Std = "sample", eps: float = 1e-6
) -> Advantages:
    """Compare each rollout with its group.

    Args:
        rewards_PG: floats; what stands at entries that are not valid is ignored, NaN included.
        valid_PG: bool, False where a rollout could not be judged (or where a shorter group is filled up).
    """
    rewards_PG = torch.where(valid_PG, rewards_PG, 0.0)
    num_valid_P1 = valid_PG.sum(dim=1, keepdim=True)
    mean_P1 = rewards_PG.sum(dim=1, keepdim=True) / num_valid_P1.clamp(min=1)
    apart_PG = torch.where(valid_PG, rewards_PG - mean_P1, 0.0)
    dropped_P1 = num_valid_P1 < 2
    # Compared, not subtracted: three rewards of 0.1 have a mean that is not quite 0.1.
    low_P1 = torch.where(valid_PG, rewards_PG, torch.inf).amin(dim=1, keepdim=True)
    high_P1 = torch.where(valid_PG, rewards_PG, -torch.inf).amax(dim=1, keepdim=True)
    dead_P1 = ~dropped_P1 & (low_P1 == high_P1)
    if std == "none":
        advantages_PG = apart_PG
    else:
        degrees_P1 = num_valid_P1 - 1 if std == "sample" else num_valid_P1
        std_P1 = (apart_PG.square().sum(dim=1, keepdim=True) / degrees_P1.clamp(min=1)).sqrt()
        advantages_PG = apart_PG / (std_P1 + eps)
    advantages_PG = torch.where(dropped_P1 | dead_P1, 0.0, advantages_PG)
    return Advantages(advantages_PG, dropped_P1[:, 0], dead_P1[:, 0])
