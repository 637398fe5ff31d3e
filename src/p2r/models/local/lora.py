"""Low-rank adapters (LoRA) on a checkpoint: a few weights beside those of the base model, which stay as they are.

A checkpoint that adapters were trained for holds the model twice. Its own weights are merged: those of the base plus
what the adapter changes, rounded to the checkpoint's dtype, for whatever cannot load adapters. The folder `adapter/`
in it holds the adapter itself in peft's layout, and names the base: together they are the very model that was trained.
So that is what is loaded here, wherever peft and the base are available, and a warning says where they are not.

The adapter is not beside the merged weights, because transformers would then pass over those, and vLLM read both.
"""

# peft is typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from p2r.errors import ConfigError, ModelError
from p2r.models.checkpoint import Checkpoint, fetch_checkpoint, fingerprint_weights, read_json

LANGUAGE_MODEL = r"model\.language_model\..*"
ADAPTER = "default"
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """The layers that an adapter changes, by the ends of their names, and its size."""

    rank: int
    alpha: int
    targets: tuple[str, ...]

    @property
    def pattern(self) -> str:
        """A regular expression that the names of the layers match."""
        return rf"{LANGUAGE_MODEL}({'|'.join(self.targets)})"


def insert_adapter(
    model: nn.Module, shape: AdapterShape, name: str = ADAPTER, *, dtype: torch.dtype | None = None
) -> None:
    """Add an adapter that changes nothing yet to linear layers of the language model.

    Args:
        dtype: the adapter's; by default that of the layers.

    Raises:
        ConfigError: peft is not installed, or no layer has one of the names.
    """
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("LoRA needs peft, which is not installed", hint="pip install peft, or leave out [model.lora]")
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=shape.rank, lora_alpha=shape.alpha, target_modules=shape.pattern, bias="none")
    try:
        with _in_dtype(model, dtype) if dtype else nullcontext():
            inject_adapter_in_model(config, model, name)
    except ValueError as error:
        raise ConfigError(
            f"no layer of the language model is called {' or '.join(shape.targets)}",
            hint="model.lora.targets are names such as q_proj, v_proj or gate_proj",
        ) from error


@contextmanager
def _in_dtype(model: nn.Module, dtype: torch.dtype) -> Generator[None, None, None]:
    """Within the block the weights have another dtype, but no values, which would take memory."""
    weights = {weight: weight.data for weight in model.parameters()}
    for weight in weights:
        weight.data = torch.empty((), dtype=dtype, device=weight.device).expand(weight.shape)
    try:
        yield
    finally:
        for weight, data in weights.items():
            weight.data = data


def is_adapter(name: str) -> bool:
    """Tell whether a weight with this name belongs to an adapter."""
    return ".lora_" in name


def name_in_peft(name: str, adapter: str = ADAPTER) -> str:
    """The name that peft's files have for a weight of an adapter."""
    return PEFT_PREFIX + name.replace(f".{adapter}.", ".")


def write_adapter(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    shape: AdapterShape,
    base: Checkpoint,
    base_name: str,
    lost: float,
) -> None:
    """Write an adapter as peft does.

    Args:
        weights: by the names that peft has for them.
        base: the checkpoint that it belongs to. base_name: the hub id or the folder by which it is found again.
        lost: the share of the adapter's change that rounding the merged weights took.
    """
    from peft import LoraConfig

    folder.mkdir()
    about = {"format": "pt", "base_weights": fingerprint_weights(base.folder), "lost_by_merging": f"{lost:.6g}"}
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / WEIGHTS_FILE, about)
    (folder / WEIGHTS_FILE).chmod(0o644)
    LoraConfig(
        base_model_name_or_path=base_name,
        r=shape.rank,
        lora_alpha=shape.alpha,
        target_modules=shape.pattern,
        bias="none",
        inference_mode=True,
    ).save_pretrained(str(folder))


def read_adapter(model: nn.Module, folder: Path, adapter: str = ADAPTER) -> None:
    """Fill an adapter that was inserted into a model with the weights in a folder.

    Raises:
        ModelError: they cannot be read, or belong to another model.
    """
    weights = model.named_parameters()
    own = {name_in_peft(name, adapter): weight for name, weight in weights if f".{adapter}." in name}
    try:
        with safe_open(folder / WEIGHTS_FILE, "pt") as file:
            if own.keys() != set(file.keys()):
                raise ModelError(f"{folder} is an adapter of another model")
            with torch.no_grad():
                for name, weight in own.items():
                    weight.copy_(file.get_tensor(name))
    except ModelError:
        raise
    except Exception as error:  # safetensors raises errors of its own
        raise ModelError(f"{folder / WEIGHTS_FILE} cannot be read: {error}") from error


def read_shape(folder: Path) -> AdapterShape:
    """The shape of the adapter in a folder.

    Raises:
        ModelError: it was not written by `write_adapter`.
    """
    config = read_json(folder / CONFIG_FILE)
    pattern, start = config.get("target_modules"), f"{LANGUAGE_MODEL}("
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(pattern, str) or not pattern.startswith(start) or not isinstance(rank, int):
        raise ModelError(f"{folder} is an adapter of another kind than p2r writes")
    return AdapterShape(rank, cast(int, alpha), tuple(pattern.removeprefix(start).removesuffix(")").split("|")))


def read_base_name(folder: Path) -> str:
    """The hub id or the folder of the model that the adapter in a folder belongs to."""
    return str(read_json(folder / CONFIG_FILE).get("base_model_name_or_path"))


def find_base(adapter: Path) -> Checkpoint:
    """Open the checkpoint that an adapter belongs to.

    Raises:
        ModelError: it is not there, or holds other weights than it did; or peft is not installed.
    """
    name = read_base_name(adapter)
    if importlib.util.find_spec("peft") is None:
        raise ModelError(f"the adapter in {adapter} needs peft, which is not installed", hint="pip install peft")
    if name.startswith("/") and not Path(name).is_dir():
        raise ModelError(f"the adapter in {adapter} belongs to {name}, which is not there", hint="put it back")
    base = fetch_checkpoint(name)
    if fingerprint_weights(base.folder) != read_about(adapter).get("base_weights"):
        raise ModelError(
            f"the adapter in {adapter} belongs to {name}, whose weights have changed since", hint="put them back"
        )
    return base


def read_about(adapter: Path) -> dict[str, str]:
    """Read what `write_adapter` noted about an adapter.

    Raises:
        ModelError: its file cannot be read.
    """
    try:
        with safe_open(adapter / WEIGHTS_FILE, "pt") as file:
            return dict(file.metadata() or {})
    except Exception as error:  # safetensors raises errors of its own
        raise ModelError(f"{adapter / WEIGHTS_FILE} cannot be read: {error}") from error


def find_base_or_warn(checkpoint: Checkpoint) -> Checkpoint | None:
    """Open the base of a checkpoint's adapter; None where there is no adapter, or, with a warning, no base."""
    if checkpoint.adapter is None:
        return None
    try:
        return find_base(checkpoint.adapter)
    except ModelError as error:
        logger.warning("%s; its merged weights are used, which are rounded: see docs/guides/train.md", error.message)
        return None


def describe_loss(lost: float, dtype: torch.dtype) -> str:
    """Say what it costs to merge an adapter. lost: the error, as a share of what the adapter changes."""
    name = str(dtype).removeprefix("torch.")
    return f"rounding the merged weights to {name} lost {lost:.2%} of what the adapter changes"
