"""What one step of training is made of: rollouts of the active role, in groups that share a prompt.

Paper: section 3.3. A rollout is a box set in the perceiver phase and an answer in the reasoner phase.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from p2r.config import ActiveRole
from p2r.models.local.encoding import EncodedPrompt
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


@dataclass(slots=True)
class RolloutStats:
    """Counts of one step.

    num_failed_rows: rows without a group, because image, evidence or prompt failed.
    num_failed: rollouts that could not be judged. num_truncated: those cut off at the limit.
    num_walked: replies that were judged; num_unique of them differ within their group (box sets: to the pixel).
    num_partner_calls: calls of the frozen role; num_reused: those that memory answered.
    num_tokens: sampled tokens; num_prompt_tokens: of the prompts, each counted once.
    seconds: by part.
    """

    num_rows: int = 0
    num_failed_rows: int = 0
    num_rollouts: int = 0
    num_failed: int = 0
    num_truncated: int = 0
    num_walked: int = 0
    num_unique: int = 0
    num_partner_calls: int = 0
    num_reused: int = 0
    num_tokens: int = 0
    num_prompt_tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def unique_share(self) -> float | None:
        """Share of the judged replies that differ within their group, and so have to be judged one by one."""
        return self.num_unique / self.num_walked if self.num_walked else None

    def add(self, other: RolloutStats) -> None:
        for name in self.__dataclass_fields__:
            if name != "seconds":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        for part, seconds in other.seconds.items():
            self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    @contextmanager
    def timing(self, part: str) -> Generator[None, None, None]:
        """Adds what the block takes to `seconds[part]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Rolled:
    """Judged groups. Indices of parents are places in `groups`."""

    groups: list[Group] = field(default_factory=list[Group])
    stats: RolloutStats = field(default_factory=RolloutStats)

    def extend(self, other: Rolled) -> None:
        """Append the groups of `other` and add what they took."""
        shift = len(self.groups)
        for group in other.groups:
            parent = group.parent and (group.parent[0] + shift, group.parent[1])
            self.groups.append(replace(group, parent=parent))
        self.stats.add(other.stats)

    def keep(self, places: Collection[int]) -> Rolled:
        """Only the groups at these places, with those that go on from them; all of what it took."""
        kept: dict[int, int] = {}
        groups: list[Group] = []
        for place, group in enumerate(self.groups):
            if (place if group.parent is None else group.parent[0]) not in places:
                continue
            kept[place] = len(groups)
            groups.append(replace(group, parent=group.parent and (kept[group.parent[0]], group.parent[1])))
        return Rolled(groups, self.stats)

    def find_alive(self) -> list[int]:
        """Places of the groups whose rewards differ, so that there is something to learn from them."""
        return [
            place
            for place, group in enumerate(self.groups)
            if group.parent is None and len({rollout.reward for rollout in group.rollouts} - {None}) > 1
        ]
