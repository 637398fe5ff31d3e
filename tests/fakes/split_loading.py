"""Called by `run_world`: load checkpoints for training, split over the processes, beside one process alone.

OUT/NAME/model is a checkpoint, OUT/NAME/settings.json says how it is loaded. What was found goes to
OUT/NAME/found.json: the names of tensors that differ from those of one process, how far apart the logits after a
prompt are, the dtypes of the parts that learn and of the others, whether the head is tied, the share that a process
keeps, and the most that an operation allocated, as a share of the largest part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image

from p2r.config import ModelSettings
from p2r.dialogue import Prompt
from p2r.training.engines.local.distributed import World, join_world, own_part, split_model, whole_tensor, whole_weights
from p2r.training.engines.local.policy import Policy, Snapshot, load_policy, take_snapshot
from p2r.training.state.checkpoint import seed_random_states
from tests.fakes.allocations import Allocations

SIZE = (224, 224)
"""Whole numbers of tokens in every family."""


def load(settings: ModelSettings, world: World) -> tuple[Policy, Snapshot]:
    seed_random_states(0)
    policy = load_policy(settings, world=world)
    snapshot = take_snapshot(policy, batch_size=1, world=world)
    split_model(policy.model, world, policy.device, policy.dtype)
    return policy, snapshot


def read(policy: Policy, snapshot: Snapshot) -> dict[str, torch.Tensor]:
    """All parameters and buffers, of policy and frozen copy. Parameters in float32, in which their parts may be."""
    tensors: dict[str, torch.Tensor] = {}
    for kind, model in (("policy", policy.model), ("frozen", snapshot.engine.model)):
        tensors |= {f"{kind} {name}": whole_tensor(weight).float() for name, weight in model.named_parameters()}
        tensors |= {f"{kind} {name}": whole_tensor(buffer) for name, buffer in model.named_buffers()}
    return tensors


def ask(policy: Policy) -> torch.Tensor:
    """The logits after a prompt with an image. All processes must call."""
    prompt = Prompt("perceiver", "", "Where is the kite?", (Image.new("RGB", SIZE, "teal"),), "test")
    with whole_weights(policy.model), torch.inference_mode():
        return policy.engine.prefill([policy.encoder.encode(prompt)]).logits_BV.clone()


def compare(folder: Path, world: World) -> None:
    settings = ModelSettings.model_validate_json((folder / "settings.json").read_text())
    with Allocations() as allocations:
        policy, snapshot = load(settings, world)
    tensors, logits = read(policy, snapshot), ask(policy)
    models = {"policy": policy.model, "frozen": snapshot.engine.model}
    parts = {
        kind: {name: own_part(w.detach()) for name, w in model.named_parameters()} for kind, model in models.items()
    }
    learning = policy.trainable
    facts: Mapping[str, object] = {
        "learning": name_dtypes(part for name, part in parts["policy"].items() if name in learning),
        "still": name_dtypes(part for name, part in parts["policy"].items() if name not in learning),
        "frozen": name_dtypes(parts["frozen"].values()),
        "tied": [model.lm_head.weight is model.get_input_embeddings().weight for model in models.values()],
        "learn in the copy": [name for name, w in models["frozen"].named_parameters() if w.requires_grad],
        "shares": [sum(part.numel() for part in each.values()) / count(models[kind]) for kind, each in parts.items()],
    }
    most = max(size for _, size, device in allocations.made if device != "meta")
    largest_part = max(part.numel() for each in parts.values() for part in each.values())
    if world.is_first:
        one, its_snapshot = load(settings, World())
        alone = read(one, its_snapshot)
        same_names = alone.keys() == tensors.keys()
        differing = [name for name, tensor in alone.items() if not same_names or not equal(tensors[name], tensor)]
        apart = (ask(one) - logits)[logits.isfinite()].norm() / logits[logits.isfinite()].norm()
        found = {**facts, "num": len(alone), "same names": same_names, "differing": differing, "apart": float(apart)}
        (folder / "found.json").write_text(json.dumps({**found, "most at once": most / largest_part}))
    world.wait()


def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def count(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def name_dtypes(tensors: object) -> list[str]:
    return sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})  # type: ignore[attr-defined]


def load_split(out: Path) -> None:
    """Load what each folder of OUT says."""
    with join_world() as world:
        for each in sorted(out.iterdir()):
            compare(each, world)
