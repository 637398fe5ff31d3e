"""Low-rank adapters (LoRA): a few weights that learn, while the policy's own stay as they are.

Not in the paper. No phase needs a copy of the model: the frozen policy from its start is the base with the adapter as
it was then. In the first phase that adapter changes nothing, so it is switched off; a later phase continues with the
adapter of the phase before, and keeps a frozen copy of it. The layers are peft's; see `p2r.models.local.lora`.

With an adapter for each role, that of the role that rests lies beside the one that learns, and plays that role. Before
its first phase there is none, and the base plays it.
"""

# peft is typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from p2r.dialogue import Decoding
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import GeneratedTokens, VisionLanguageModel
from p2r.models.local.lora import ADAPTER, AdapterShape, insert_adapter, is_adapter
from p2r.training.engines.local.generate import FrozenEngine

if TYPE_CHECKING:
    from peft.tuners.lora import Linear as LoraLayer

FROZEN, RESTING = "frozen", "resting"


def train_adapter_alone(model: VisionLanguageModel) -> None:
    """Let the adapter learn, and nothing else."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(is_adapter(name) and f".{ADAPTER}." in name)


def freeze_adapter(model: VisionLanguageModel, shape: AdapterShape) -> None:
    """Keep a copy of the adapter as it is, if it changes anything. For `as_frozen`."""
    learning = {name: weight for name, weight in model.named_parameters() if f".{ADAPTER}." in name}
    if not any(bool(weight.any()) for name, weight in learning.items() if ".lora_B." in name):
        return
    insert_beside(model, shape, FROZEN)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in learning.items():
            weights[name.replace(f".{ADAPTER}.", f".{FROZEN}.")].copy_(weight)


def insert_beside(model: VisionLanguageModel, shape: AdapterShape, adapter: str) -> None:
    """Add an adapter that does not learn, beside the one that does."""
    dtype = next(weight.dtype for name, weight in model.named_parameters() if f".{ADAPTER}." in name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # another adapter is meant
        insert_adapter(model, shape, adapter, dtype=dtype)
    for layer in _list_layers(model):
        layer.set_adapter([ADAPTER])
    train_adapter_alone(model)


@contextmanager
def as_frozen(model: nn.Module, adapter: str = FROZEN) -> Generator[None, None, None]:
    """Within the block the model has an adapter that does not learn: by default that of the phase's start.

    Without such an adapter it is the base alone.
    """
    layers = _list_layers(model)
    for layer in layers:
        if adapter in layer.lora_A:
            layer.set_adapter([adapter], inference_mode=True)
        else:
            layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.set_adapter([ADAPTER])
            layer.enable_adapters(True)


def adapter_changes(
    model: nn.Module, whole: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what each adapter adds, in float32, with the standard name of the weight that it adds to.

    Args:
        whole: gathers a tensor that is split over processes.
    """
    from peft.tuners.lora import Linear

    for name, module in model.named_modules():
        if isinstance(module, Linear):
            parts = (module.lora_A, module.lora_B)
            down, up = (whole(part[ADAPTER].weight.detach()).float() for part in parts)  # pyright: ignore[reportCallIssue]
            yield f"{name}.weight", up @ down * module.scaling[ADAPTER]


class AdaptedEngine(FrozenEngine):
    """Replies as the model was when its adapter was frozen. Not to be used while the policy replies."""

    __slots__ = ()
    adapter: ClassVar[str] = FROZEN

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        decoding: Decoding,
        abandoned: Callable[[], bool] = lambda: False,
        first_ids: Sequence[int] = (),
        num_at_once: int | None = None,
        stops: Callable[[Sequence[int]], bool] | None = None,
    ) -> list[GeneratedTokens]:
        with as_frozen(self.model, self.adapter):
            return FrozenEngine.generate(self, prompts, decoding, abandoned, first_ids, num_at_once, stops)


class RestingEngine(AdaptedEngine):
    """Replies as the role that rests, with that role's own adapter. Not to be used while the policy replies."""

    __slots__ = ()
    adapter: ClassVar[str] = RESTING


def _list_layers(model: nn.Module) -> list[LoraLayer]:
    from peft.tuners.lora import Linear

    return [module for module in model.modules() if isinstance(module, Linear)]
