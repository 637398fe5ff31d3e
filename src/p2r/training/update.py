"""From judged groups to changed weights: advantages, log-probs, loss, backward, optimizer.

Paper: equations 4 to 6. One optimizer step follows one batch unless told otherwise. Then the policy that learns is the
one that sampled, every ratio is 1, and no pass for old log-probs is needed (the framework of the release makes one).
With several updates a batch, the old log-probs are those of the first pass, taken along. The reference's are computed
once a batch.

A batch runs through the model in micro-batches of groups, in the order of the groups; what losses are divided by is
that of the whole batch and of all processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import VisionLanguageModel
from p2r.training.advantage import Std, compute_advantages
from p2r.training.engines.local.distributed import World, run_as_forward
from p2r.training.engines.local.logprobs import compute_logprobs
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.packing import Packed, pack
from p2r.training.engines.local.policy import Frozen, Policy
from p2r.training.groups import Group
from p2r.training.loss import BatchSize, LossConfig, LossReport, policy_loss
from p2r.training.watch.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Judged:
    """A group and what its rollouts are worth.

    advantages: None for a rollout that is left out, because it, or too many of its group, could not be judged.
    is_dead: all rewards are alike, so that only the KL term has a gradient.
    """

    group: Group
    advantages: tuple[float | None, ...]
    is_dropped: bool
    is_dead: bool

    @property
    def kept(self) -> list[tuple[tuple[int, ...], float]]:
        """Tokens and advantage of each rollout that teaches."""
        pairs = zip(self.group.rollouts, self.advantages, strict=True)
        return [(rollout.token_ids, advantage) for rollout, advantage in pairs if advantage is not None]


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Figures of a batch's updates: means over them. The losses are those of all processes.

    num_packed_tokens, num_patches: that one pass over the batch takes through the language model and the vision tower.
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


def judge_groups(groups: Sequence[Group], *, std: Std, eps: float = 1e-6) -> list[Judged]:
    """Compare the rollouts of each group. A group with a parent takes the advantage of the rollout it goes on from."""
    longest = max((len(group.rollouts) for group in groups), default=0)
    rewards_PG = torch.zeros(len(groups), longest)
    valid_PG = torch.zeros(len(groups), longest, dtype=torch.bool)
    for row, group in enumerate(groups):
        for place, rollout in enumerate(group.rollouts):
            if rollout.reward is not None:
                rewards_PG[row, place], valid_PG[row, place] = rollout.reward, True
    compared = compute_advantages(rewards_PG, valid_PG, std=std, eps=eps)
    judged: list[Judged] = []
    for row, group in enumerate(groups):
        source = row if group.parent is None else group.parent[0]
        places = range(len(group.rollouts)) if group.parent is None else [group.parent[1]]
        dropped, dead = bool(compared.dropped_P[source]), bool(compared.dead_P[source])
        advantages = tuple(
            float(compared.advantages_PG[source, place]) if valid_PG[source, place] and not dropped else None
            for place in places
        )
        judged.append(Judged(group, advantages, dropped, dead))
    return judged


def update_policy(
    policy: Policy,
    frozen: Frozen,
    judged: Sequence[Judged],
    optimizer: Optimizer,
    rate: float,
    *,
    loss: LossConfig,
    num_updates: int = 1,
    micro_batch_groups: int = 1,
    temperature: float = 1.0,
    world: World | None = None,
    watch: Stopwatch | None = None,
) -> UpdateReport | None:
    """Learn from one batch.

    Args:
        judged: this process's groups.
        temperature: that of sampling.

    Returns:
        None when no rollout of any process teaches anything; the weights are as before.

    Raises:
        TrainingError: loss or gradient are no numbers; the weights are as before.
    """
    world, watch = world or World(), watch or Stopwatch()
    if min(world.gather([len(judged)])) == 0:
        return None
    batch = measure_batch(judged, world)
    teaching = [each for each in judged if each.kept and (loss.kl_coef or not each.is_dead)]
    micros = [
        [(each.group.prompt, each.kept) for each in teaching[first : first + micro_batch_groups]]
        for first in range(0, len(teaching), micro_batch_groups)
    ]
    num_passes = max(world.gather([len(micros)]))
    if batch.num_tokens == 0 or num_passes == 0:
        return None
    # Every process must take part in every pass; one that has nothing left goes along and counts for nothing.
    idle = [(judged[0].group.prompt, [(judged[0].group.rollouts[0].token_ids, 0.0)])]
    passes = [_Pass(policy, micro, counts=True) for micro in micros]
    passes += [_Pass(policy, idle, counts=False) for _ in range(num_passes - len(micros))]

    totals = dict.fromkeys((*_SUMMED, "grad_norm"), 0.0)
    with policy.training():
        for _ in range(num_updates):
            for each in passes:
                if loss.kl_coef and each.reference_BT is None:
                    with watch.part("reference"), torch.no_grad(), frozen.reference() as engine:
                        each.reference_BT = run_as_forward(engine.model, _measure, each.packed, temperature, False)[0]
                with watch.part("forward"):
                    report = each.measure(policy, loss, batch, temperature, keeps_old=num_updates > 1)
                with watch.part("backward"):
                    # FSDP averages over processes what is a sum.
                    (report.loss * world.size).backward()
                for name in _SUMMED:
                    totals[name] += float(getattr(report, name).detach()) / num_updates
            with watch.part("optimizer"):
                totals["grad_norm"] += optimizer.step(rate) / num_updates
    summed = dict(zip(_SUMMED, world.add_up([totals[name] for name in _SUMMED]), strict=True))
    packed = [each.packed for each in passes]
    sizes = [sum(each.ids_1N.shape[1] for each in packed), sum(_count_patches(each) for each in packed)]
    num_packed, num_patches = world.add_up(sizes)
    return UpdateReport(
        **summed,
        grad_norm=totals["grad_norm"],
        num_tokens=batch.num_tokens,
        num_packed_tokens=int(num_packed),
        num_patches=int(num_patches),
        num_micro_batches=len(passes),
    )


def measure_batch(judged: Sequence[Judged], world: World) -> BatchSize:
    """Rollouts and tokens of all processes. Dead groups count: their tokens are part of the mean."""
    lengths = [len(token_ids) for each in judged for token_ids, _ in each.kept]
    num_rollouts, num_tokens = world.add_up([len(lengths), sum(lengths)])
    return BatchSize(num_rollouts=int(num_rollouts), num_tokens=int(num_tokens))


_SUMMED = tuple(field.name for field in fields(LossReport))


class _Pass:
    """A micro-batch: packed once, and what is remembered of its first pass."""

    def __init__(
        self,
        policy: Policy,
        micro: Sequence[tuple[EncodedPrompt, Sequence[tuple[tuple[int, ...], float]]]],
        *,
        counts: bool,
    ) -> None:
        rows = [(prompt, [token_ids for token_ids, _ in kept]) for prompt, kept in micro]
        self.packed: Packed = pack(policy.model, rows, patch_format=policy.checkpoint.patches)
        self.reference_BT: torch.Tensor | None = None
        self._old_BT: torch.Tensor | None = None
        self._mask_BT = self.packed.mask_BT & counts
        worth = [advantage for _, kept in micro for _, advantage in kept]
        self._advantages_B = torch.tensor(worth, device=policy.model.device)

    def measure(
        self, policy: Policy, loss: LossConfig, batch: BatchSize, temperature: float, *, keeps_old: bool
    ) -> LossReport:
        logprobs_BT, entropy_BT = run_as_forward(policy.model, _measure, self.packed, temperature, True)
        report = policy_loss(
            logprobs_BT,
            self._old_BT,
            self.reference_BT,
            self._advantages_B,
            self._mask_BT,
            loss,
            batch,
            entropy_BT=entropy_BT,
        )
        if keeps_old and self._old_BT is None:
            self._old_BT = logprobs_BT.detach()
        return report


def _count_patches(packed: Packed) -> int:
    return 0 if packed.patches is None else len(packed.patches)


def _measure(
    model: VisionLanguageModel, packed: Packed, temperature: float, with_entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probs and entropies as a tuple, in which FSDP finds them."""
    measured = compute_logprobs(model, packed, temperature=temperature, with_entropy=with_entropy)
    return measured.logprobs_BT, measured.entropy_BT
