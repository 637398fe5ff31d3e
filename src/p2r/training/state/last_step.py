"""The state as of the last finished step, from which a checkpoint is written when a run stops halfway through a step.

The weights that learn and the optimizer's states change in an optimizer step and nowhere else, so that until then the
living ones are those of the last finished step. A small model's are copied as well, after each step: a step with
several optimizer steps can then be left anywhere. With a large one the step is finished first.
"""

# torch is typed in part:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch

from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.failures import FailureGauge
from p2r.training.memo import Memo, MemoMark
from p2r.training.state.checkpoint import Position, ProcessState, capture_state
from p2r.training.update import Learner

MOST_COPIED = 1 << 30
"""Bytes of weights and optimizer states up to which they are copied after each step."""


@dataclass(frozen=True, slots=True)
class LastStep:
    """The state after a step.

    state: refers to the living weights, or holds copies (`is_copy`).
    num_updates: optimizer steps of the phase so far.
    """

    position: Position
    state: ProcessState
    is_copy: bool
    mark: MemoMark
    num_updates: int

    def is_whole(self, optimizer: Optimizer) -> bool:
        """Tell whether the state is still what it was after the step."""
        return self.is_copy or optimizer.num_updates == self.num_updates

    def freeze(self, memo: Memo) -> ProcessState:
        """The state for a checkpoint."""
        return {**self.state, "memo": json.dumps(memo.dump(self.mark))}


def keep_last_step(position: Position, learner: Learner, memo: Memo, failures: FailureGauge) -> LastStep:
    """Note the state, which is that of `position`. All processes must call."""
    state = capture_state(learner.policy, learner.optimizer)
    state["failures"] = failures.dump()
    is_small = max(learner.world.gather([_count_bytes(state)])) <= MOST_COPIED
    kept = cast("ProcessState", _copy(state)) if is_small else state
    return LastStep(position, kept, is_small, memo.mark(), learner.optimizer.num_updates)


def _count_bytes(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(_count_bytes, cast("Mapping[object, object]", value).values()))
    return sum(map(_count_bytes, cast("list[object]", value))) if isinstance(value, (list, tuple)) else 0


def _copy(value: object) -> object:
    """The same value, with tensors of its own on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copy(each) for key, each in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list):
        return [_copy(each) for each in cast("list[object]", value)]
    return tuple(_copy(each) for each in cast("tuple[object]", value)) if isinstance(value, tuple) else value
