"""Seconds of a step on one GPU, computed from its vendor's numbers and from rates that one H200 has shown.

As if every prompt and every reply were as long as it may be. The products with weights (`plan.flops`) run at a share of
the GPU's peak. Besides, each token of the replies that grow together reads the weights and their keys and values once,
at 80% of the memory's bandwidth; see docs/performance.md. In our own engine each layer makes many small operations for
every token, which take longer than to read the weights of a 4B model. vLLM fuses them, but it reads the prompt for each
reply, and has to be handed the new weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from p2r.config import OTHER_ROLE, Phase, Recipe, RolloutSettings
from p2r.errors import mask_secrets
from p2r.models.checkpoint import Checkpoint
from p2r.training.plan.counts import count_phase
from p2r.training.plan.flops import estimate_flops

PEAK_SHARE = 0.3
"""The share that `benchmarks.speed_training` has reached on an H200 with 4B."""
BANDWIDTH_SHARE = 0.8
"""Assumed."""
OPERATION_S = 8e-6
"""Seconds of a small operation on a GPU; on an H200 a step of 4B with adapters took 28 ms at most, 9.7e-6 each."""
LAYER_OPERATIONS = 80
"""Operations of a layer for a token of all replies in `engines.local`, views not counted, by torch.profiler."""
HANDOVER_BYTES_PER_S = 1e9
"""Speed at which weights come to vLLM, through the host and a file in its memory: assumed."""
Sampler: TypeAlias = Literal["local", "vllm"]
SAMPLERS: tuple[Sampler, ...] = ("local", "vllm")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU by its vendor's figures, in dense bfloat16."""

    flops_per_s: float
    bytes_per_s: float


GPUS: Mapping[str, Gpu] = {"H100": Gpu(989e12, 3.35e12), "H200": Gpu(989e12, 4.8e12)}


@dataclass(frozen=True, slots=True)
class ReplyBatch:
    """Replies that are sampled in a step.

    num_at_once: those that grow together. num_sharing: those to one prompt.
    """

    engine: Sampler
    num: int
    num_at_once: int
    num_sharing: int
    prompt_tokens: int
    reply_tokens: int


def describe_sampler(rollout: RolloutSettings) -> str:
    """Say where vLLM samples."""
    if rollout.url is None:
        return "vLLM samples beside the policy, in one process"
    by = "a server that is there" if rollout.launch is None else "a server that the trainer launches"
    return f"vLLM samples behind {mask_secrets(rollout.url)}, {by}; it is given the weights before each step"


def describe_computed(recipe: Recipe, checkpoint: Checkpoint, num_weights: int) -> Iterator[str]:
    """Say what a step of each kind of phase would take on GPUs by arithmetic, whoever samples."""
    for phase in {phase.kind: phase for phase in reversed(recipe.rewarded_phases)}.values():
        by_engine = [
            f'with rollout.engine = "{engine}" '
            + " and ".join(
                f"{compute_seconds(gpu, recipe, phase, checkpoint, num_weights, engine):.3g} on an {name}"
                for name, gpu in GPUS.items()
            )
            for engine in SAMPLERS
        ]
        yield f"computed, not measured: seconds per {phase.kind} step at most, {'; '.join(by_engine)}"


def compute_seconds(
    gpu: Gpu, recipe: Recipe, phase: Phase, checkpoint: Checkpoint, num_weights: int, engine: Sampler
) -> float:
    """Compute the seconds of a step of a phase that samples, without images and judging models.

    Args:
        num_weights: of the model.
        engine: samples the policy's replies.
    """
    counts = count_phase(recipe, phase.model_copy(update={"steps": 1}), 0)
    seconds = estimate_flops(recipe, phase, counts, num_weights) / (PEAK_SHARE * gpu.flops_per_s)
    if engine == "vllm":
        seconds += 2.0 * num_weights / HANDOVER_BYTES_PER_S
    return seconds + sum(_sample(gpu, each, checkpoint, num_weights) for each in _list_replies(recipe, phase, engine))


def _list_replies(recipe: Recipe, phase: Phase, engine: Sampler) -> Iterator[ReplyBatch]:
    """The policy's replies to the prompts of each role, and the frozen role's where it answers on this GPU."""
    prompts, size = phase.prompts_per_step, phase.rollout.group_size
    longest = phase.data.max_prompt_tokens
    for role in phase.roles:
        limits = (longest.of(role), phase.rollout.max_new_tokens.of(role))
        yield ReplyBatch(engine, prompts * size, phase.rollout.prompts_at_once * size, size, *limits)
    partner = recipe.partner
    if phase.kind in ("perceiver", "reasoner") and partner.kind != "endpoint":
        num = prompts * size if phase.kind == "perceiver" else prompts
        limits = (longest.of(OTHER_ROLE[phase.kind]), partner.max_new_tokens)
        yield ReplyBatch(partner.kind, num, partner.concurrency, 1, *limits)


def _sample(gpu: Gpu, replies: ReplyBatch, checkpoint: Checkpoint, num_weights: int) -> float:
    """Seconds of the tokens of replies, one after the other."""
    text = cast("Mapping[str, int]", checkpoint.config.get("text_config") or checkpoint.config)
    layers, heads = text["num_hidden_layers"], text["num_attention_heads"]
    width = text.get("head_dim") or text["hidden_size"] // heads
    kv_bytes = 2 * 2 * layers * text.get("num_key_value_heads", heads) * width
    together = min(replies.num, replies.num_at_once)
    num_prompts = together / (replies.num_sharing if replies.engine == "local" else 1)
    context = num_prompts * replies.prompt_tokens + together * replies.reply_tokens / 2
    reading = (2.0 * num_weights + kv_bytes * context) / (BANDWIDTH_SHARE * gpu.bytes_per_s)
    operating = OPERATION_S * LAYER_OPERATIONS * layers if replies.engine == "local" else 0.0
    return -(-replies.num // together) * replies.reply_tokens * max(reading, operating)
