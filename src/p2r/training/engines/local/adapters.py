"""Low-rank adapters (LoRA): a few weights that learn, while the policy's own stay as they are.

Not in the paper. Without its adapters the policy is the phase's frozen checkpoint, so neither the reference nor the
other role needs a copy. The adapters are made by peft, in the model's own layers.
"""

# peft is typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

import torch
from torch import nn

from p2r.config import LoraSettings
from p2r.dialogue import Decoding
from p2r.errors import ConfigError
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Engine, GeneratedTokens, VisionLanguageModel

LANGUAGE_MODEL = r"model\.language_model\..*"
ADAPTER = "default"


def add_adapters(model: VisionLanguageModel, lora: LoraSettings) -> None:
    """Add adapters to the linear layers of the language model, and freeze everything else.

    Raises:
        ConfigError: peft is not installed, or no layer has one of the names.
    """
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("LoRA needs peft, which is not installed", hint="pip install peft, or leave out [model.lora]")
    from peft import LoraConfig, inject_adapter_in_model

    model.requires_grad_(False)
    targets = rf"{LANGUAGE_MODEL}({'|'.join(lora.targets)})"
    config = LoraConfig(r=lora.rank, lora_alpha=int(lora.alpha), target_modules=targets, bias="none")
    try:
        inject_adapter_in_model(config, model, ADAPTER)
    except ValueError as error:
        raise ConfigError(
            f"no layer of the language model is called {' or '.join(lora.targets)}",
            hint="model.lora.targets are names such as q_proj, v_proj or gate_proj",
        ) from error
    for name, weight in model.named_parameters():
        weight.requires_grad_(is_adapter(name))


@contextmanager
def adapters_off(model: nn.Module) -> Generator[None, None, None]:
    """Switch the adapters off within the block."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def is_adapter(name: str) -> bool:
    """Tell whether a weight with this name belongs to an adapter."""
    return ".lora_" in name


def adapter_changes(
    model: nn.Module, whole: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what each adapter adds, in float32, with the standard name of the weight that it adds to.

    Args:
        whole: gathers a tensor that is split over processes.
    """
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            parts = (module.lora_A, module.lora_B)
            down, up = (whole(part[ADAPTER].weight.detach()).float() for part in parts)  # pyright: ignore[reportCallIssue]
            yield f"{name}.weight", up @ down * module.scaling[ADAPTER]


def without_adapters(engine: Engine) -> Engine:
    """The same engine, which replies without the adapters. Not to be used while the policy replies."""
    return _AdaptersOffEngine(*(getattr(engine, field.name) for field in fields(Engine)))


class _AdaptersOffEngine(Engine):
    __slots__ = ()

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        decoding: Decoding,
        abandoned: Callable[[], bool] = lambda: False,
        first_ids: Sequence[int] = (),
    ) -> list[GeneratedTokens]:
        with adapters_off(self.model):
            return Engine.generate(self, prompts, decoding, abandoned, first_ids)
