"""Lines 28 to 35 of algorithm 1: rewards become advantages, advantages become a loss, and the loss changes the weights.

Paper: equations 4 to 6. Departures of the advantage A = (r - mean) / (std + eps): the paper does not say which standard
deviation it means; as in the authors' release it is that of a sample (n - 1), with eps 1e-6. "population" (n) and
"none" (Dr.GRPO: only the mean is taken off) are available by name. A rollout that could not be judged is left out of
its group's statistics; a group with fewer than two judged rollouts teaches nothing and is dropped.

One optimizer step follows one batch unless told otherwise. Then the policy that learns is the one that sampled, every
ratio is 1, and no pass for old log-probs is needed (the framework of the release makes one). With several updates per
batch, the old log-probs are those of the first pass, kept from it. The reference's are computed once per batch.

A batch runs through the model in micro-batches of groups, in the order of the groups; losses are divided by the size of
the whole batch of all processes.

Shapes: P groups, G rollouts of a group, B rollouts of a micro-batch, T longest response, N tokens of a packed row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import torch

from p2r.config import AdvantageSettings, LossSettings, Phase
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import VisionLanguageModel
from p2r.training.engines.local.distributed import World, run_as_forward
from p2r.training.engines.local.logprobs import Packed, compute_logprobs, pack
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Policy, Snapshot
from p2r.training.groups import Group, Rollout
from p2r.training.loss import BatchSize, LossReport, policy_loss
from p2r.training.watch.stopwatch import Stopwatch

Reply: TypeAlias = tuple[tuple[int, ...], float]
"""Tokens and advantage of a rollout."""


@dataclass(frozen=True, slots=True)
class Learner:
    """The policy of a phase, and everything that an update of it takes. snapshot: the reference of the KL term."""

    phase: Phase
    policy: Policy
    snapshot: Snapshot
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
            (rollout.token_ids, advantage)
            for rollout, advantage in self.kept
            if rollout.ended or not settings.mask_truncated
        ]


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Metrics of a batch: means over its updates. The losses are those of all processes.

    num_tokens: response tokens that went through the model.
    num_packed_tokens, num_patches: of one pass over the batch, through the language model and the vision tower.
    num_micro_batches: of this process.
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
    """Lines 33 to 35: the loss of the batch, its gradient, and the optimizer's steps.

    Returns:
        None when no rollout of any process teaches anything; the weights are as before.
    """
    policy, phase, world = learner.policy, learner.phase, learner.world
    loss, size, num_updates = phase.loss, phase.optimizer.micro_batch_groups, phase.optimizer.updates_per_batch
    teaching = [each for each in compared if each.learned(loss) and (loss.kl_coef or not each.is_dead)]
    batch = measure_batch(learner, compared, teaching)
    rows = [(each.group.prompt, each.learned(loss)) for each in teaching]
    micros = [_Micro(policy, rows[first : first + size]) for first in range(0, len(rows), size)]
    num_passes = max(world.gather([len(micros)]))
    if num_passes == 0:
        return None
    # Every process must take part in every pass; one that has nothing left takes part and counts for nothing.
    company = [(each.group.prompt, [(each.group.rollouts[0].token_ids, 0.0)]) for each in compared[:1]]
    if min(world.gather([len(company)])) == 0:
        company = world.gather(company)[:1]  # every row of some process failed: it takes another's prompt
    micros += [_Micro(policy, company, counts=False) for _ in range(num_passes - len(micros))]

    totals = dict.fromkeys((*_SUMMED, "grad_norm"), 0.0)
    with policy.training():
        for _ in range(num_updates):
            for micro in micros:
                before_pass()
                if loss.kl_coef and not micro.has_reference:
                    with watch.part("reference"):
                        micro.measure_reference(learner)
                with watch.part("forward"):
                    report = micro.compute_loss(learner, batch)
                with watch.part("backward"):
                    # FSDP averages over processes what is a sum.
                    (report.loss * world.size).backward()  # pyright: ignore[reportUnknownMemberType]  # torch
                for name in _SUMMED:
                    totals[name] += float(getattr(report, name).detach()) / num_updates
            with watch.part("optimizer"):
                totals["grad_norm"] += learner.optimizer.step(rate) / num_updates
    summed = dict(zip(_SUMMED, world.add_up([totals[name] for name in _SUMMED]), strict=True))
    num_packed, num_patches = world.add_up(
        [sum(micro.packed.num_tokens for micro in micros), sum(micro.packed.num_patches for micro in micros)]
    )
    return UpdateReport(
        **summed,
        grad_norm=totals["grad_norm"],
        num_tokens=batch.num_measured,
        num_packed_tokens=int(num_packed),
        num_patches=int(num_patches),
        num_micro_batches=len(micros),
    )


_SUMMED = tuple(each.name for each in fields(LossReport))


def measure_batch(learner: Learner, compared: Sequence[Compared], teaching: Sequence[Compared]) -> BatchSize:
    """Rollouts and tokens of all processes. Dead groups count in the loss, whether or not they go through the model.

    Args:
        teaching: the groups that do.
    """
    loss = learner.phase.loss
    num_rollouts = sum(len(each.kept) for each in compared)  # truncated ones too
    num_tokens, num_measured = (
        sum(len(token_ids) for each in groups for token_ids, _ in each.learned(loss)) for groups in (compared, teaching)
    )
    num_rollouts, num_tokens, num_measured = map(int, learner.world.add_up([num_rollouts, num_tokens, num_measured]))
    return BatchSize(num_rollouts, num_tokens, learner.phase.max_response_tokens, num_measured)


class _Micro:
    """A micro-batch: packed once, with the log-probs that later updates are compared with.

    rows: prompts with the replies that are learned from. counts: False masks all of them.
    """

    def __init__(
        self, policy: Policy, rows: Sequence[tuple[EncodedPrompt, Sequence[Reply]]], *, counts: bool = True
    ) -> None:
        packable = [(prompt, [token_ids for token_ids, _ in kept]) for prompt, kept in rows]
        self.packed: Packed = pack(policy.model, packable, patch_format=policy.checkpoint.patches)
        advantages = [advantage for _, kept in rows for _, advantage in kept]
        self._advantages_B = torch.tensor(advantages, device=policy.model.device)
        self._mask_BT = self.packed.mask_BT & counts
        self._reference_BT: torch.Tensor | None = None
        self._old_BT: torch.Tensor | None = None

    @property
    def has_reference(self) -> bool:
        return self._reference_BT is not None

    def measure_reference(self, learner: Learner) -> None:
        """Log-probs under the phase's snapshot, once per batch."""
        with torch.no_grad(), learner.snapshot.reference() as engine:
            self._reference_BT = self._measure(engine.model, learner, with_entropy=False)[0]

    def compute_loss(self, learner: Learner, batch: BatchSize) -> LossReport:
        """Line 34: this micro-batch's share of the loss, with gradient."""
        logprobs_BT, entropy_BT = self._measure(learner.policy.model, learner, with_entropy=True)
        report = policy_loss(
            logprobs_BT,
            self._old_BT,
            self._reference_BT,
            self._advantages_B,
            self._mask_BT,
            learner.phase.loss,
            batch,
            entropy_BT=entropy_BT,
        )
        if learner.phase.optimizer.updates_per_batch > 1 and self._old_BT is None:
            self._old_BT = logprobs_BT.detach()
        return report

    def _measure(
        self, model: VisionLanguageModel, learner: Learner, *, with_entropy: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probs at the temperature of sampling, and entropies."""
        return run_as_forward(model, _measure, self.packed, learner.phase.rollout.temperature, with_entropy)


def _measure(
    model: VisionLanguageModel, packed: Packed, temperature: float, with_entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probs and entropies as a tuple, in which FSDP finds them."""
    measured = compute_logprobs(model, packed, temperature=temperature, with_entropy=with_entropy)
    return measured.logprobs_BT, measured.entropy_BT
