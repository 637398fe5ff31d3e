"""A policy as a standard checkpoint, with the layout and the dtype of the one that it was loaded from.

Weights that are split over processes are gathered one at a time, and kept by the process that writes alone.
"""

# transformers is typed in part:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from p2r.files import replace_folder
from p2r.models.checkpoint import ADAPTER_FOLDER, read_json
from p2r.models.local.encoding import quiet_transformers
from p2r.models.local.lora import ADAPTER, is_adapter, name_in_peft, write_adapter
from p2r.training.engines.local.adapters import adapter_changes
from p2r.training.engines.local.policy import Policy

PATCH_EMBEDDING = "model.visual.patch_embed.proj.weight"
ABOUT_THE_SOURCE = frozenset({"README.md", "MODEL_CARD.md"})
"""Files of a checkpoint that do not hold for a model trained from it."""


@dataclass(frozen=True, slots=True)
class WholeWeights:
    """All weights of a policy, on the CPU.

    merged: by their standard names, with what the adapter changes added in float32.
    adapter: those of the adapter, by the names that peft has for them; {} without one.
    lost: the share of that change that rounding the sums takes; None without an adapter.
    """

    merged: dict[str, torch.Tensor]
    adapter: dict[str, torch.Tensor]
    lost: float | None


def gather_weights(
    policy: Policy, whole: Callable[[torch.Tensor], torch.Tensor], *, keeps: bool = True
) -> WholeWeights:
    """All weights, with the adapters and without.

    Args:
        whole: gathers a tensor that is split over processes.
        keeps: False for nothing, in a process that only takes part: the weights of a large model fit into a host's
            memory once, but not once for each process.
    """
    merged: dict[str, torch.Tensor] = {}
    adapter: dict[str, torch.Tensor] = {}
    for name, tensor in policy.model.state_dict().items():
        if is_adapter(name) and f".{ADAPTER}." not in name:
            continue
        value = whole(tensor.detach())
        if keeps and is_adapter(name):
            adapter[name_in_peft(name)] = value
        elif keeps:
            merged[name.replace(".base_layer.", ".")] = value.to(policy.dtype)
    if policy.base is None:
        return WholeWeights(merged, {}, None)
    squared_error = squared_change = 0.0
    for name, change in adapter_changes(policy.model, whole):
        if not keeps:
            continue
        before = merged[name].float()
        merged[name] = (before + change).to(policy.dtype)
        squared_error += float((merged[name].double() - before.double() - change.double()).square().sum())
        squared_change += float(change.double().square().sum())
    return WholeWeights(merged, adapter, math.sqrt(squared_error / squared_change) if squared_change else 0.0)


def save_policy(policy: Policy, weights: WholeWeights, folder: Path) -> None:
    """Write a standard checkpoint, with the layout and all other files of the one that the policy was loaded from.

    With adapters, these are in a folder of their own in it; see `p2r.models.local.lora`.

    Args:
        weights: of `gather_weights`.

    Raises:
        StorageError: it cannot be written.
    """
    patches = policy.checkpoint.patches
    kernel = (3, patches.temporal_patch_size, patches.patch_size, patches.patch_size)
    stored = {name: tensor.to(policy.dtype).contiguous() for name, tensor in weights.merged.items()}
    stored[PATCH_EMBEDDING] = stored[PATCH_EMBEDDING].view(-1, *kernel)
    if policy.model.config.tie_word_embeddings:
        stored.pop("lm_head.weight", None)
    with replace_folder(folder) as draft:
        with quiet_transformers():
            policy.model.save_pretrained(draft, state_dict=stored)
        for path in draft.glob("*.safetensors"):
            path.chmod(0o644)
        for path in policy.checkpoint.folder.iterdir():
            is_weight = path.suffix in (".safetensors", ".bin", ".pt") or path.name == "model.safetensors.index.json"
            if path.is_file() and not is_weight and path.name not in ABOUT_THE_SOURCE:
                shutil.copyfile(path, draft / path.name)
        _write_dtype(draft / "config.json", policy.dtype)
        if policy.base is not None:
            rounded = {name: tensor.to(policy.dtype) for name, tensor in weights.adapter.items()}
            about = (policy.base.shape, policy.base.checkpoint, policy.base.name, weights.lost or 0.0)
            write_adapter(draft / ADAPTER_FOLDER, rounded, *about)


def _write_dtype(path: Path, dtype: torch.dtype) -> None:
    """Write the weights' dtype wherever a config names one, because other programs load them by it."""
    config = read_json(path)
    name = str(dtype).removeprefix("torch.")
    keys = {"dtype", "torch_dtype"}
    told: dict[str, object] = {"dtype": name}
    for key, value in config.items():
        part = cast("dict[str, object]", value) if isinstance(value, dict) else None
        told[key] = name if key in keys else value if part is None else {**part, **dict.fromkeys(keys & {*part}, name)}
    path.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
