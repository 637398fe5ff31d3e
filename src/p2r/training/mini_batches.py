"""The batch of a step in mini-batches, shared out over the processes.

With `mini_batch_prompts` an update learns from a part of the batch. The parts are taken in the order of the rows, the
same in each pass, as by default in verl: rows were shuffled when they were drawn.

A part is that of all processes, whoever sampled its groups, so that there are as many updates as one process makes.
Some of its groups teach nothing and do not go through the model; where rows failed or groups are dead, one process
would have much to do and another nothing. So the groups that do go through it are dealt out again: as many to each
process, give or take one, and as evenly by tokens as taking the longest first can make it. Prompts travel with their
images, and each only to the process that needs it.

With `resting_kl_coef` the resting role's reply to each row of a part follows its groups, in passes of their own. They
are dealt out in the same way, whether or not their groups teach something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from p2r.config import LossSettings, Phase
from p2r.models.local.encoding import EncodedPrompt
from p2r.training.advantages import Compared
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.policy import Policy
from p2r.training.loss import BatchSize
from p2r.training.micro_batch import MicroBatch, Reply

Row: TypeAlias = tuple[EncodedPrompt, Sequence[Reply]]


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """The part of a batch that one update learns from. size: that of all processes."""

    micros: Sequence[MicroBatch]
    size: BatchSize


def make_mini_batches(
    policy: Policy, phase: Phase, world: World, compared: Sequence[Compared], places: Mapping[str, int] | None = None
) -> list[MiniBatch]:
    """This process's micro-batches of each part; parts that teach nothing in any process are left out.

    Args:
        compared: this process's groups.
        places: the place of each row among those of the step, by its id; None where each process had as many rows, and
            none of them failed.
    """
    num_prompts = None if phase.optimizer.mini_batch_prompts is None else phase.prompts_per_update
    parts = split_groups(compared, num_prompts, world, places)
    company = _find_company(compared, world)
    most, batches = phase.optimizer.micro_batch_groups, list[MiniBatch]()
    for part in parts:
        teaching = [each for each in part if _teaches(each, phase.loss)]
        size = measure_batch(phase, world, part, teaching)
        rows: list[Row] = [(each.group.prompt, each.learned(phase.loss)) for each in teaching]
        micros = _deal(rows, company, make=partial(MicroBatch, policy, phase), most=most, world=world)
        if phase.loss.resting_kl_coef:
            make = partial(MicroBatch, policy, phase, is_resting=True)
            micros += _deal(_list_resting(phase, part), company, make=make, most=most, world=world)
        if micros:
            batches.append(MiniBatch(micros, size))
    return batches


def _deal(
    rows: Sequence[Row], company: Sequence[Row], *, make: Callable[..., MicroBatch], most: int, world: World
) -> list[MicroBatch]:
    """This process's share of the rows of all processes, in as many micro-batches as any process has."""
    own = world.balance(rows, [count_tokens(row) for row in rows])
    micros = [make(own[first : first + most]) for first in range(0, len(own), most)]
    num_micros = max(world.gather([len(micros)]))
    # Every process must take part in every pass; one that has nothing left takes part and counts for nothing.
    return micros + [make(company, counts=False) for _ in range(num_micros - len(micros))]


def _list_resting(phase: Phase, compared: Sequence[Compared]) -> list[Row]:
    if not phase.loss.resting_kl_coef:
        return []
    replies = [each.group.resting for each in compared if each.group.resting is not None]
    return [(reply.prompt, [Reply(reply.token_ids, 0.0)]) for reply in replies]


def _teaches(compared: Compared, loss: LossSettings) -> bool:
    return bool(compared.learned(loss)) and (loss.kl_coef > 0 or not compared.is_dead)


def split_groups(
    compared: Sequence[Compared], num_prompts: int | None, world: World, places: Mapping[str, int] | None = None
) -> list[list[Compared]]:
    """This process's groups in parts of so many prompts of all processes each, in the order of the rows.

    A group with a parent goes where its parent goes. With None there is one part.
    """
    if num_prompts is None:
        return [[*compared]]
    own = [(place, each.group) for place, each in enumerate(compared) if each.group.parent is None]
    keys = {place: (place if places is None else places[group.sample.id], world.rank) for place, group in own}
    order = sorted(world.gather([*keys.values()]))
    part_of = {key: number // num_prompts for number, key in enumerate(order)}
    parts: list[list[Compared]] = [[] for _ in range(-(-len(order) // num_prompts))]
    for place, each in enumerate(compared):
        parts[part_of[keys[place if each.group.parent is None else each.group.parent[0]]]].append(each)
    return parts


def count_tokens(row: Row) -> int:
    """The tokens that go through the model: the prompt once, and each of equal replies once."""
    prompt, replies = row
    return len(prompt.token_ids) + sum(map(len, {reply.token_ids for reply in replies}))


def _find_company(compared: Sequence[Compared], world: World) -> list[Row]:
    """The row with which a process without a group left keeps pace: its shortest prompt, or another's."""
    shortest = sorted(compared, key=lambda each: len(each.group.prompt.token_ids))[:1]
    return world.borrow([(each.group.prompt, [Reply(each.group.rollouts[0].token_ids, 0.0)]) for each in shortest])


def measure_batch(phase: Phase, world: World, compared: Sequence[Compared], teaching: Sequence[Compared]) -> BatchSize:
    """Rollouts and tokens of all processes. Dead groups count in the loss, whether or not they go through the model.

    Args:
        compared: this process's groups. teaching: those that do.
    """
    num_rollouts = sum(len(each.kept) for each in compared)  # truncated ones too
    num_tokens, num_measured = (
        sum(len(reply.token_ids) for each in groups for reply in each.learned(phase.loss))
        for groups in (compared, teaching)
    )
    num_resting = sum(len(reply.token_ids) for _, [reply] in _list_resting(phase, compared))
    counts = world.add_up([num_rollouts, num_tokens, num_measured, num_resting])
    num_rollouts, num_tokens, num_measured, num_resting = map(int, counts)
    return BatchSize(num_rollouts, num_tokens, phase.max_response_tokens, num_measured, num_resting)
