"""One run over several processes: `torchrun --nproc-per-node 8 -m p2r train RECIPE.toml`.

Each process rolls out its own rows of a batch and learns from its share of the groups. Weights, gradients and optimizer
states are split by FSDP2 (`fully_shard`), layer by layer, and so is the frozen copy. Losses are divided by the size of
the whole batch, so that loss and gradients are those of a single process.

While rollouts are drawn, every process holds the whole weights (in bfloat16 on GPUs), since gathering each layer for
each token would take longer than the token. An update has many passes over the same weights, so it holds them whole as
well, unless told to split them after each layer of each pass.

A process group that exists already, such as that of Ray Train, is used in the same way. Without one, and without
torchrun, there is one process, and nothing here does anything.
"""

# torch.distributed and transformers are typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from types import MethodType
from typing import Concatenate, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from p2r.config import OptimizerSettings
from p2r.errors import ConfigError
from p2r.models.local.engine import VisionLanguageModel

Item = TypeVar("Item")
Given = ParamSpec("Given")
Result = TypeVar("Result")

CPU = torch.device("cpu")
_AS_FORWARD = "run_as_forward"
PATIENCE = timedelta(hours=1)
"""The longest that processes wait for each other: one may be launching a server or writing a large checkpoint."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run. `rank` is the number of this process; number 0 writes and prints."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's share of items that all processes hold: every `size`-th one."""
        return list(items[self.rank :: self.size])

    def gather(self, own: Sequence[Item]) -> list[Item]:
        """All items, in the order they had before `share`; the same in every process."""
        if self.size == 1:
            return list(own)
        parts: list[list[Item]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, list(own))
        return [part[k] for k in range(max(map(len, parts))) for part in parts if k < len(part)]

    def borrow(self, own: Sequence[Item]) -> list[Item]:
        """The first of these items, or of another process's where there is none; [] where no process has any."""
        first = list(own[:1])
        found = first if min(self.gather([len(first)])) else self.gather(first)
        return first or found[:1]

    def balance(self, own: Sequence[Item], sizes: Sequence[int]) -> list[Item]:
        """Share the items of all processes out again: as many for each, give or take one, and about as much in size."""
        return self.deal(own, share_out(self.gather([(size, self.rank) for size in sizes]), self.size))

    def deal(self, own: Sequence[Item], targets: Sequence[int]) -> list[Item]:
        """Send items to the processes that they are for; returns those that are for this one.

        Args:
            targets: a process for each item of all processes, in the order of `gather`, which is also that of the
                items that are returned.
        """
        if self.size == 1:
            return list(own)
        homes, items = self.gather([self.rank] * len(own)), iter(own)
        dealt: dict[int, Item] = {}
        parcels: dict[int, dict[int, Item]] = {}
        for place, (home, target) in enumerate(zip(homes, targets, strict=True)):
            if home == self.rank:
                kept = dealt if target == self.rank else parcels.setdefault(target, {})
                kept[place] = next(items)
        # In one order that all processes know, so that each waits for one that will come.
        ways = sorted({way for way in zip(homes, targets, strict=True) if len({*way}) == 2})
        for home, target in ways:
            if home == self.rank:
                dist.send_object_list([parcels[target]], target, device=CPU)
            elif target == self.rank:
                parcel: list[dict[int, Item]] = [{}]
                dist.recv_object_list(parcel, home, device=CPU)
                dealt |= parcel[0]
        return [dealt[place] for place in sorted(dealt)]

    def add_up(self, values: Sequence[float]) -> list[float]:
        """Each value, summed over the processes."""
        if self.size == 1:
            return list(values)
        parts = [[0.0]] * self.size
        dist.all_gather_object(parts, list(values))
        return [sum(column) for column in zip(*parts, strict=True)]

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            dist.barrier()


def share_out(sized: Sequence[tuple[int, int]], num_processes: int) -> list[int]:
    """The process that gets each item: as many items for each, give or take one, and about as much in size.

    The largest first, each to the process with the least so far; where that does not decide, it stays where it is.

    Args:
        sized: size and present process of each item.
    """
    most = -(-len(sized) // num_processes)
    loads, counts, targets = [0] * num_processes, [0] * num_processes, [0] * len(sized)
    for place in sorted(range(len(sized)), key=lambda place: -sized[place][0]):
        size, home = sized[place]
        free = [process for process in range(num_processes) if counts[process] < most]
        target = min(free, key=lambda process: (loads[process], process != home))
        targets[place] = target
        loads[target] += size
        counts[target] += 1
    return targets


@contextmanager
def join_world() -> Generator[World, None, None]:
    """The processes that torchrun started, those of a process group that exists already, or this one alone.

    A group that exists, such as that of Ray Train, is left to who made it.

    Raises:
        ConfigError: it cannot send anything from the CPU.
    """
    is_given, has_gpus = dist.is_initialized(), torch.cuda.is_available()
    if not is_given and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if has_gpus:
        local_rank %= torch.cuda.device_count()  # launchers show a process all GPUs of its machine, or its own alone
        torch.cuda.set_device(local_rank)
    if not is_given:
        gpu = torch.device("cuda", local_rank) if has_gpus else None
        dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpus else "gloo", timeout=PATIENCE, device_id=gpu)
    elif "cpu:" not in (backends := dist.get_backend_config()):
        raise ConfigError(
            f"the process group that exists has no backend for the CPU: {backends}",
            hint='make it with the backend "cpu:gloo,cuda:nccl"; in Ray Train, TorchConfig(backend=...) names it',
        )
    try:
        yield World(dist.get_rank(), dist.get_world_size(), local_rank)
    finally:
        if not is_given:
            dist.destroy_process_group()


def split_model(model: VisionLanguageModel, world: World, device: torch.device, dtype: torch.dtype) -> None:
    """Split the weights over the processes; nothing to do for one.

    Each layer is a unit. The rest (embeddings, which may be tied to the head, norms, mergers) is the outermost unit,
    which stays gathered between a forward and a backward pass.

    The model is emptied, split, and filled with this process's part of each weight, which is all that is read of a
    weight in a mapped file. Weights that learn become float32 and the others that of the computation, to which all are
    rounded.

    Args:
        device, dtype: of the computation.
    """
    if world.size == 1:
        return
    mesh = init_device_mesh(device.type, (world.size,))
    precision = MixedPrecisionPolicy(param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32)
    learns = _learns(model)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    buffers = dict(model.named_buffers())
    for weight in model.parameters():
        kind = torch.float32 if weight.requires_grad else dtype
        empty = nn.Parameter(torch.empty_like(weight, device="meta", dtype=kind), weight.requires_grad)
        torch.utils.swap_tensors(weight, empty)  # in place, so that tied weights stay tied
    for unit in (*model.model.language_model.layers, *model.model.visual.blocks, model):
        fully_shard(unit, mesh=mesh, mp_policy=precision, reshard_after_forward=unit is not model or not learns)
    model.to_empty(device=device)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        for name, weight in model.named_parameters():
            own, whole = own_part(weight.detach()), weights.pop(name)
            first = world.rank * -(-len(whole) // world.size)
            part = whole[first : first + len(own)]
            own.copy_(part if own.dtype == dtype else part.to(dtype))
    setattr(model, _AS_FORWARD, MethodType(_run, model))
    register_fsdp_forward_method(model, _AS_FORWARD)


def _learns(model: nn.Module) -> bool:
    """Tell whether there will be backward passes, which need the outermost unit again."""
    return any(weight.requires_grad for weight in model.parameters())


def is_split(model: nn.Module) -> bool:
    """Tell whether the weights are split over processes."""
    return isinstance(model, FSDPModule)


def run_as_forward(
    model: VisionLanguageModel,
    function: Callable[Concatenate[VisionLanguageModel, Given], Result],
    *args: Given.args,
    **kwargs: Given.kwargs,
) -> Result:
    """`function(model, ...)` with the outermost weights gathered, as they are within the model's own forward.

    For functions that call parts of the model. Only tensors that are returned alone or in a tuple have gradients.
    """
    if not isinstance(model, FSDPModule):
        return function(model, *args, **kwargs)
    return getattr(model, _AS_FORWARD)(function, *args, **kwargs)


def _run(model: nn.Module, function: Callable[..., Result], *args: object, **kwargs: object) -> Result:
    return function(model, *args, **kwargs)


@contextmanager
def whole_weights(*models: nn.Module) -> Generator[None, None, None]:
    """Let every process hold all weights, so that each may call the models as often as it likes. All must enter."""
    units: dict[FSDPModule, bool] = {}
    for model in models:
        learns = _learns(model)
        units |= {unit: unit is not model or not learns for unit in model.modules() if isinstance(unit, FSDPModule)}
    for unit in units:
        unit.unshard()
        _set_reshard(unit, after_forward=False, after_backward=False)
    try:
        yield
    finally:
        for unit, after_forward in units.items():
            _set_reshard(unit, after_forward=after_forward, after_backward=True)
            unit.reshard()


def _set_reshard(unit: FSDPModule, *, after_forward: bool, after_backward: bool) -> None:
    unit.set_reshard_after_forward(after_forward, recurse=False)
    unit.set_reshard_after_backward(after_backward, recurse=False)


def in_update(
    passes: Sequence[Item], model: nn.Module, settings: OptimizerSettings, *others: nn.Module
) -> Iterator[Item]:
    """Each pass of an update in turn, for the caller to make: forward, and backward with its gradients.

    The weights are gathered once for all passes, and split again after the last; see `OptimizerSettings` for how much
    is held meanwhile. All processes must make as many passes.

    Args:
        model: the one that learns. others: those that are only looked at.
    """
    if not passes:
        return
    with nullcontext() if settings.reshard else whole_weights(model, *others):
        for number, each in enumerate(passes, start=1):
            if isinstance(model, FSDPModule):
                model.set_requires_gradient_sync(number == len(passes) or not settings.reduce_once)
            yield each


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on the CPU, gathered when it is split. All processes must call."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor that may be split."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
