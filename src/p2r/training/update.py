"""Lines 28 to 35 of algorithm 1: rewards become advantages, advantages become a loss, and the loss changes the weights.

Paper: equations 4 to 6. Departures of the advantage A = (r - mean) / (std + eps): the paper does not say which standard
deviation it means; as in the authors' release it is that of a sample (n - 1), with eps 1e-6. "population" (n) and
"none" (Dr.GRPO: only the mean is taken off) are available by name. A rollout that could not be judged is left out of
its group's statistics; a group with fewer than two judged rollouts teaches nothing and is dropped.

One optimizer step follows one batch unless told otherwise. Then the policy that learns is the one that sampled, every
ratio is 1, and no pass for old log-probs is needed (the framework of the release makes one). With several updates per
batch, the old log-probs are those of the first pass, kept from it. The reference's are computed once per batch.

With `mini_batch_prompts` an update learns from a part of the batch, and `updates_per_batch` counts the passes over all
parts. The parts are taken in the order of the rows, the same in each pass, as by default in verl: rows were shuffled
when they were drawn. The old log-probs of all parts are of the policy before the first update.

What an update learns from runs through the model in micro-batches of groups, in the order of the groups; losses are
divided by the size of all that it learns from in all processes.

Shapes: P groups, G rollouts of a group, B rollouts of a micro-batch, T longest response, N tokens of a packed row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import cast

import torch

from p2r.config import AdvantageSettings, LossSettings, Phase
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Policy, Snapshot
from p2r.training.groups import Group, Rollout
from p2r.training.loss import BatchSize, LossReport
from p2r.training.micro_batch import MicroBatch, Reply, SamplerGap, gather_gap
from p2r.training.watch.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Learner:
    """The policy of a phase, and everything that an update of it takes.

    snapshot: the reference of the KL term; None where nothing is sampled.
    """

    phase: Phase
    policy: Policy
    snapshot: Snapshot | None
    optimizer: Optimizer
    world: World


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


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Metrics of a batch: means over its updates. The losses are those of all processes.

    num_tokens: response tokens that went through the model.
    num_packed_tokens, num_patches: of one pass over the batch, through the language model and the vision tower.
    num_micro_batches: of this process.
    entropy: in the first pass over the batch.
    sampler: the distance between the first pass and what the sampler found; None where it did not tell its log-probs.
    """

    loss: float
    policy: float
    kl: float
    entropy: float
    clip_share: float
    ratio: float
    grad_norm: float
    num_tokens: int
    num_packed_tokens: int
    num_patches: int
    num_micro_batches: int
    sampler: SamplerGap | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    """The outcome of a step. report: None when there was nothing to learn."""

    compared: list[Compared]
    report: UpdateReport | None


def learn_step(
    learner: Learner,
    groups: Sequence[Group],
    rate: float,
    watch: Stopwatch | None = None,
    before_pass: Callable[[], object] = lambda: None,
) -> Learned:
    """Learn from one batch: compare the rollouts of each group, then update the active role.

    Args:
        groups: this process's.
        rate: the learning rate.
        watch: adds up seconds by part.
        before_pass: is called before each micro-batch; what it raises leaves the update.

    Raises:
        TrainingError: the loss or the gradient is not finite; the weights are as before.
    """
    compared = compare_groups(groups, learner.phase.advantage)
    return Learned(compared, update_policy(learner, compared, rate, watch or Stopwatch(), before_pass))


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


def update_policy(
    learner: Learner,
    compared: Sequence[Compared],
    rate: float,
    watch: Stopwatch,
    before_pass: Callable[[], object] = lambda: None,
) -> UpdateReport | None:
    """Lines 33 to 35: the loss of each mini-batch, its gradient, and the optimizer's step.

    Returns:
        None when no rollout of any process teaches anything; the weights are as before.
    """
    batches = make_mini_batches(learner, compared)
    if not batches:
        return None
    num_passes = learner.phase.optimizer.updates_per_batch
    reports: list[torch.Tensor] = []
    norms: list[float] = []
    with learner.policy.training():
        for batch in batches[1:]:  # of the first, the first pass below will do
            for micro in batch.micros:
                before_pass()
                with watch.part("old"):
                    micro.measure_old()
        for number in range(num_passes):
            for batch in batches:
                for micro in batch.micros:
                    before_pass()
                    reports.append(_learn_micro(learner, micro, batch, watch, is_first=number == 0))
                    if number == num_passes - 1:
                        micro.forget_images()
                with watch.part("optimizer"):
                    norms.append(learner.optimizer.step(rate))
    values = cast("list[list[float]]", torch.stack(reports).tolist())  # pyright: ignore[reportUnknownMemberType]
    means = [sum(value / len(norms) for value in column) for column in zip(*values, strict=True)]
    summed = dict(zip(_SUMMED, learner.world.add_up(means), strict=True))
    summed["entropy"] *= num_passes  # the other passes did not look
    micros = [micro for batch in batches for micro in batch.micros]
    num_packed, num_patches = learner.world.add_up(
        [sum(micro.packed.num_tokens for micro in micros), sum(micro.packed.num_patches for micro in micros)]
    )
    return UpdateReport(
        **summed,
        sampler=gather_gap(micros, learner.world),
        grad_norm=sum(norm / len(norms) for norm in norms),
        num_tokens=sum(batch.size.num_measured for batch in batches),
        num_packed_tokens=int(num_packed),
        num_patches=int(num_patches),
        num_micro_batches=len(micros),
    )


_SUMMED = tuple(each.name for each in fields(LossReport))


def _learn_micro(
    learner: Learner, micro: MicroBatch, batch: MiniBatch, watch: Stopwatch, *, is_first: bool
) -> torch.Tensor:
    """Add the gradient of a micro-batch; returns its report as a tensor, so that the device need not be waited for."""
    if learner.phase.loss.kl_coef and not micro.has_reference:
        with watch.part("reference"):
            assert learner.snapshot is not None, "a KL term needs a reference"
            micro.measure_reference(learner.snapshot)
    with watch.part("forward"):
        report = micro.compute_loss(batch.size, with_entropy=is_first)
    with watch.part("backward"):
        # FSDP averages over processes what is a sum.
        (report.loss * learner.world.size).backward()  # pyright: ignore[reportUnknownMemberType]  # torch
    return torch.stack([getattr(report, name).detach() for name in _SUMMED])


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """The part of a batch that one update learns from. size: that of all processes."""

    micros: Sequence[MicroBatch]
    size: BatchSize


def make_mini_batches(learner: Learner, compared: Sequence[Compared]) -> list[MiniBatch]:
    """The batch in parts of `mini_batch_prompts`, in the order of its rows; those that teach nothing are left out."""
    phase, world, policy = learner.phase, learner.world, learner.policy
    loss, size = phase.loss, phase.optimizer.micro_batch_groups
    company = [(each.group.prompt, [Reply(each.group.rollouts[0].token_ids, 0.0)]) for each in compared[:1]]
    if min(world.gather([len(company)])) == 0:
        company = world.gather(company)[:1]  # every row of some process failed: it takes another's prompt
    parts = [list(compared)]
    if phase.optimizer.mini_batch_prompts is not None:
        parts = split_groups(compared, phase.prompts_per_update // world.size)
        parts += [[] for _ in range(max(world.gather([len(parts)])) - len(parts))]
    batches: list[MiniBatch] = []
    for part in parts:
        teaching = [each for each in part if each.learned(loss) and (loss.kl_coef or not each.is_dead)]
        batch_size = measure_batch(learner, part, teaching)
        rows = [(each.group.prompt, each.learned(loss)) for each in teaching]
        micros = [MicroBatch(policy, phase, rows[first : first + size]) for first in range(0, len(rows), size)]
        num_micros = max(world.gather([len(micros)]))
        # Every process must take part in every pass; one that has nothing left takes part and counts for nothing.
        micros += [MicroBatch(policy, phase, company, counts=False) for _ in range(num_micros - len(micros))]
        if micros:
            batches.append(MiniBatch(micros, batch_size))
    return batches


def split_groups(compared: Sequence[Compared], num_prompts: int) -> list[list[Compared]]:
    """Parts of so many prompts each, in order. A group with a parent goes where its parent goes."""
    parents = [place for place, each in enumerate(compared) if each.group.parent is None]
    part_of = {place: number // num_prompts for number, place in enumerate(parents)}
    parts: list[list[Compared]] = [[] for _ in range(-(-len(parents) // num_prompts))]
    for place, each in enumerate(compared):
        parts[part_of[place if each.group.parent is None else each.group.parent[0]]].append(each)
    return parts


def measure_batch(learner: Learner, compared: Sequence[Compared], teaching: Sequence[Compared]) -> BatchSize:
    """Rollouts and tokens of all processes. Dead groups count in the loss, whether or not they go through the model.

    Args:
        teaching: the groups that do.
    """
    loss = learner.phase.loss
    num_rollouts = sum(len(each.kept) for each in compared)  # truncated ones too
    num_tokens, num_measured = (
        sum(len(reply.token_ids) for each in groups for reply in each.learned(loss)) for groups in (compared, teaching)
    )
    num_rollouts, num_tokens, num_measured = map(int, learner.world.add_up([num_rollouts, num_tokens, num_measured]))
    return BatchSize(num_rollouts, num_tokens, learner.phase.max_response_tokens, num_measured)
