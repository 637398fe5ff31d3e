"""The model that learns, and its snapshot: the frozen copy from the start of the phase.

Paper: section 3.3: at a phase's start its checkpoint is frozen. One copy serves twice, as the reference of the KL term
and as the other role; with LoRA only the adapter is copied.

A policy is loaded as `LocalModel` loads a model, so that what is trained is what is asked later. Only the two frames of
the patch embedding stay apart, because both are saved. On a GPU its weights are bfloat16 and the optimizer keeps them
in float32; split over several processes, the parts that learn are float32, and FSDP computes in bfloat16.
"""

# transformers is typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import copy
import gc
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from p2r.config import LoraSettings, ModelSettings
from p2r.dialogue import ModelProfile
from p2r.errors import ConfigError
from p2r.models.checkpoint import Checkpoint
from p2r.models.known import expand_name
from p2r.models.load import find_checkpoint, find_source
from p2r.models.local.devices import choose_device, choose_dtype
from p2r.models.local.encoding import PromptEncoder
from p2r.models.local.engine import Engine, VisionLanguageModel
from p2r.models.local.lora import (
    AdapterShape,
    find_base,
    insert_adapter,
    read_adapter,
    read_base_name,
    read_shape,
)
from p2r.models.local.model import LocalModel, load_weights
from p2r.models.local.sight import Sight
from p2r.training.engines.local import attention
from p2r.training.engines.local.adapters import (
    RESTING,
    AdaptedEngine,
    RestingEngine,
    as_frozen,
    freeze_adapter,
    insert_beside,
    train_adapter_alone,
)
from p2r.training.engines.local.distributed import World, split_model
from p2r.training.engines.local.generate import FrozenEngine
from p2r.types import Frame

PAPER_VISUAL_TOKENS = 2048
"""Most visual tokens of an image in training (paper, appendix C.2)."""


@dataclass(frozen=True, slots=True)
class AdapterBase:
    """The model whose weights stay, and the shape of the adapter that learns.

    name: the hub id, or the folder, by which it is found again.
    """

    checkpoint: Checkpoint
    name: str
    shape: AdapterShape


@dataclass(frozen=True, slots=True)
class Policy:
    """The model that learns. `engine.model` is an ordinary transformers model, in evaluation mode except in `training`.

    checkpoint: the one that it starts from.
    dtype: of its computation and of its checkpoints, so that nothing is rounded from one phase to the next.
    device: that of its computation. Until it is split over processes, its weights are those in the checkpoint's files.
    base: with adapters, the model below them.
    resting: with an adapter for each role, the checkpoint of the other role; None where this policy plays both.
    """

    checkpoint: Checkpoint
    profile: ModelProfile
    encoder: PromptEncoder
    engine: Engine
    dtype: torch.dtype
    device: torch.device
    base: AdapterBase | None = None
    resting: Checkpoint | None = None

    @property
    def frozen_checkpoint(self) -> Checkpoint:
        """The checkpoint of the role that does not learn."""
        return self.resting or self.checkpoint

    @property
    def has_adapters(self) -> bool:
        return self.base is not None

    @property
    def model(self) -> VisionLanguageModel:
        return self.engine.model

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights that the optimizer changes, by name."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    @contextmanager
    def training(self) -> Generator[None, None, None]:
        """Training mode, the only one that recomputes activations; generating needs evaluation mode."""
        self.model.train()
        try:
            yield
        finally:
            self.model.eval()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The frozen copy of the policy from the phase's start: the reference of the KL term, and the other role.

    partner: the other role; with an adapter for each role it has its own.
    shares_weights: with LoRA it is the policy itself with the adapter of the phase's start.
    """

    engine: Engine
    partner: LocalModel
    shares_weights: bool

    @contextmanager
    def reference(self) -> Generator[Engine, None, None]:
        """Its engine, for log-probabilities."""
        if not self.shares_weights:
            yield self.engine
            return
        with as_frozen(self.engine.model):
            yield self.engine


def load_policy(
    settings: ModelSettings, source: str | None = None, *, resting: str | None = None, world: World | None = None
) -> Policy:
    """Load the model that is to learn.

    Args:
        source: a checkpoint in place of the recipe's, such as that of an earlier phase.
        resting: with an adapter for each role, the checkpoint of the role that does not learn.
        world: the processes over which the weights will be split.

    Raises:
        ModelError: the checkpoint does not exist, is broken, or is too large for the device.
        ConfigError: the device or dtype is not usable here, peft is missing, or nothing is left to train.
    """
    gc.collect()  # an earlier snapshot is in a reference cycle: without this it stays in memory beside the new one
    world = world or World()
    checkpoint = find_checkpoint(source or settings.source)
    device = choose_device(settings.device)
    if world.size > 1 and device.type == "cuda":
        device = torch.device("cuda", world.local_rank)
    dtype = choose_dtype(settings.dtype, device)
    encoder = PromptEncoder(checkpoint)
    base = None if settings.lora is None else _find_base(checkpoint, source or settings.source, settings.lora)
    loaded = checkpoint if base is None else base.checkpoint
    place = device if world.size == 1 else None  # splitting reads what it needs
    engine = load_weights(loaded, encoder, place, dtype, keep_frames=True)
    model = engine.model
    attention.install(model)
    if base is not None:
        insert_adapter(model, base.shape, dtype=dtype)
        train_adapter_alone(model)
        if checkpoint.adapter is not None and base.checkpoint is not checkpoint:
            read_adapter(model, checkpoint.adapter)
    else:
        model.requires_grad_(True)
        model.model.visual.requires_grad_(not settings.freeze_vision)
    if settings.gradient_checkpointing:
        _checkpoint_activations(model)
    beside = None
    if resting is not None:
        assert base is not None, "only adapters can be beside each other"
        beside = find_checkpoint(resting)
        _insert_resting(model, beside, base)
    profile = training_profile(checkpoint, settings.max_pixels, settings.frame)
    engine = replace(engine, sight=Sight())
    return Policy(checkpoint, profile, encoder, engine, dtype, device, base, beside)


def _insert_resting(model: VisionLanguageModel, checkpoint: Checkpoint, base: AdapterBase) -> None:
    """Add the adapter of the role that rests, if it has one."""
    if checkpoint.adapter is not None and read_shape(checkpoint.adapter) == base.shape:
        find_base(checkpoint.adapter)  # still there, and as it was
        insert_beside(model, base.shape, RESTING)
        read_adapter(model, checkpoint.adapter, RESTING)


def _find_base(checkpoint: Checkpoint, source: str, lora: LoraSettings) -> AdapterBase:
    """The base of the checkpoint's adapter, which learns further; or the checkpoint, for a new adapter."""
    shape = AdapterShape(lora.rank, lora.alpha, lora.targets)
    if checkpoint.adapter is not None and read_shape(checkpoint.adapter) == shape:
        return AdapterBase(find_base(checkpoint.adapter), read_base_name(checkpoint.adapter), shape)
    named = find_source(expand_name(source))
    return AdapterBase(checkpoint, str(Path(named).absolute()) if Path(named).exists() else named, shape)


def training_profile(checkpoint: Checkpoint, max_pixels: int | None, frame: Frame | None = None) -> ModelProfile:
    """The profile of a checkpoint in training: by default half of the pixels that it is shown later, as in the paper.

    Args:
        max_pixels: most pixels of an image. None for the paper's, or the checkpoint's own where that is lower.
        frame: the frame in which the model writes boxes; None for its family's.

    Raises:
        ConfigError: less than one visual token, or boxes in pixels of the file.
    """
    profile = checkpoint.profile(frame=frame, max_pixels=max_pixels)
    if profile.frame == "file_pixels":
        raise ConfigError(
            "a model cannot be trained to write boxes in pixels of the file, whose size it is not told in training",
            hint="model.frame may be per_mille, pixels, or unit",
        )
    if max_pixels is not None:
        return profile
    budget = profile.budget
    most = min(budget.max_pixels, PAPER_VISUAL_TOKENS * budget.factor**2)
    return profile.model_copy(update={"budget": budget.model_copy(update={"max_pixels": most})})


def take_snapshot(policy: Policy, *, batch_size: int, world: World | None = None) -> Snapshot:
    """Freeze the policy as it is now. To be called before it is split.

    Args:
        batch_size: the most prompts that the other role replies to together.
        world: the processes over which the copy is split, and the policy will be. Splitting copies weights, so there
            is no other copy.
    """
    world = world or World()
    if policy.base is not None:
        freeze_adapter(policy.model, policy.base.shape)
        kind, model = AdaptedEngine if policy.resting is None else RestingEngine, policy.model
    else:
        kind, model = FrozenEngine, _copy_model(policy, is_split=world.size > 1)
        split_model(model, world, policy.device, policy.dtype)
    engine = kind.of(policy.engine, model)
    partner = _open_frozen(policy, engine, batch_size=batch_size)
    return Snapshot(engine, partner, shares_weights=policy.has_adapters)


def open_resting(policy: Policy, *, batch_size: int) -> LocalModel | None:
    """The role that rests, with its own adapter; None where the policy plays both roles."""
    if policy.resting is None:
        return None
    return _open_frozen(policy, RestingEngine.of(policy.engine, policy.model), batch_size=batch_size)


def _open_frozen(policy: Policy, engine: Engine, *, batch_size: int) -> LocalModel:
    name = f"frozen:{policy.frozen_checkpoint.folder.name}"
    return LocalModel(name, policy.profile, policy.encoder, engine, batch_size=batch_size)


def _copy_model(policy: Policy, *, is_split: bool) -> VisionLanguageModel:
    """Copy the model weight by weight, so that there is never a second copy of the first one's size or place.

    Weights that do not learn, those of a frozen vision tower, are the policy's own.

    Args:
        is_split: share all weights, because splitting will copy a part of each.
    """
    known: dict[int, object] = {}
    for weight in policy.model.parameters():
        value = weight.detach()
        value = value if is_split else value.to(policy.device, policy.dtype, copy=weight.requires_grad)
        known[id(weight)] = nn.Parameter(value, requires_grad=False)
    # Buffers, such as the frequencies of rotary positions, keep their float32.
    model = copy.deepcopy(policy.model, known).eval()  # pyright: ignore[reportArgumentType, reportCallIssue]
    return model if is_split else model.to(policy.device)  # pyright: ignore[reportArgumentType]


def describe_weights(policy: Policy) -> str:
    """Tell models apart by family and numbers of tensors and weights."""
    weights = list(policy.model.parameters())
    num_trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    total = sum(weight.numel() for weight in weights)
    return f"{policy.checkpoint.family}, {len(weights)} tensors, {total:,} weights, {num_trained:,} of them trained"


def _checkpoint_activations(model: VisionLanguageModel) -> None:
    """Recompute activations in backward, in training mode. transformers 5.2x renamed the method."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
