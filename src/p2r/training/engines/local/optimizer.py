"""AdamW on float32 weights, whatever the policy's own dtype and device.

The optimizer changes *masters*. For a float32 policy a master is the weight itself. For a bfloat16 policy it is a
float32 copy, because a learning rate of 1e-6 is lost in eight bits; a gradient moves to its master as soon as backward
has made it, so that the gradients of several micro-batches add up in float32 and are never held twice. With kind
"offload" masters and Adam's states stay in the CPU's memory.

The rate is a function of the step alone, so there is no scheduler whose state could be lost.
"""

# torchao and bitsandbytes have no types:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypedDict, cast

import torch
from torch import nn

from p2r.config import OptimizerSettings
from p2r.errors import ConfigError, TrainingError
from p2r.training.engines.local.distributed import World, own_part


class OptimizerState(TypedDict):
    """The part that a resumed run needs: Adam's own state, and the masters that are copies."""

    adam: dict[str, object]
    masters: dict[str, torch.Tensor]


class Optimizer:
    """Updates `weights` by their gradients.

    num_updates: how often it has, in this process.

    Raises:
        ConfigError: the kind is not usable here.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], settings: OptimizerSettings, world: World) -> None:
        self._settings, self._world = settings, world
        self.num_updates = 0
        self._weights = dict(weights)
        self._masters: dict[str, torch.Tensor] = {}
        for name, weight in self._weights.items():
            own = own_part(weight.detach())
            self._masters[name] = own.to("cpu" if settings.kind == "offload" else own.device, torch.float32)
            if self._is_copy(name):
                weight.register_post_accumulate_grad_hook(partial(_move_gradient, self._masters[name]))
        self._adam = _make_adam(list(self._masters.values()), settings)

    def step(self, rate: float) -> float:
        """Update the weights once; the gradients are used up.

        Returns:
            The gradient's norm before it was clipped.

        Raises:
            TrainingError: the norm is not finite; nothing was changed.
        """
        for name, weight in self._weights.items():
            if weight.grad is not None:
                _move_gradient(self._masters[name], weight)
        gradients = [master.grad for master in self._masters.values() if master.grad is not None]
        norm = math.sqrt(self._world.add_up([_sum_squares(gradients)])[0])
        if not math.isfinite(norm):
            raise TrainingError(
                f"the gradient's norm is {norm}",
                hint="the last checkpoint is whole: start a new run from it with a lower optimizer.lr, a higher "
                "loss.kl_coef, or in float32",
            )
        limit = self._settings.grad_clip
        if norm > limit:
            for gradient in gradients:
                gradient.mul_(limit / (norm + 1e-6))
        for each in self._adam.param_groups:
            each["lr"] = rate
        self.num_updates += 1
        self._adam.step()
        with torch.no_grad():
            for name, weight in self._weights.items():
                master = self._masters[name]
                master.grad = None
                if self._is_copy(name):
                    own_part(weight.detach()).copy_(master)
        return norm

    def state(self) -> OptimizerState:
        copies = {name: master for name, master in self._masters.items() if self._is_copy(name)}
        return {"adam": self._adam.state_dict(), "masters": copies}

    def load(self, state: OptimizerState) -> None:
        """Restore what `state` returned, also that of the other of the kinds "adamw" and "offload".

        The weights have been restored already.
        """
        adam = state["adam"]
        groups = [
            {**saved, **{name: own.get(name) for name in _HOW}}
            for saved, own in zip(
                cast("list[dict[str, object]]", adam["param_groups"]), self._adam.param_groups, strict=True
            )
        ]
        self._adam.load_state_dict({**adam, "param_groups": groups})
        with torch.no_grad():
            for name, weight in self._weights.items():
                if self._is_copy(name):  # the other kind may have had none: then the weight is the master
                    self._masters[name].copy_(state["masters"].get(name, own_part(weight.detach())))

    def _is_copy(self, name: str) -> bool:
        return self._masters[name].data_ptr() != own_part(self._weights[name].detach()).data_ptr()


_HOW = ("fused", "foreach")
"""Settings of AdamW that say how it computes, not what."""


def rate_at(settings: OptimizerSettings, peak: float, step: int, num_steps: int) -> float:
    """The learning rate of a phase's step, counted from 0."""
    warmup = settings.count_warmup_steps(num_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, num_steps - warmup)
    if settings.scheduler == "linear":
        return peak * (1 - done)
    if settings.scheduler == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    return peak


def _move_gradient(master: torch.Tensor, weight: torch.Tensor) -> None:
    """Move a weight's gradient to its master, or add it to the one there."""
    assert weight.grad is not None
    gradient = own_part(weight.grad).to(master.device, torch.float32)
    master.grad = gradient if master.grad is None else master.grad.add_(gradient)
    weight.grad = None


def _sum_squares(tensors: Sequence[torch.Tensor]) -> float:
    """The sum of all squares, in float64; the device is waited for once, however many tensors there are."""
    if not tensors:
        return 0.0
    norms: list[torch.Tensor] = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors]
    return float(torch.stack(norms).square().sum())


def _make_adam(masters: list[torch.Tensor], settings: OptimizerSettings) -> torch.optim.Optimizer:
    lr, betas, weight_decay = settings.lr, settings.betas, settings.weight_decay
    if settings.kind in ("adamw", "offload"):
        # Fused, a step needs no copies of the states (four bytes a weight, and more). On a CPU it would save nano
        # 9 ms of a step of many seconds, and change the last bits of its published training.
        fused = settings.kind == "offload" or masters[0].is_cuda
        return torch.optim.AdamW(masters, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused)
    if not masters[0].is_cuda:
        raise ConfigError(
            "optimizer.kind 'adamw8bit' needs an NVIDIA GPU", hint="optimizer.kind is 'adamw' or 'offload' on a CPU"
        )
    if importlib.util.find_spec("torchao") is not None:
        from torchao.optim import AdamW8bit  # pyright: ignore[reportMissingImports]

        return AdamW8bit(masters, lr=lr, betas=betas, weight_decay=weight_decay)
    if importlib.util.find_spec("bitsandbytes") is not None:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]

        return AdamW8bit(masters, lr=lr, betas=betas, weight_decay=weight_decay)
    raise ConfigError(
        "optimizer.kind 'adamw8bit' needs torchao or bitsandbytes, and neither is installed",
        hint="pip install torchao, or optimizer.kind = 'offload'",
    )
