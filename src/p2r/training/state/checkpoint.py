"""The state of a run, from which a killed run resumes as if nothing had happened.

A checkpoint is a folder OUT/checkpoints/<phase>-<step>: `state.json` holds the position of the run, `part-<rank>.pt`
the state of each process: weights that learn, optimizer, random states, the partner's memo, the latest failures. It is
written as a draft, forced onto the disk and renamed, so that a folder with this name is whole. The lengths of the logs
are part of it: lines that were written after it are cut off on resume and written again, on a CPU the same to the last
bit.

Seeds of rollouts and the choice of rows depend only on the step; random states are seeded at a phase's start and kept
in case a library draws from them.
"""

# torch and numpy are typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from pydantic import ValidationError

from p2r.errors import ModelError, StorageError, count_nouns
from p2r.files import replace_folder
from p2r.training.engines.local.distributed import World, own_part
from p2r.training.engines.local.optimizer import Optimizer, OptimizerState
from p2r.training.engines.local.policy import Policy, describe_weights
from p2r.types import Frozen

STATE_FILE = "state.json"


class Position(Frozen):
    """The point that a run has reached: `step` steps of phase number `phase` (both from 0) are done.

    run_step: steps done in all phases.
    row_position: the position in the phase's order of rows: see `RowOrder`.
    model: tells the model from others: see `describe_weights`.
    num_processes: the processes over which the weights are split.
    log_bytes: the length of each log.
    best: accuracy of the best probe so far, None before the first.
    is_probed: False when the run was stopped before the step's probe and alarms, which are then still due.
    """

    phase: int
    step: int
    run_step: int
    row_position: int
    model: str
    num_processes: int
    log_bytes: dict[str, int]
    best: float | None = None
    is_probed: bool = True


class ProcessState(TypedDict):
    """The state of one process of a run. The spelling of `optimiser` is that of the files.

    failures: the latest outcomes of rollouts; older versions wrote none.
    """

    weights: dict[str, torch.Tensor]
    optimiser: OptimizerState
    random: dict[str, object]
    memo: str
    failures: list[str]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of a run's folder.

    keep_last: how many are kept; at least one.
    """

    folder: Path
    keep_last: int
    world: World

    def save(self, position: Position, state: ProcessState | None) -> None:
        """Write a checkpoint, and remove old ones.

        Args:
            state: None where another engine keeps it, in one process.

        Raises:
            StorageError: it cannot be written; earlier ones are whole.
        """
        target = self.folder / f"{position.phase:03d}-{position.step:06d}"
        if self.world.size == 1 or state is None:
            with replace_folder(target) as draft:
                if state is not None:
                    torch.save(state, draft / _part_name(self.world))
                (draft / STATE_FILE).write_text(position.model_dump_json(indent=2) + "\n", encoding="utf-8")
        else:
            self._save_together(target, position, state)
        if self.world.is_first:
            for old in self.all()[: -max(1, self.keep_last)]:
                shutil.rmtree(old)

    def _save_together(self, target: Path, position: Position, state: ProcessState) -> None:
        """Every process writes its part; the first process puts all of them in place."""
        own = self.folder / f"{target.name}.part-{self.world.rank}"
        with replace_folder(own) as draft:
            torch.save(state, draft / _part_name(self.world))
        self.world.wait()
        if self.world.is_first:
            with replace_folder(target) as draft:
                for rank in range(self.world.size):
                    name = _part_name(World(rank, self.world.size))
                    (self.folder / f"{target.name}.part-{rank}" / name).rename(draft / name)
                (draft / STATE_FILE).write_text(position.model_dump_json(indent=2) + "\n", encoding="utf-8")
            for leftover in self.folder.glob("*.part-*"):
                shutil.rmtree(leftover)
        self.world.wait()

    def all(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        found = self.folder.glob("[0-9]*-[0-9]*") if self.folder.is_dir() else ()
        return sorted(path for path in found if path.suffix == "" and (path / STATE_FILE).is_file())

    def last_position(self) -> Position | None:
        """The position of the last checkpoint; None without one.

        Raises:
            StorageError: its state cannot be read, or it was written by another number of processes.
        """
        folders = self.all()
        if not folders:
            return None
        path = folders[-1] / STATE_FILE
        try:
            position = Position.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise StorageError(
                f"{path} does not hold the state of a run",
                hint=f"remove {folders[-1]} to resume from the one before it",
            ) from error
        if position.num_processes != self.world.size:
            writers = count_nouns(position.num_processes, "process", "processes")
            raise StorageError(
                f"{folders[-1]} was written by {writers}, not by {self.world.size}",
                hint=f"resume with `processes={position.num_processes}`",
            )
        return position

    def restore(self, position: Position, policy: Policy, optimizer: Optimizer) -> tuple[str, list[str]]:
        """Bring policy and optimizer to a saved position; returns the memo and the latest failures.

        Raises:
            ModelError: the state belongs to another model.
            StorageError: it cannot be read.
        """
        own = describe_weights(policy)
        if own != position.model:
            raise ModelError(
                f"the saved state is of another model: {position.model}; this one is {own}",
                hint="resume with the model that the run was started with, or choose another `out`",
            )
        path = self.folder / f"{position.phase:03d}-{position.step:06d}" / _part_name(self.world)
        try:
            state: ProcessState = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # what pickle and zip say of a damaged file
            raise StorageError(
                f"{path} cannot be read: {error}", hint=f"remove {path.parent} to resume from the one before it"
            ) from error
        with torch.no_grad():
            for name, weight in policy.trainable.items():
                own_part(weight.detach()).copy_(state["weights"][name])
        optimizer.load(state["optimiser"])
        _set_random_states(state["random"])
        return state["memo"], state.get("failures", [])


def capture_state(policy: Policy, optimizer: Optimizer) -> ProcessState:
    """The state of this process as it is now, without memo and failures. Its tensors are the living ones."""
    return {
        "weights": {name: own_part(weight.detach()) for name, weight in policy.trainable.items()},
        "optimiser": optimizer.state(),
        "random": _random_states(),
        "memo": "",
        "failures": [],
    }


def seed_random_states(seed: int) -> None:
    """Seed the random states of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _part_name(world: World) -> str:
    return f"part-{world.rank}.pt"


def _random_states() -> dict[str, object]:
    name, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, following = random.getstate()
    return {
        "python": [version, list(words), following],
        "numpy": [str(name), torch.from_numpy(np.array(keys)), int(place), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_states(states: dict[str, object]) -> None:
    python, numpy_state, cuda = states["python"], states["numpy"], states["cuda"]
    assert isinstance(python, list) and isinstance(numpy_state, list) and isinstance(cuda, list)
    random.setstate((python[0], tuple(python[1]), python[2]))
    np.random.set_state((numpy_state[0], numpy_state[1].numpy(), *numpy_state[2:]))
    torch_state = states["torch"]
    assert isinstance(torch_state, torch.Tensor)
    torch.set_rng_state(torch_state)
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
