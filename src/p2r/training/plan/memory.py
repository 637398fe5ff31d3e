"""What a run will hold in memory, by part, from the checkpoint's headers and the recipe: nothing is loaded for it.

Exact for what follows from the number of weights. Activations and caches are estimated from the sizes of layers, as if
every prompt and every reply were as long as it can get. One process; several split weights, gradients and Adam's states
among them.

Sizes, in bytes a weight: the policy and its frozen copy 2 each in bfloat16, 4 in float32; a float32 master beside
bfloat16 weights 4; gradients 4; Adam's two states 8, or 2 in 8 bits. LoRA has no copy, and all but the weights only for
the adapters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import cast

from p2r.config import ActiveRole, LoraSettings, Recipe
from p2r.errors import ModelError
from p2r.models.checkpoint import Checkpoint
from p2r.training.engines.local.logprobs import MAX_LOGITS

LANGUAGE_LAYERS = re.compile(r"language_model\.layers\.|^model\.layers\.")
HEADER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Weights:
    """Numbers of weights by part of the model. adapters: of the recipe's LoRA; 0 without."""

    vision: int
    language: int
    embedding: int
    adapters: int

    @property
    def total(self) -> int:
        return self.vision + self.language + self.embedding


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """What it is, how many bytes, and whether they are in the device's memory or the host's."""

    name: str
    num_bytes: int
    on_device: bool = True


def count_weights(checkpoint: Checkpoint, lora: LoraSettings | None) -> Weights:
    """From the headers of its files. Raises ModelError for one that is broken."""
    vision = language = embedding = adapters = 0
    for name, shape in _read_shapes(checkpoint).items():
        if "visual" in name:
            vision += prod(shape)
        elif "embed_tokens" in name or name == "lm_head.weight":
            embedding += prod(shape)
        else:
            language += prod(shape)
        is_target = lora is not None and name.removesuffix(".weight").rpartition(".")[2] in lora.targets
        if lora is not None and is_target and LANGUAGE_LAYERS.search(name) and len(shape) == 2:
            adapters += lora.rank * sum(shape)
    return Weights(vision, language, embedding, adapters)


def estimate_memory(
    checkpoint: Checkpoint, recipe: Recipe, role: ActiveRole, prompt_tokens: int, *, in_bfloat16: bool
) -> list[MemoryPart]:
    """What a step of a role holds at most; the parts of the update and of the rollout are not there at once.

    Args:
        prompt_tokens: of the longest prompt.
        in_bfloat16: what the policy computes in.
    """
    weights, size = count_weights(checkpoint, recipe.model.lora), 2 if in_bfloat16 else 4
    trained = weights.adapters or weights.total - (weights.vision if recipe.model.freeze_vision else 0)
    kind, on_device = recipe.optimizer.kind, recipe.optimizer.kind != "offload"
    parts = [MemoryPart("policy", size * (weights.total + weights.adapters))]
    if not weights.adapters and recipe.partner.kind == "local":
        parts.append(MemoryPart("frozen copy (KL reference and the other role)", size * weights.total))
    elif not weights.adapters and recipe.loss.kl_coef:
        parts.append(MemoryPart("frozen copy (KL reference)", size * weights.total))
    if in_bfloat16:
        parts.append(MemoryPart("float32 masters", 4 * trained, on_device))
    parts.append(MemoryPart("gradients", 4 * trained, on_device))
    parts.append(MemoryPart("Adam's states", (2 if kind == "adamw8bit" else 8) * trained, on_device))
    text = cast("Mapping[str, int]", checkpoint.config.get("text_config") or checkpoint.config)
    reply, group = recipe.rollout.max_new_tokens.of(role), recipe.rollout.group_size
    num_tokens = prompt_tokens + group * reply
    rows = min(recipe.rollout.prompts_at_once, recipe.prompts_per_step)
    parts.append(MemoryPart("rollout: keys and values", rows * num_tokens * _cache_bytes(text, size)))
    micro = recipe.optimizer.micro_batch_groups * num_tokens
    layers = 1 if recipe.model.gradient_checkpointing else text["num_hidden_layers"]
    kept = text["num_hidden_layers"] * text["hidden_size"] if recipe.model.gradient_checkpointing else 0
    parts.append(MemoryPart("update: activations", size * micro * (kept + layers * _layer_width(text))))
    predictors = min(MAX_LOGITS, recipe.optimizer.micro_batch_groups * group * reply * text["vocab_size"])
    parts.append(MemoryPart("update: logits", 3 * 4 * predictors))
    return parts


def _cache_bytes(text: Mapping[str, int], size: int) -> int:
    """Keys and values of one token."""
    heads = text.get("num_key_value_heads", text["num_attention_heads"])
    return 2 * size * text["num_hidden_layers"] * heads * _head_dim(text)


def _layer_width(text: Mapping[str, int]) -> int:
    """Numbers that one layer keeps of a token for its backward pass."""
    heads = text["num_attention_heads"] + 2 * text.get("num_key_value_heads", text["num_attention_heads"])
    return 6 * text["hidden_size"] + 2 * heads * _head_dim(text) + 3 * text["intermediate_size"]


def _head_dim(text: Mapping[str, int]) -> int:
    return text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]


def _read_shapes(checkpoint: Checkpoint) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for path in sorted(checkpoint.folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(HEADER_BYTES), "little")
                header = cast("dict[str, dict[str, list[int]]]", json.loads(file.read(length)))
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} is no safetensors file: {error}", hint="get the checkpoint anew") from error
        shapes.update({name: entry["shape"] for name, entry in header.items() if name != "__metadata__"})
    return shapes
