"""What one step of training is made of: rollouts of the active role, in groups that share a prompt.

Paper: section 3.3. A rollout is a box set in the perceiver phase and an answer in the reasoner phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from p2r.config import ActiveRole
from p2r.models.encoding import EncodedPrompt
from p2r.types import Sample, Trace


@dataclass(frozen=True, slots=True)
class Rollout:
    """One reply of the policy.

    token_ids: generated tokens, the end token included when it ended.
    ended: False when the limit cut it off; counted apart.
    trace: the walk that judged it; None when there was none.
    reward: None when it could not be judged: masked out of its group, never a zero.
    terms: the named parts of the reward.
    """

    token_ids: tuple[int, ...]
    ended: bool
    text: str
    trace: Trace | None
    reward: float | None
    terms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Group:
    """Rollouts of one prompt, which are compared with each other.

    parent: of a group whose single rollout answers on the evidence of another group's rollout (the control `joint`):
        (index of that group in the batch, index of the rollout in it). It takes that rollout's advantage as its own.
    """

    sample: Sample
    role: ActiveRole
    prompt: EncodedPrompt
    rollouts: tuple[Rollout, ...]
    parent: tuple[int, int] | None = None
