"""What a run will hold in memory, by part, from the checkpoint's headers and the recipe. Nothing is loaded.

Exact for what follows from the number of weights. Activations and caches are estimated from the sizes of layers, as if
every prompt and every reply were as long as it can get.

Sizes, in bytes a weight: the policy and its frozen copy 2 each in bfloat16, 4 in float32; a float32 master beside
bfloat16 weights 4; gradients 4; Adam's two states 8, or 2 in 8 bits. LoRA has no copy, and all but the weights only for
the adapters; with one for each role, that of the role at rest is held beside it. In one process the copy has no vision
tower of its own, if that does not learn.

Several processes split all of these. Their parts of what learns are float32, and are the masters. What a stage of a
step gathers is held beside them: whole weights in the computation's own dtype, and gradients where they are added up
once. Loading is not counted: weights go from the files to their place one at a time, or a part of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

from p2r.config import ActiveRole, LoraSettings, Phase, Recipe
from p2r.models.checkpoint import Checkpoint
from p2r.models.headers import read_headers
from p2r.training.engines.local.logprobs import MAX_LOGITS
from p2r.training.partner import is_copy_asked

LANGUAGE_LAYERS = re.compile(r"language_model\.layers\.|^model\.layers\.")
NORM_BYTES = 16
"""The norm takes each gradient and its square in float64, one tensor at a time. Fused Adam needs less."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Numbers of weights by part of the model.

    adapters: those of the recipe's LoRA, 0 without it. largest: the most weights of one tensor that may learn.
    """

    vision: int
    language: int
    embedding: int
    adapters: int
    largest: int

    @property
    def total(self) -> int:
        return self.vision + self.language + self.embedding


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """A part of the memory, in the device's or in the host's."""

    name: str
    num_bytes: int
    on_device: bool = True


def count_weights(checkpoint: Checkpoint, lora: LoraSettings | None) -> Weights:
    """Count weights by the headers of a checkpoint's files.

    Raises:
        ModelError: a file is broken.
    """
    vision = language = embedding = adapters = largest = 0
    for name, header in read_headers(checkpoint.folder).items():
        if "visual" in name:
            vision += header.num_weights
        elif "embed_tokens" in name or name == "lm_head.weight":
            embedding += header.num_weights
        else:
            language += header.num_weights
        if lora is None:
            largest = max(largest, header.num_weights)
        is_target = lora is not None and name.removesuffix(".weight").rpartition(".")[2] in lora.targets
        if lora is not None and is_target and LANGUAGE_LAYERS.search(name) and len(header.shape) == 2:
            adapters += lora.rank * sum(header.shape)
            largest = max(largest, lora.rank * max(header.shape))
    return Weights(vision, language, embedding, adapters, largest)


def estimate_memory(
    checkpoint: Checkpoint,
    recipe: Recipe,
    phase: Phase,
    role: ActiveRole,
    prompt_tokens: int,
    frozen_tokens: int,
    *,
    in_bfloat16: bool,
    num_processes: int = 1,
) -> list[MemoryPart]:
    """Estimate what a step of a role holds at most, in each process.

    Parts named "stage: part" are held in that stage of a step alone, and those named "one and other: part" in both.

    Args:
        role: the one that learns; of no account in a supervised phase.
        prompt_tokens: of the role's longest prompt; in a supervised phase, of the longest row, replies included.
        frozen_tokens: of the frozen role's longest prompt.
        in_bfloat16: whether the policy computes in bfloat16, or else in float32.
    """
    weights, size = count_weights(checkpoint, recipe.model.lora), 2 if in_bfloat16 else 4
    trained = weights.adapters or weights.total - (weights.vision if phase.freeze_vision else 0)
    kind, on_device = phase.optimizer.kind, phase.optimizer.kind != "offload"
    num_adapters = 2 if recipe.model.has_adapters_per_role else 1
    is_split, in_policy = num_processes > 1, weights.total + num_adapters * weights.adapters
    answers = phase.kind != "sft" and is_copy_asked(recipe, phase)
    frozen = None if weights.adapters else _name_frozen(phase, answers=answers)
    held = [MemoryPart("policy", size * in_policy + (4 - size) * trained * is_split)]
    if frozen is not None:
        shared = 0 if is_split or not phase.freeze_vision else weights.vision
        held.append(MemoryPart(f"frozen copy ({frozen})", size * (weights.total - shared)))
    if in_bfloat16 and (not is_split or not on_device):
        held.append(MemoryPart("float32 masters", 4 * trained, on_device))
    held.append(MemoryPart("gradients", 4 * trained, on_device))
    held.append(MemoryPart("Adam's states", (2 if kind == "adamw8bit" else 8) * trained, on_device))
    parts = [replace(part, num_bytes=part.num_bytes // num_processes) for part in held]
    if is_split:
        whole_frozen = 0 if frozen is None else size * weights.total
        parts += _gathered(phase, size * in_policy, whole_frozen, trained, answers=answers)
    text = cast("Mapping[str, int]", checkpoint.config.get("text_config") or checkpoint.config)
    rows = -(-phase.prompts_per_step // num_processes)
    if phase.kind == "sft":
        micro = num_learned = max(prompt_tokens, min(phase.sft.pack_tokens, rows * prompt_tokens))
    else:
        reply, group = phase.rollout.max_new_tokens.of(role), phase.rollout.group_size
        num_tokens = prompt_tokens + group * reply
        sizes = [(num_tokens, group * reply)]
        if phase.loss.resting_kl_coef:
            sizes.append((frozen_tokens + recipe.partner.max_new_tokens, recipe.partner.max_new_tokens))
        micro, num_learned = (phase.optimizer.micro_batch_groups * max(each) for each in zip(*sizes, strict=True))
        rows = min(phase.rollout.prompts_at_once, rows)
        parts += _cached(recipe, phase, rows, num_tokens, frozen_tokens, _cache_bytes(text, size), answers=answers)
    layers = 1 if recipe.model.gradient_checkpointing else text["num_hidden_layers"]
    kept = text["num_hidden_layers"] * text["hidden_size"] if recipe.model.gradient_checkpointing else 0
    parts.append(MemoryPart("update: activations", size * micro * (kept + layers * _layer_width(text))))
    parts.append(MemoryPart("update: logits", 3 * 4 * min(MAX_LOGITS, num_learned * text["vocab_size"])))
    parts.append(MemoryPart("optimizer: temporaries", NORM_BYTES * weights.largest // num_processes, on_device))
    return parts


def _name_frozen(phase: Phase, *, answers: bool) -> str | None:
    """The uses of the frozen copy; None when it has none."""
    if phase.kind == "sft":
        return None
    uses = [*(["KL reference"] if phase.loss.needs_reference else []), *(["the other role"] if answers else [])]
    return " and ".join(uses) or None


def _gathered(phase: Phase, policy: int, frozen: int, num_trained: int, *, answers: bool) -> Iterator[MemoryPart]:
    """The parts that each of several processes holds whole for a while.

    Args:
        policy, frozen: bytes of all of their weights.
        answers: whether the frozen copy does.
    """
    if phase.kind != "sft":
        yield MemoryPart("rollout and judging: whole weights", policy + (frozen if answers else 0))
    if not phase.optimizer.reshard:
        yield MemoryPart("update: whole weights", policy + (frozen if phase.loss.needs_reference else 0))
    if phase.optimizer.reduce_once:
        yield MemoryPart("update: whole gradients", 4 * num_trained)


def _cached(
    recipe: Recipe, phase: Phase, rows: int, num_tokens: int, frozen_tokens: int, size: int, *, answers: bool
) -> Iterator[MemoryPart]:
    """The keys and values of rollouts.

    Args:
        num_tokens: of a row with its replies.
        size: bytes of a token.
        answers: whether the frozen copy does.
    """
    yield MemoryPart("rollout: keys and values", rows * num_tokens * size)
    if answers and phase.kind in ("perceiver", "reasoner"):
        num_asked = rows * phase.rollout.group_size if phase.kind == "perceiver" else rows
        num_frozen = min(recipe.partner.concurrency, num_asked) * (frozen_tokens + recipe.partner.max_new_tokens)
        yield MemoryPart("judging: the frozen role's keys and values", num_frozen * size)


def _cache_bytes(text: Mapping[str, int], size: int) -> int:
    """Bytes of the keys and values of one token."""
    heads = text.get("num_key_value_heads", text["num_attention_heads"])
    return 2 * size * text["num_hidden_layers"] * heads * _head_dim(text)


def _layer_width(text: Mapping[str, int]) -> int:
    """Numbers that one layer keeps for the backward pass of one token."""
    heads = text["num_attention_heads"] + 2 * text.get("num_key_value_heads", text["num_attention_heads"])
    return 6 * text["hidden_size"] + 2 * heads * _head_dim(text) + 3 * text["intermediate_size"]


def _head_dim(text: Mapping[str, int]) -> int:
    return text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
