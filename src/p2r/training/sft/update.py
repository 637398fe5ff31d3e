"""One optimizer step on demonstrations: the mean negative log-probability of the tokens that are learned.

The mean is over all learned tokens of the step, on all processes, however rows are packed. Rows are packed side by side
into one forward pass without padding, and none sees another: see `logprobs`.

Shapes: B rows of a pass, T longest reply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from p2r.config import OptimizerSettings
from p2r.errors import ConfigError, TrainingError
from p2r.models.local.sight import learns_to_see
from p2r.training.engines.local.distributed import World, in_update
from p2r.training.engines.local.logprobs import compute_logprobs, pack
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Policy
from p2r.training.sft.encode import EncodedDemonstration


@dataclass(frozen=True, slots=True)
class SftReport:
    """Metrics of a step, of all processes.

    loss: mean negative log-probability of the learned tokens, in nats, before the update.
    num_learned: the learned tokens. num_tokens: all of them, prompts included.
    """

    loss: float
    grad_norm: float
    num_learned: int
    num_tokens: int


def learn_demonstrations(
    policy: Policy,
    optimizer: Optimizer,
    world: World,
    rows: Sequence[EncodedDemonstration],
    rate: float,
    *,
    settings: OptimizerSettings,
    pack_tokens: int,
    before_pass: Callable[[], object] = lambda: None,
) -> SftReport:
    """Learn from this process's rows of a step. All processes must call, one of them with a row at least.

    Args:
        rate: the learning rate.
        settings: the optimizer's, which say what is held in memory.
        pack_tokens: the most tokens of a forward pass; a longer row has one of its own.
        before_pass: is called before each; what it raises leaves the update.

    Raises:
        ConfigError: several processes cannot learn from these rows together.
        TrainingError: the loss or the gradient is not finite; the weights are as before.
    """
    _check_towers(policy, world, rows, settings)
    own = sum(sum(row.learned) for row in rows), sum(row.num_tokens for row in rows)
    num_learned, num_tokens = (int(count) for count in world.add_up([float(count) for count in own]))
    passes = list(_split(rows, pack_tokens))
    num_passes = max(world.gather([len(passes)]))
    # Every process must take part in every pass; one that has nothing left repeats a row that counts for nothing.
    company = world.borrow(rows)
    idle = [company] * (num_passes - len(passes))
    losses: list[torch.Tensor] = []
    with policy.training():
        for place, each in enumerate(in_update([*passes, *idle], policy.model, settings)):
            before_pass()
            loss = measure_loss(policy, each) / num_learned * (place < len(passes))
            # FSDP averages over processes what is a sum.
            (loss * world.size).backward()  # pyright: ignore[reportUnknownMemberType]  # torch
            losses.append(loss.detach())
        [total] = world.add_up([sum(float(loss) for loss in losses)])
        if not math.isfinite(total):
            raise TrainingError(f"the loss is {total}", hint="a lower optimizer.lr, or model.dtype = 'float32'")
        grad_norm = optimizer.step(rate)
    return SftReport(total, grad_norm, num_learned, num_tokens)


def _check_towers(
    policy: Policy, world: World, rows: Sequence[EncodedDemonstration], settings: OptimizerSettings
) -> None:
    """Refuse steps in which one process would wait for the tower's weights or gradients of one that sees no image."""
    if world.size == 1 or not (settings.reshard or learns_to_see(policy.model)):
        return
    if len({*world.gather([bool(row.prompt.grids) for row in rows])}) > 1:
        raise ConfigError(
            "some rows of a step have an image and some have none, which several processes cannot learn together while "
            + ("its layers are split" if settings.reshard else "the vision tower learns"),
            hint="optimizer.reshard = false" if settings.reshard else "model.freeze_vision = true, or one process",
        )


def measure_loss(policy: Policy, rows: Sequence[EncodedDemonstration]) -> torch.Tensor:
    """The summed negative log-probability of the learned tokens of rows, in one pass, with gradient."""
    packed = pack(policy.model, [(row.prompt, [row.token_ids]) for row in rows], patch_format=policy.checkpoint.patches)
    learned_BT = torch.zeros_like(packed.mask_BT)
    for place, row in enumerate(rows):
        learned_BT[place, : len(row.learned)] = torch.tensor(row.learned, device=learned_BT.device)
    return -torch.where(learned_BT, compute_logprobs(policy.model, packed).logprobs_BT, 0.0).sum()


def _split(rows: Sequence[EncodedDemonstration], most: int) -> Iterator[list[EncodedDemonstration]]:
    """Rows in their order, in lots of at most so many tokens or of one row."""
    lot: list[EncodedDemonstration] = []
    size = 0
    for row in rows:
        if lot and size + row.num_tokens > most:
            yield lot
            lot, size = [], 0
        lot.append(row)
        size += row.num_tokens
    if lot:
        yield lot
