"""A policy is loaded, learns from what could be judged, and is saved as a standard checkpoint."""

from __future__ import annotations

import gc
import importlib.util
import json
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3VLForConditionalGeneration

from p2r.config import LoraSettings, ModelSettings, OptimizerSettings
from p2r.errors import ConfigError, ModelError
from p2r.models.nano import CHECKPOINT
from p2r.training.engines.local import policy as local_policy
from p2r.training.engines.local.distributed import World, whole_tensor
from p2r.training.engines.local.export import gather_weights, save_policy
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Policy, Snapshot, describe_weights, load_policy, take_snapshot
from p2r.training.groups import Group
from p2r.training.state.checkpoint import Checkpoints, Position, capture_state
from p2r.training.update import Learner, UpdateReport, learn_step
from tests.fakes.allocations import Allocations
from tests.fakes.split_training import make_groups
from tests.fakes.tiny_checkpoint import make_checkpoint
from tests.fakes.training import make_recipe

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")


def load(**settings: object) -> Policy:
    return load_policy(ModelSettings.model_validate({"source": "nano", "device": "cpu", **settings}))


def learn(policy: Policy, groups: list[Group], *, snapshot: Snapshot | None = None) -> UpdateReport | None:
    phase = make_recipe().phases()[0]
    snapshot = snapshot or take_snapshot(policy, batch_size=4)
    learner = Learner(phase, policy, snapshot, Optimizer(policy.trainable, phase.optimizer, World()), World())
    return learn_step(learner, groups, 1e-4).report


def weights_of(policy: Policy) -> Mapping[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in gather_weights(policy, whole_tensor).merged.items()}


@pytest.mark.parametrize("settings", [{}, pytest.param({"lora": {"rank": 4}}, marks=needs_peft)])
def test_a_phase_is_gone_when_the_next_one_loads(settings: dict[str, object]) -> None:
    gc.disable()  # so that only what is asked for is collected
    try:
        policy = load(**settings)
        snapshot = take_snapshot(policy, batch_size=4)
        left = [weakref.ref(policy.model), weakref.ref(snapshot.engine.model)]
        del policy, snapshot
        load(**settings)
        assert [model() for model in left] == [None, None]
    finally:
        gc.enable()


def test_a_saved_policy_is_a_standard_checkpoint_that_holds_all_that_was_learned(tmp_path: Path) -> None:
    policy = load()
    assert learn(policy, make_groups(policy)) is not None
    save_policy(policy, gather_weights(policy, whole_tensor), tmp_path / "saved")
    source, saved = (load_file(folder / "model.safetensors") for folder in (CHECKPOINT, tmp_path / "saved"))
    assert {name: tensor.shape for name, tensor in saved.items()} == {n: tensor.shape for n, tensor in source.items()}
    assert not (tmp_path / "saved" / "README.md").exists()
    stock = Qwen3VLForConditionalGeneration.from_pretrained(tmp_path / "saved", dtype="auto")
    learned = policy.model.state_dict()
    assert stock.dtype == torch.float32
    assert all(torch.equal(tensor.view_as(learned[name]), learned[name]) for name, tensor in stock.state_dict().items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_untouched_policy_is_saved_as_it_was_loaded_in_the_dtype_it_computes_in(tmp_path: Path, dtype: str) -> None:
    policy = load(dtype=dtype)
    save_policy(policy, gather_weights(policy, whole_tensor), tmp_path / "saved")
    source, saved = (load_file(folder / "model.safetensors") for folder in (CHECKPOINT, tmp_path / "saved"))
    assert {str(tensor.dtype) for tensor in saved.values()} == {f"torch.{dtype}"}
    assert all(torch.equal(tensor.to(saved[name].dtype), saved[name]) for name, tensor in source.items())
    told = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert told == {**json.loads((CHECKPOINT / "config.json").read_text()), "dtype": dtype}


def test_a_config_says_the_dtype_wherever_the_source_said_one(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(CHECKPOINT, source)
    config = json.loads((source / "config.json").read_text())
    config["text_config"]["dtype"] = "bfloat16"
    config["torch_dtype"] = "bfloat16"
    (source / "config.json").write_text(json.dumps(config))
    policy = load_policy(ModelSettings(source=str(source), device="cpu"))
    save_policy(policy, gather_weights(policy, whole_tensor), tmp_path / "saved")
    told = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert (told["dtype"], told["torch_dtype"], told["text_config"]["dtype"]) == ("float32",) * 3
    assert "dtype" not in told["vision_config"]


def test_a_frozen_vision_tower_does_not_learn() -> None:
    assert not any(".visual." in name for name in load(freeze_vision=True).trainable)
    assert any(".visual." in name for name in load().trainable)


def test_a_frozen_copy_is_made_weight_by_weight_in_the_dtype_it_is_asked_in() -> None:
    policy = replace(load(), dtype=torch.bfloat16)  # float32, as it once was for several processes
    largest = max(buffer.numel() for buffer in policy.model.buffers())
    with Allocations() as allocations:
        frozen = take_snapshot(policy, batch_size=1).engine.model
    assert not [size for dtype, size, _ in allocations.made if dtype == torch.float32 and size > largest]
    assert {weight.dtype for weight in frozen.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in frozen.buffers()} == {torch.float32}  # rotary frequencies, never rounded
    pairs = zip(policy.model.parameters(), frozen.parameters(), strict=True)
    assert all(torch.equal(own.bfloat16(), copied) and not copied.requires_grad for own, copied in pairs)
    assert not frozen.training and frozen.lm_head.weight is frozen.get_input_embeddings().weight


@pytest.mark.parametrize("num_processes", [1, 2])
def test_no_process_copies_weights_whole_that_it_will_split(
    monkeypatch: pytest.MonkeyPatch, num_processes: int
) -> None:
    """Splitting copies a part of each weight, so until then policy and frozen copy have the same storage."""
    monkeypatch.setattr(local_policy, "split_model", lambda *_, **__: None)
    world, policy = World(0, num_processes), load()
    frozen = take_snapshot(policy, batch_size=1, world=world).engine.model
    places = [{weight.data_ptr() for weight in model.parameters()} for model in (policy.model, frozen)]
    assert (places[0] == places[1]) is (num_processes == 2) and (
        places[0].isdisjoint(places[1]) is (num_processes == 1)
    )


@pytest.mark.parametrize("settings", [{}, pytest.param({"lora": {"rank": 4}}, marks=needs_peft)])
def test_a_process_that_writes_nothing_gathers_all_weights_and_keeps_none(settings: dict[str, object]) -> None:
    policy, asked = load(**settings), [[], []]
    for number, keeps in enumerate((True, False)):

        def whole(tensor: torch.Tensor, number: int = number) -> torch.Tensor:
            asked[number].append(tensor.data_ptr())
            return tensor

        weights = gather_weights(policy, whole, keeps=keeps)
        assert bool(weights.merged) is keeps and bool(weights.adapter) is (keeps and bool(settings))
    assert asked[0] == asked[1] != []


def test_recomputing_activations_changes_no_gradient() -> None:
    reports = [learn(policy := load(gradient_checkpointing=on), make_groups(policy)) for on in (False, True)]
    assert reports[0] is not None and reports[1] is not None
    assert reports[0].grad_norm == pytest.approx(reports[1].grad_norm, rel=1e-6)


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    policy, checkpoints = load(freeze_vision=True), Checkpoints(tmp_path, 1, World())
    optimizer = Optimizer(policy.trainable, OptimizerSettings(), World())
    position = Position(
        phase=0, step=1, run_step=1, row_position=0, model=describe_weights(policy), num_processes=1, log_bytes={}
    )
    checkpoints.save(position, capture_state(policy, optimizer))
    part = torch.load(tmp_path / "000-000001" / "part-0.pt", weights_only=True)
    assert set(part) == {"weights", "optimiser", "random", "memo", "failures"}  # older runs have all but the last
    other = load_policy(ModelSettings(source=str(make_checkpoint(tmp_path / "other")), device="cpu"))
    with pytest.raises(ModelError, match="of another model: qwen3_vl, "):
        checkpoints.restore(position, other, Optimizer(other.trainable, OptimizerSettings(), World()))


@needs_peft
def test_adapters_alone_learn_and_switched_off_leave_the_reference(tmp_path: Path) -> None:
    policy = load(lora={"rank": 4, "alpha": 8})
    assert all(".lora_" in name and ".language_model." in name for name in policy.trainable)
    before = weights_of(policy)
    snapshot = take_snapshot(policy, batch_size=4)
    first = learn(policy, make_groups(policy), snapshot=snapshot)
    second = learn(policy, make_groups(policy), snapshot=snapshot)
    assert first is not None and second is not None
    assert first.kl == 0.0 and second.kl > 0.0
    save_policy(policy, gather_weights(policy, whole_tensor), tmp_path / "saved")
    merged = load_file(tmp_path / "saved" / "model.safetensors")
    moved = {
        name for name in merged if not torch.equal(merged[name].float(), before[name].float().view_as(merged[name]))
    }
    assert moved and all(".layers." in name and "proj" in name for name in moved)


@pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="peft is installed")
def test_adapters_without_peft_are_a_sentence() -> None:
    with pytest.raises(ConfigError, match="LoRA needs peft") as caught:
        load(lora=LoraSettings().model_dump())
    assert "pip install peft" in caught.value.hint
