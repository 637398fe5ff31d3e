"""A policy is loaded, learns from what could be judged, and is saved as a standard checkpoint."""

from __future__ import annotations

import gc
import importlib.util
import json
import math
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
from p2r.errors import ConfigError, ModelError, TrainingError
from p2r.models.nano import CHECKPOINT
from p2r.training.engines.local.distributed import World, whole_tensor
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import (
    Frozen,
    Policy,
    describe_weights,
    freeze,
    gather_weights,
    load_policy,
    save_policy,
)
from p2r.training.groups import Group
from p2r.training.loss import LossConfig
from p2r.training.state.checkpoint import Checkpoints, Position
from p2r.training.update import Judged, UpdateReport, judge_groups, update_policy
from tests.fakes.split_training import make_groups
from tests.fakes.tiny_checkpoint import make_checkpoint

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")


def load(**settings: object) -> Policy:
    return load_policy(ModelSettings.model_validate({"source": "nano", "device": "cpu", **settings}))


def learn(
    policy: Policy, groups: list[Group], *, loss: LossConfig | None = None, frozen: Frozen | None = None, **options: int
) -> UpdateReport | None:
    optimizer = Optimizer(policy.trainable, OptimizerSettings(), World())
    frozen = frozen or freeze(policy, batch_size=4)
    return update_policy(policy, frozen, judge(groups), optimizer, 1e-4, loss=loss or LossConfig(), **options)


def judge(groups: list[Group]) -> list[Judged]:
    return judge_groups(groups, std="sample")


def weights_of(policy: Policy) -> Mapping[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in gather_weights(policy, whole_tensor).items()}


@pytest.mark.parametrize("settings", [{}, pytest.param({"lora": {"rank": 4}}, marks=needs_peft)])
def test_a_phase_is_gone_when_the_next_one_loads(settings: dict[str, object]) -> None:
    gc.disable()  # so that only what is asked for is collected
    try:
        policy = load(**settings)
        frozen = freeze(policy, batch_size=4)
        left = [weakref.ref(policy.model), weakref.ref(frozen.engine.model)]
        del policy, frozen
        load(**settings)
        assert [model() for model in left] == [None, None]
    finally:
        gc.enable()


def test_what_could_not_be_judged_is_left_out_of_its_group() -> None:
    policy = load()
    judged = judge(make_groups(policy))
    assert judged[1].advantages[2] is None and len(judged[1].kept) == 2
    assert judged[1].advantages[:2] == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)], rel=1e-5)
    assert judged[2].is_dead and not judged[2].is_dropped


def test_a_group_with_one_judged_rollout_is_dropped() -> None:
    groups = make_groups(load())
    rollouts = tuple(replace(rollout, reward=None) for rollout in groups[0].rollouts[1:])
    judged = judge([replace(groups[0], rollouts=(groups[0].rollouts[0], *rollouts))])
    assert judged[0].is_dropped and judged[0].kept == []


def test_a_rollout_that_goes_on_from_another_takes_its_advantage() -> None:
    groups = make_groups(load())
    follower = replace(groups[1], rollouts=(replace(groups[1].rollouts[0], reward=1.0),), parent=(0, 0))
    judged = judge([groups[0], follower])
    assert judged[1].advantages == (judged[0].advantages[0],)


def test_micro_batches_add_up_to_the_batch() -> None:
    reports = [learn(load(), make_groups(policy), micro_batch_groups=size) for size in (1, 4) for policy in [load()]]
    one, four = reports
    assert one is not None and four is not None
    assert one.num_micro_batches == 4 and four.num_micro_batches == 1
    assert one.loss == pytest.approx(four.loss, rel=1e-5)
    assert one.grad_norm == pytest.approx(four.grad_norm, rel=1e-4)


def test_dead_groups_are_skipped_only_without_a_kl_term() -> None:
    policy = load()
    groups = make_groups(policy)
    without = learn(policy, groups, loss=LossConfig(kl_coef=0.0))
    with_kl = learn(policy, groups, loss=LossConfig(kl_coef=0.01))
    assert without is not None and with_kl is not None
    assert (without.num_micro_batches, with_kl.num_micro_batches) == (3, 4)
    assert without.num_tokens == with_kl.num_tokens


def test_several_updates_clip_against_the_first_log_probabilities() -> None:
    policy = load()
    report = learn(policy, make_groups(policy), num_updates=3)
    assert report is not None
    assert report.ratio != 1.0 and report.kl > 0.0


def test_nothing_is_learned_when_nothing_could_be_judged() -> None:
    policy = load()
    before = weights_of(policy)
    groups = [
        replace(group, rollouts=tuple(replace(rollout, reward=None) for rollout in group.rollouts))
        for group in make_groups(policy)
    ]
    assert learn(policy, groups) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(policy).items())


def test_a_reward_that_is_no_number_stops_with_the_weights_as_they_were() -> None:
    policy = load()
    before = weights_of(policy)
    groups = make_groups(policy)
    spoilt = replace(groups[0], rollouts=(replace(groups[0].rollouts[0], reward=math.inf), *groups[0].rollouts[1:]))
    with pytest.raises(TrainingError, match="norm is nan"):
        learn(policy, [spoilt, *groups[1:]])
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(policy).items())


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
    checkpoints.save(position, policy, optimizer, "{}")
    other = load_policy(ModelSettings(source=str(make_checkpoint(tmp_path / "other")), device="cpu"))
    with pytest.raises(ModelError, match="of another model: qwen3_vl, "):
        checkpoints.restore(position, other, Optimizer(other.trainable, OptimizerSettings(), World()))


@needs_peft
def test_adapters_alone_learn_and_switched_off_leave_the_reference(tmp_path: Path) -> None:
    policy = load(lora={"rank": 4, "alpha": 8})
    assert all(".lora_" in name and ".language_model." in name for name in policy.trainable)
    before = weights_of(policy)
    frozen = freeze(policy, batch_size=4)
    first = learn(policy, make_groups(policy), frozen=frozen)
    second = learn(policy, make_groups(policy), frozen=frozen)
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
