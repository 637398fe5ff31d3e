"""The tables of a recipe: every setting once, with the value of the paper's Table 6 where the paper gives one.

Settings that Table 6 leaves open follow the authors' release, or the defaults of the framework that it uses (verl):
clip range, standard deviation, betas, weight decay, gradient clipping. Settings that neither has say so.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import (
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from p2r.config.presets import DEFAULT_SOURCE, Estimator
from p2r.config.reward import RewardSettings
from p2r.config.sft import SftSettings
from p2r.types import Frame, Frozen

ActiveRole = Literal["perceiver", "reasoner"]
PhaseRole = Literal["perceiver", "reasoner", "answerer"]
Method = Literal["grpo", "sft"]
Fraction = float
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""The seed of a training: numpy takes no larger one."""


class PerRole(Frozen):
    """A number of tokens for each role."""

    perceiver: PositiveInt
    reasoner: PositiveInt

    def of(self, role: ActiveRole) -> int:
        return self.perceiver if role == "perceiver" else self.reasoner


class LoraSettings(Frozen):
    """Train adapters instead of the weights. Not in the paper.

    targets: names of the language model's linear layers that get adapters; all of them by default.
    per_role: each role has an adapter of its own on the same base, and a phase trains that of its role alone.
    """

    rank: PositiveInt = 32
    alpha: PositiveInt = 64
    targets: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), min_length=1
    )
    per_role: bool = False


class ModelSettings(Frozen):
    """The model that is trained.

    source: nano, nano-base, a checkpoint folder or a hub id.
    device, dtype: None takes a GPU when there is one, and float32 on a CPU, bfloat16 on a GPU.
    frame: the frame in which the model writes boxes; None for its family's.
    max_pixels: most pixels of an image. None for 2048 visual tokens as in the paper (appendix C.2), or for the
        checkpoint's own limit where that is lower.
    """

    source: str = "nano"
    device: str | None = None
    dtype: Literal["float32", "bfloat16"] | None = None
    gradient_checkpointing: bool = True
    freeze_vision: bool = False
    lora: LoraSettings | None = None
    frame: Frame | None = None
    max_pixels: PositiveInt | None = None

    @property
    def has_adapters_per_role(self) -> bool:
        """Tell whether the two roles share the base model's weights alone."""
        return self.lora is not None and self.lora.per_role


class DifficultySettings(Frozen):
    """Pre-rollouts that find rows that teach nothing. Off unless the recipe has this section; not in the paper.

    num_rollouts: rollouts per row.
    rule: "drop" leaves out rows that are always right or always wrong; "weight" draws rows by the variance of their
        reward, which leaves those out too.
    keep: train only on rows that are "easy" (right in all rollouts) or "medium" (right in some), as in PeBR-R1. It
        takes the place of `rule`, and goes by right answers, whatever the phase rewards. Phases of a run that ask the
        same share what the first of them has measured; see `p2r.config.pre_rollouts`.
    """

    num_rollouts: int = Field(default=4, ge=2)
    rule: Literal["drop", "weight"] = "drop"
    keep: Literal["easy", "medium"] | None = None

    @model_validator(mode="after")
    def _has_one_rule(self) -> DifficultySettings:
        if self.keep is not None and self.rule == "weight":
            raise ValueError(
                'rule = "weight" draws rows by their rewards, and keep chooses them by right answers: '
                "leave out one of them"
            )
        return self


def is_needles(source: str) -> bool:
    """Tell whether rows or questions of this name are needles, with whatever settings."""
    return source.partition(":")[0] == "needles"


class DataSettings(Frozen):
    """Questions and right answers. Boxes are not needed, and not used unless a reward term compares with them.

    source: "needles" (generated, from seeds that are reserved for training), also with settings, such as
        "needles:noise=8,families=text+absent"; a P2R-10k folder or file, your own JSON lines, or any benchmark's spec.
    made_by: the command that makes the rows, or fetches them; told where there are none.
    seed: for needles, and for the order of rows.
    num_rows: use only the first ones; None for all. Needles need it.
    max_prompt_tokens: rows whose final prompt may be longer are left out.
    skip_bad: the most unusable rows that are left out and listed.
    check_images: decode every image before the first step, or only read its header.
    """

    source: str = DEFAULT_SOURCE
    made_by: str | None = None
    split: str | None = None
    images: Path | None = None
    seed: int = Field(default=0, ge=0)
    num_rows: PositiveInt | None = None
    max_prompt_tokens: PerRole = PerRole(perceiver=2560, reasoner=8704)
    skip_bad: int = Field(default=0, ge=0)
    check_images: Literal["decode", "header"] = "decode"
    difficulty: DifficultySettings | None = None

    @property
    def is_generated(self) -> bool:
        """Tell whether the rows are needles, which are made on the spot and never run out."""
        return is_needles(self.source)


class RolloutSettings(Frozen):
    """Settings that say how the active role's replies are sampled.

    prompts: a prompt set's name or folder.
    prompts_at_once: prompts whose groups grow at the same time: the next one starts when a group has ended. Also the
        rows that are judged together. Results do not depend on it.
    dynamic_sampling: draw rows until the answers of `prompts_per_step` groups are neither all right nor all wrong
        (DAPO), for at most `max_rounds` rounds.
    engine: "local" samples with the weights that learn; "vllm" with vLLM's engine in this process, which reads them
        before each step. The recipe's `engine` has its arguments: gpu_memory_utilization is the share of a GPU that it
        takes (0.4 by default), and gives back while an update is made.
    url: a server of vLLM that samples instead, such as http://localhost:8001, on GPUs of its own.
    launch: a command that serves it, such as "env CUDA_VISIBLE_DEVICES=1 vllm serve {checkpoint} --port {port}". The
        trainer adds the arguments that sampling takes and those of `engine`, starts it for each phase, again when it
        dies, and ends it.
    """

    group_size: int = Field(default=8, ge=2)
    prompts_per_step: PositiveInt = 64
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: PerRole = PerRole(perceiver=1024, reasoner=2048)
    prompts: str = "release"
    prompts_at_once: PositiveInt = 8
    dynamic_sampling: bool = False
    max_rounds: PositiveInt = 3
    engine: Literal["local", "vllm"] = "local"
    url: str | None = None
    launch: str | None = None
    launch_timeout_s: float = Field(default=900.0, gt=0)

    @model_validator(mode="after")
    def _says_where_the_server_is(self) -> RolloutSettings:
        if self.engine != "vllm" and (self.url or self.launch):
            raise ValueError('url and launch belong to engine = "vllm"')
        if self.launch is not None and not self.url:
            raise ValueError("launch needs url, such as http://localhost:8001")
        return self


class AdvantageSettings(Frozen):
    """(reward - mean) / (std + eps).

    std: "sample" divides by n - 1, as in the release; "none" leaves the division out (Dr.GRPO).
    """

    std: Literal["sample", "population", "none"] = "sample"
    eps: float = Field(default=1e-6, gt=0)


class LossSettings(Frozen):
    """The objective.

    estimator: a preset; it fills in settings that the recipe leaves open: see `presets`.
    objective: "clipped" stops a token's gradient once its ratio is out of range (PPO, GRPO); "cispo" weights each
        token's log-prob by its clipped ratio instead, and stops none.
    clip_low, clip_high: the ratio stays within 1 - clip_low and 1 + clip_high.
    dual_clip: with "clipped", the most that a ratio counts where the advantage is negative; 0 for no limit.
    clamp: keep the logarithms of single ratios within 20 and the divergence of a token within 10, as verl does.
    kl_coef: weight of the k3 divergence from the phase's start.
    resting_kl_coef: weight of the divergence of the resting role, which these weights play as well and this phase does
        not train, from the phase's start: on one reply of it for each row of a step. Not in the paper.
    reduction: "token-mean" over the batch as in the release; "sequence-mean" over each rollout's tokens, then over
        rollouts, as in the paper's equation 5 (verl's "seq-mean-token-mean"); "dr-grpo" divides by a constant length.
    ratio: one per token, or one for the whole sequence (GSPO).
    importance_cap: weight each token by its probability in training over that in sampling, this at most (truncated
        importance sampling; 2 is usual); 0 for no weights.
    mask_truncated: leave replies that the token limit cut off out of the loss. They stay in their group's mean and
        standard deviation, and among the replies that "sequence-mean" and "dr-grpo" divide by, as in TRL.
    """

    estimator: Estimator = "grpo"
    objective: Literal["clipped", "cispo"] = "clipped"
    clip_low: float = Field(default=0.2, gt=0)
    clip_high: float = Field(default=0.2, gt=0)
    dual_clip: float = 3.0
    clamp: bool = True
    kl_coef: float = Field(default=0.01, ge=0)
    resting_kl_coef: float = Field(default=0.0, ge=0)
    reduction: Literal["token-mean", "sequence-mean", "dr-grpo"] = "token-mean"
    ratio: Literal["token", "sequence"] = "token"
    importance_cap: float = Field(default=0.0, ge=0)
    mask_truncated: bool = False

    @property
    def needs_reference(self) -> bool:
        """Tell whether a term compares with the policy of the phase's start."""
        return self.kl_coef > 0 or self.resting_kl_coef > 0

    @field_validator("dual_clip")
    @classmethod
    def _bounds_from_above(cls, value: float) -> float:
        if value != 0 and value <= 1:
            raise ValueError("it must be above 1, or 0 for no limit")
        return value


class OptimizerSettings(Frozen):
    """The update.

    kind: "adamw8bit" keeps 8-bit moments, "offload" keeps them in host memory.
    mini_batch_prompts: prompts whose replies an update learns from; None for all of a step.
    updates_per_batch: passes over the mini-batches; later updates are clipped against the log-probs before the first.
    warmup_steps, warmup_share: steps in which the rate rises to its peak, as a number or as a share of the phase's
        steps, rounded up; the larger of the two counts.
    micro_batch_groups: groups that are packed into one forward pass; results do not depend on it.
    reshard: with several processes, split the weights again after each layer of each pass of an update. That saves
        memory, and gathers them up to twice for each micro-batch. When off, they are gathered once for an update, and
        each process holds them whole meanwhile, as it does for rollouts.
    reduce_once: with several processes, add up their gradients once for an update, and not for each micro-batch. Each
        process then holds the whole gradients, 4 bytes for each weight that learns.
    """

    kind: Literal["adamw", "adamw8bit", "offload"] = "adamw"
    lr: float = Field(default=1e-6, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    warmup_share: Fraction = Field(default=0.0, ge=0, le=1)
    scheduler: Literal["constant", "linear", "cosine"] = "constant"
    grad_clip: float = Field(default=1.0, gt=0)
    mini_batch_prompts: PositiveInt | None = None
    updates_per_batch: PositiveInt = 1
    micro_batch_groups: PositiveInt = 1
    reshard: bool = False
    reduce_once: bool = False

    def count_warmup_steps(self, num_steps: int) -> int:
        """The steps of a phase of so many in which the rate rises."""
        return max(self.warmup_steps, math.ceil(self.warmup_share * num_steps))


PHASE_TABLES = ("freeze_vision", "source", "data", "rollout", "reward", "advantage", "loss", "optimizer", "sft")
"""The settings and tables that a phase may have for itself besides its role, method, steps, passes and lr."""


class PhaseSettings(Frozen):
    """A phase of the schedule. Its own tables go over the recipe's, setting by setting, for this phase alone.

    role: "answerer" answers from the whole image in one reply, without a perceiver.
    method: "grpo" learns from the rewards of sampled replies, "sft" from the replies in the rows.
    steps: None for `passes` passes over the rows; one, as in the paper, when both are None.
    lr: None for the optimizer's.
    freeze_vision: None for the model's.
    source: the checkpoint that the phase starts from; None for that of the phase before, or model.source.
    data: with another source than the recipe's, the recipe's split, images and num_rows are not taken over.
    """

    role: PhaseRole
    method: Method = "grpo"
    steps: PositiveInt | None = None
    passes: PositiveInt | None = None
    lr: float | None = Field(default=None, gt=0)
    freeze_vision: bool | None = None
    source: str | None = None
    data: DataSettings | None = None
    rollout: RolloutSettings | None = None
    reward: RewardSettings | None = None
    advantage: AdvantageSettings | None = None
    loss: LossSettings | None = None
    optimizer: OptimizerSettings | None = None
    sft: SftSettings | None = None

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        dumped = cast("dict[str, object]", dump(self))
        defaults = {"method": "grpo", "passes": None} | dict.fromkeys(PHASE_TABLES)
        return {name: value for name, value in dumped.items() if name not in defaults or value != defaults[name]}


class PhaseDefaults(Frozen):
    """Steps and learning rate of phases that do not say theirs."""

    steps: PositiveInt | None = None
    lr: float | None = Field(default=None, gt=0)


class PartnerSettings(Frozen):
    """The frozen role.

    kind: "local" is a copy of the weights in this process, "vllm" vLLM's engine in this process, which loads them for
        the phase; the recipe's `engine` has its arguments. "endpoint" is a server.
    url: an endpoint that serves it.
    launch: a command that serves it. The trainer starts it for each phase, waits until it is healthy, and ends it.
        "{checkpoint}" in it stands for the folder of the frozen weights, "{port}" for the port in `url`.
    transport: how images are sent, always without loss. "auto" is BMP to a nearby server, WebP to a distant one;
        "file", the cheapest, names files to a server on this machine that may read them (vLLM:
        --allowed-local-media-path).
    image_check: what an endpoint says about images that it has altered is a failure, unless this is "never". It is
        asked once for each text without images, whose tokens tell.
    max_error_rate: the run stops when a larger share of the latest rollouts could not be judged.
    memo: answer repeated questions from memory.
    """

    kind: Literal["local", "vllm", "endpoint"] = "local"
    url: str | None = None
    launch: str | None = None
    launch_timeout_s: float = Field(default=900.0, gt=0)
    transport: Literal["auto", "bmp", "webp", "png", "file"] = "auto"
    concurrency: PositiveInt = 32
    timeout_s: float = Field(default=300.0, gt=0)
    image_check: Literal["always", "never"] = "always"
    max_new_tokens: PositiveInt = 2048
    max_error_rate: Fraction = Field(default=0.1, ge=0, le=1)
    memo: bool = True

    @model_validator(mode="after")
    def _says_where_the_endpoint_is(self) -> PartnerSettings:
        if self.kind == "endpoint" and not self.url:
            raise ValueError("an endpoint needs url, such as http://localhost:8000/v1#model")
        if self.kind != "endpoint" and (self.url or self.launch):
            raise ValueError('url and launch belong to kind = "endpoint"')
        return self

    @property
    def has_own_weights(self) -> bool:
        """Tell whether it is the frozen checkpoint that answers, as far as the settings tell."""
        return self.kind != "endpoint" or "{checkpoint}" in (self.launch or "")


class CheckpointSettings(Frozen):
    """Settings of the checkpoints that a run is resumed from.

    every: steps between two checkpoints.
    keep_last: the number of checkpoints that are kept.
    """

    every: PositiveInt = 20
    keep_last: PositiveInt = 2


class ProbeSettings(Frozen):
    """Questions that are not trained on, asked every `every` steps.

    source: as for the data; None for no probe.
    num: at most this many. An accuracy of 300 questions is known to about 5 points either way, one of 100 to 9.
    """

    source: str | None = None
    every: PositiveInt = 20
    num: PositiveInt = 300
    seed: int = Field(default=0, ge=0)


class GuardSettings(Frozen):
    """Signs of a collapse, looked for over the last `patience` steps.

    action: "stop" saves a checkpoint and stops; resuming stops again while the sign is there, unless these settings
        are changed.
    entropy_floor, kl_ceiling: per token, in nats.
    box_count: warn when nearly every reply has one box where it began with more.
    reward_without_hit: warn when the reward rises while the probe's hit rate falls.
    dead_groups: warn when the rewards of every group are alike, so that nothing is learned.
    zero_rewards: warn when no rollout earns a reward.
    """

    action: Literal["warn", "stop"] = "warn"
    patience: PositiveInt = 20
    entropy_floor: float = Field(default=0.005, ge=0)
    kl_ceiling: float = Field(default=1.0, gt=0)
    box_count: bool = True
    reward_without_hit: bool = True
    dead_groups: bool = True
    zero_rewards: bool = True


class TrackerSettings(Frozen):
    """Trackers that get the metrics besides the JSON lines, which are always written."""

    tensorboard: bool = False
    trackio: bool = False
    wandb: bool = False
    project: str = "p2r"
