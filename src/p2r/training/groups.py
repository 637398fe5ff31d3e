"""What one step of training is made of: prompts, sampled replies, and rollouts in groups that share a prompt.

Paper: section 3.3. A rollout is a box set in the perceiver phase and an answer in the reasoner phase.

Failed is not wrong: a rollout that could not be judged has no reward and is masked, a row whose image, evidence or
prompt failed has no group. Both are counted, and too many of them stop the run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from p2r.boxes.other_frame import FrameCount
from p2r.config import ActiveRole
from p2r.images.budget import FullImage
from p2r.models.local.encoding import EncodedPrompt
from p2r.training.engines.local.generate import Generated
from p2r.types import Completion, Perception, Sample, Trace


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt to the policy.

    name: the text that the seeds of its replies depend on.
    seen_wh: width and height of its first image, as the policy sees it.
    perception: the boxes whose evidence the prompt shows, when it asks for an answer; None when it asks for boxes.
    """

    name: str
    sample: Sample
    full_image: FullImage
    seen_wh: tuple[int, int]
    encoded: EncodedPrompt
    perception: Perception | None = None

    @property
    def role(self) -> ActiveRole:
        return "perceiver" if self.perception is None else "reasoner"


@dataclass(frozen=True, slots=True)
class SampledReply:
    """A sampled reply to a prompt.

    perception: the boxes that it names, or those whose evidence it answers on.
    terms: the reward terms that are known before it is judged.
    faults: why reward functions could not rate it, by term.
    """

    asked: Asked
    generated: Generated
    completion: Completion
    perception: Perception
    terms: Mapping[str, float]
    faults: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Rollout:
    """A reply and its reward.

    token_ids: generated tokens, the end token included when it ended.
    ended: False when the token limit cut it off.
    trace: the walk that judged it; None when there was none.
    reward: None when it could not be judged: masked out of its group, never a zero.
    terms: the reward's terms by name.
    failure: why there is no reward; "" when there is one.
    logprobs: of each token, as the sampler found them; empty where it did not tell them.
    """

    token_ids: tuple[int, ...]
    ended: bool
    text: str
    trace: Trace | None
    reward: float | None
    terms: Mapping[str, float]
    failure: str = ""
    logprobs: tuple[float, ...] = ()

    @property
    def is_correct(self) -> bool | None:
        """The verdict on its answer; None when there is none."""
        return self.trace.verdict.correct if self.trace is not None and self.trace.verdict is not None else None


@dataclass(frozen=True, slots=True)
class RestingReply:
    """A reply of the resting role as the frozen copy gave it, with the prompt that it was given to."""

    prompt: EncodedPrompt
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rollouts of one prompt, which are compared with each other.

    parent: for a group whose single rollout answers on the evidence of another group's rollout (the control `joint`):
        (index of that group in the batch, index of the rollout in it). It takes that rollout's advantage as its own.
    resting: what is to be kept of the resting role; None where nothing is.
    """

    sample: Sample
    role: ActiveRole
    prompt: EncodedPrompt
    rollouts: tuple[Rollout, ...]
    parent: tuple[int, int] | None = None
    resting: RestingReply | None = None


@dataclass(slots=True)
class RolloutStats:
    """The counts of one step.

    num_rows: rows that were drawn.
    num_failed_rows: rows without a group, because image, evidence or prompt failed.
    num_drawn_groups: groups that dynamic sampling drew; num_drawn_dead of them it left out. num_drawn_rewards: their
        rollouts with a reward; drawn_reward: the sum of these. num_drawn_verdicts: those of them with a verdict;
        num_drawn_correct are right. All are 0 without dynamic sampling.
    num_failed: rollouts that could not be judged. num_truncated: rollouts cut off at the token limit.
    num_walked: replies that were judged; num_unique of them differ within their group (box sets: to the pixel).
    num_partner_calls: calls of the frozen role; num_reused: calls that its memo answered instead.
    num_judge_calls: calls of a judging model; num_judge_reused: calls that its memo answered instead.
    num_tokens: sampled tokens; num_prompt_tokens: tokens of the prompts, each counted once.
    seconds: the seconds of each part.
    frames: of the replies with boxes, the policy's and the frozen perceiver's.
    causes: rollouts that could not be judged, by why.
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
    num_judge_calls: int = 0
    num_judge_reused: int = 0
    num_drawn_groups: int = 0
    num_drawn_dead: int = 0
    num_drawn_rewards: int = 0
    drawn_reward: float = 0.0
    num_drawn_verdicts: int = 0
    num_drawn_correct: int = 0
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    frames: FrameCount = field(default_factory=FrameCount)
    causes: Counter[str] = field(default_factory=Counter[str])

    @property
    def unique_share(self) -> float | None:
        """Share of the judged replies that differ within their group, and so have to be judged one by one."""
        return self.num_unique / self.num_walked if self.num_walked else None

    def count(self, rollout: Rollout) -> Rollout:
        """Count a finished rollout, and return it."""
        self.num_rollouts += 1
        self.num_failed += rollout.reward is None
        self.causes.update([rollout.failure] if rollout.failure else [])
        self.num_truncated += not rollout.ended
        self.num_tokens += len(rollout.token_ids)
        return rollout

    def add(self, other: RolloutStats) -> None:
        """Add the counts and seconds of `other`."""
        for name in self.__dataclass_fields__:
            if name not in ("seconds", "frames", "causes"):
                setattr(self, name, getattr(self, name) + getattr(other, name))
        self.frames.add(other.frames)
        for part, seconds in other.seconds.items():
            self.seconds[part] = self.seconds.get(part, 0.0) + seconds
        self.causes.update(other.causes)

    @contextmanager
    def timing(self, part: str) -> Generator[None, None, None]:
        """Add the seconds that the block takes to `seconds[part]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Rolled:
    """The groups of one step. The indices of parents are places in `groups`."""

    groups: list[Group] = field(default_factory=list[Group])
    stats: RolloutStats = field(default_factory=RolloutStats)

    def extend(self, other: Rolled) -> None:
        """Append the groups of `other` and add its counts."""
        shift = len(self.groups)
        for group in other.groups:
            parent = group.parent and (group.parent[0] + shift, group.parent[1])
            self.groups.append(replace(group, parent=parent))
        self.stats.add(other.stats)

    def keep(self, places: Collection[int]) -> Rolled:
        """Return only the groups at these places and the groups whose parents they are; the counts stay whole."""
        kept: dict[int, int] = {}
        groups: list[Group] = []
        for place, group in enumerate(self.groups):
            if (place if group.parent is None else group.parent[0]) not in places:
                continue
            kept[place] = len(groups)
            groups.append(replace(group, parent=group.parent and (kept[group.parent[0]], group.parent[1])))
        return Rolled(groups, self.stats)

    def keep_alive(self, merit: Callable[[Rollout], float | None]) -> Rolled:
        """Return only the groups in which the merit differs, with what belongs to them; all of them are counted.

        Args:
            merit: what a group is dead or alive by; None where a rollout could not be judged.
        """
        own = [place for place, group in enumerate(self.groups) if group.parent is None]
        alive = [place for place in own if len({merit(each) for each in self.groups[place].rollouts} - {None}) > 1]
        stats = self.stats
        stats.num_drawn_groups += len(own)
        stats.num_drawn_dead += len(own) - len(alive)
        for rollout in (rollout for group in self.groups for rollout in group.rollouts):
            if rollout.reward is not None:
                stats.num_drawn_rewards += 1
                stats.drawn_reward += rollout.reward
                if rollout.is_correct is not None:
                    stats.num_drawn_verdicts += 1
                    stats.num_drawn_correct += rollout.is_correct
        return self.keep(alive)
