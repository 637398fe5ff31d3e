"""Lines 28 to 32 of algorithm 1: rewards become advantages, within each group.

Departures of the advantage A = (r - mean) / (std + eps): the paper does not say which standard deviation it means; as
in the authors' release it is that of a sample (n - 1), with eps 1e-6. "population" (n) and "none" (Dr.GRPO: only the
mean is taken off) are available by name. A rollout that could not be judged is left out of its group's statistics; a
group with fewer than two judged rollouts teaches nothing and is dropped.

Shapes: P groups, G rollouts of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from p2r.config import AdvantageSettings, LossSettings
from p2r.training.groups import Group, Rollout
from p2r.training.micro_batch import Reply


@dataclass(frozen=True, slots=True)
class Compared:
    """A group and its advantages.

    advantages: None for a rollout that is masked, because it, or too many of its group, could not be judged.
    is_dropped: fewer than two rollouts were judged.
    is_dead: all rewards are alike, so that only the KL term has a gradient.
    """

    group: Group
    advantages: tuple[float | None, ...]
    is_dropped: bool
    is_dead: bool

    @property
    def kept(self) -> list[tuple[Rollout, float]]:
        """Each rollout that is not masked, and its advantage."""
        pairs = zip(self.group.rollouts, self.advantages, strict=True)
        return [(rollout, advantage) for rollout, advantage in pairs if advantage is not None]

    def learned(self, settings: LossSettings) -> list[Reply]:
        """The tokens and advantages of those of them that the loss is computed from."""
        return [
            Reply(rollout.token_ids, advantage, rollout.logprobs)
            for rollout, advantage in self.kept
            if rollout.ended or not settings.mask_truncated
        ]


def compare_groups(groups: Sequence[Group], settings: AdvantageSettings) -> list[Compared]:
    """Lines 28 to 32: the advantage of each rollout. A group with a parent takes the advantage of its rollout."""
    longest = max((len(group.rollouts) for group in groups), default=1)
    rewards_PG = torch.zeros(len(groups), longest)
    valid_PG = torch.zeros(len(groups), longest, dtype=torch.bool)
    for row, group in enumerate(groups):
        for place, rollout in enumerate(group.rollouts):
            if rollout.reward is not None:
                rewards_PG[row, place], valid_PG[row, place] = rollout.reward, True
    found = compute_advantages(rewards_PG, valid_PG, settings)
    compared: list[Compared] = []
    for row, group in enumerate(groups):
        source = row if group.parent is None else group.parent[0]
        places = range(len(group.rollouts)) if group.parent is None else [group.parent[1]]
        dropped, dead = bool(found.dropped_P[source]), bool(found.dead_P[source])
        advantages = tuple(
            float(found.advantages_PG[source, place]) if valid_PG[source, place] and not dropped else None
            for place in places
        )
        compared.append(Compared(group, advantages, dropped, dead))
    return compared


@dataclass(frozen=True, slots=True)
class Advantages:
    """The advantages of P groups of G rollouts.

    advantages_PG: 0 where a rollout was not judged, and in all of a dropped or dead group.
    dropped_P, dead_P: True for a group that is dropped or dead: see `Compared`.
    """

    advantages_PG: torch.Tensor
    dropped_P: torch.Tensor
    dead_P: torch.Tensor


def compute_advantages(rewards_PG: torch.Tensor, valid_PG: torch.Tensor, settings: AdvantageSettings) -> Advantages:
    """Lines 29 to 32: A_i = (r_i - mean) / (std + eps) within each group.

    Args:
        rewards_PG: floats; entries that are not valid are ignored, even NaN.
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
    if settings.std == "none":
        advantages_PG = apart_PG
    else:
        degrees_P1 = num_valid_P1 - 1 if settings.std == "sample" else num_valid_P1
        std_P1 = (apart_PG.square().sum(dim=1, keepdim=True) / degrees_P1.clamp(min=1)).sqrt()
        advantages_PG = apart_PG / (std_P1 + settings.eps)
    advantages_PG = torch.where(dropped_P1 | dead_P1, 0.0, advantages_PG)
    return Advantages(advantages_PG, dropped_P1[:, 0], dead_P1[:, 0])
