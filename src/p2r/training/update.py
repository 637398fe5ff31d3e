"""Lines 28 to 35 of algorithm 1: rewards become advantages, advantages become a loss, and the loss changes the weights.

Paper: equations 4 to 6. One optimizer step follows one batch unless told otherwise. Then the policy that learns is the
one that sampled, every ratio is 1, and no pass for old log-probs is needed (the framework of the release makes one).
With several updates per batch, the old log-probs are those of the first pass, kept from it. The reference's are
computed once per batch. With `mini_batch_prompts` an update learns from a part of the batch, and `updates_per_batch`
counts the passes over all parts; the old log-probs of all parts are of the policy before the first update.

What an update learns from runs through the model in micro-batches of groups; losses are divided by the size of all that
it learns from in all processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import cast

import torch

from p2r.config import Phase
from p2r.models.local.engine import VisionLanguageModel
from p2r.training.advantages import Compared, compare_groups
from p2r.training.engines.local.distributed import World, in_update
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Policy, Snapshot
from p2r.training.groups import Group
from p2r.training.loss import LossReport
from p2r.training.micro_batch import MicroBatch, SamplerGap, gather_gap
from p2r.training.mini_batches import MiniBatch, make_mini_batches
from p2r.training.watch.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Learner:
    """The policy of a phase, and everything that an update of it takes.

    snapshot: the reference of the KL terms, and the frozen role where that is asked in this process; None where neither
        is needed.
    """

    phase: Phase
    policy: Policy
    snapshot: Snapshot | None
    optimizer: Optimizer
    world: World

    @property
    def seen(self) -> list[VisionLanguageModel]:
        """The models beside the policy that an update looks at: the reference, where it is a model of its own."""
        if self.snapshot is None or self.snapshot.shares_weights or not self.phase.loss.needs_reference:
            return []
        return [self.snapshot.engine.model]


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Metrics of a batch: means over its updates. The losses are those of all processes.

    num_tokens: response tokens that went through the model.
    num_packed_tokens, num_predictors, num_patches: of one pass over the batch, through the language model, its head and
        the vision tower.
    num_trained_tokens: packed tokens of all passes.
    num_micro_batches: of this process.
    entropy: in the first pass over the batch.
    resting_kl: None where no reply of the resting role was there to be kept.
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
    num_predictors: int
    num_patches: int
    num_trained_tokens: int
    num_micro_batches: int
    resting_kl: float | None = None
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
    places: Mapping[str, int] | None = None,
) -> Learned:
    """Learn from one batch: compare the rollouts of each group, then update the active role.

    Args:
        groups: this process's.
        rate: the learning rate.
        watch: adds up seconds by part.
        before_pass: is called before each micro-batch; what it raises leaves the update.
        places: see `make_mini_batches`.

    Raises:
        TrainingError: the loss or the gradient is not finite; the weights are as before.
    """
    compared = compare_groups(groups, learner.phase.advantage)
    return Learned(compared, update_policy(learner, compared, rate, watch or Stopwatch(), before_pass, places))


def update_policy(
    learner: Learner,
    compared: Sequence[Compared],
    rate: float,
    watch: Stopwatch,
    before_pass: Callable[[], object] = lambda: None,
    places: Mapping[str, int] | None = None,
) -> UpdateReport | None:
    """Lines 33 to 35: the loss of each mini-batch, its gradient, and the optimizer's step.

    Returns:
        None when no rollout of any process teaches anything; the weights are as before.
    """
    batches = make_mini_batches(learner.policy, learner.phase, learner.world, compared, places)
    if not batches:
        return None
    settings = learner.phase.optimizer
    num_passes = settings.updates_per_batch
    reports: list[torch.Tensor] = []
    norms: list[float] = []
    with learner.policy.training():
        # Of the first, the first pass below will do.
        later = [micro for batch in batches[1:] for micro in batch.micros if not micro.is_resting]
        for micro in in_update(later, learner.policy.model, settings):
            before_pass()
            with watch.part("old"):
                micro.measure_old()
        for number in range(num_passes):
            seen = learner.seen if number == 0 else []
            for batch in batches:
                for micro in in_update(batch.micros, learner.policy.model, settings, *seen):
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
    resting_kl = summed.pop("resting_kl")
    micros = [micro for batch in batches for micro in batch.micros]
    sizes = [(each.num_tokens, len(each.predictors_K), each.num_patches) for each in (micro.packed for micro in micros)]
    num_packed, num_predictors, num_patches = map(int, learner.world.add_up(list(map(sum, zip(*sizes, strict=True)))))
    return UpdateReport(
        **summed,
        resting_kl=resting_kl if any(batch.size.num_resting for batch in batches) else None,
        sampler=gather_gap(micros, learner.world),
        grad_norm=sum(norm / len(norms) for norm in norms),
        num_tokens=sum(batch.size.num_measured for batch in batches),
        num_packed_tokens=num_packed,
        num_predictors=num_predictors,
        num_patches=num_patches,
        num_trained_tokens=num_passes * num_packed,
        num_micro_batches=len(micros),
    )


_SUMMED = tuple(each.name for each in fields(LossReport))


def _learn_micro(
    learner: Learner, micro: MicroBatch, batch: MiniBatch, watch: Stopwatch, *, is_first: bool
) -> torch.Tensor:
    """Add the gradient of a micro-batch; returns its report as a tensor, so that the device need not be waited for."""
    if micro.lacks_reference:
        with watch.part("reference"):
            assert learner.snapshot is not None, "a KL term needs a reference"
            micro.measure_reference(learner.snapshot)
    with watch.part("forward"):
        report = micro.compute_loss(batch.size, with_entropy=is_first)
    with watch.part("backward"):
        # FSDP averages over processes what is a sum.
        (report.loss * learner.world.size).backward()  # pyright: ignore[reportUnknownMemberType]  # torch
    return torch.stack([getattr(report, name).detach() for name in _SUMMED])
