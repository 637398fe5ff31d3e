"""Adapters: what is saved is what was trained, the next phase continues with it, and merging says what it costs."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from p2r.config import ModelSettings
from p2r.dialogue import Decoding, Prompt
from p2r.errors import ModelError
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.model import LocalModel, load_engine
from p2r.models.nano import CHECKPOINT
from p2r.training.engines.local.adapters import as_frozen
from p2r.training.engines.local.distributed import whole_tensor
from p2r.training.engines.local.export import gather_weights, save_policy
from p2r.training.engines.local.policy import Policy, load_policy, take_snapshot
from tests.fakes.split_training import Canvas

pytest.importorskip("peft")

LORA = {"rank": 4, "alpha": 8, "targets": ["q_proj", "down_proj"]}
PROMPT = Prompt("perceiver", "", "Where is the kite?", (Canvas().load(),), "test")


def load(source: Path = CHECKPOINT, **settings: object) -> Policy:
    return load_policy(ModelSettings.model_validate({"source": str(source), "device": "cpu", "lora": LORA, **settings}))


def move(policy: Policy, size: float = 0.02, seed: int = 0) -> None:
    """As if it had learned: both halves of the adapter change."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.trainable.values():
            weight += size * torch.randn(weight.shape, generator=generator).to(weight.dtype)


def save(policy: Policy, folder: Path) -> Path:
    save_policy(policy, gather_weights(policy, whole_tensor), folder)
    return folder


def read(policy: Policy) -> torch.Tensor:
    """The logits after a prompt with an image."""
    with torch.inference_mode():
        return policy.engine.prefill([policy.encoder.encode(PROMPT)]).logits_BV.clone()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Path]:
    """A policy in bfloat16 and the folder that it was saved into; its base lies beside it."""
    folder = tmp_path_factory.mktemp("lora")
    shutil.copytree(CHECKPOINT, folder / "base")
    policy = load(folder / "base", dtype="bfloat16")
    move(policy)
    return policy, save(policy, folder / "trained")


def test_an_adapter_is_saved_in_pefts_layout(trained: tuple[Policy, Path]) -> None:
    policy, folder = trained
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    layers = range(policy.model.config.text_config.num_hidden_layers)
    places = [f"{layer}.{part}" for layer in layers for part in ("self_attn.q_proj", "mlp.down_proj")]
    prefix = "base_model.model.model.language_model.layers."
    assert saved.keys() == {f"{prefix}{place}.lora_{half}.weight" for place in places for half in "AB"}
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["bias"]) == ("LORA", 4, 8, "none")
    assert config["base_model_name_or_path"] == str(folder.parent / "base")
    assert not (folder / "adapter_config.json").exists()  # transformers would pass over the merged weights


def test_peft_itself_loads_the_adapter(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import Qwen3VLForConditionalGeneration

    policy = load(dtype="float32")
    move(policy)
    folder = save(policy, tmp_path / "saved")
    stock = Qwen3VLForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(stock, str(folder / "adapter")).eval()
    merged = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([policy.encoder.encode(Prompt("perceiver", "", "Where?", (), "test")).token_ids])
    with torch.inference_mode():
        ours, theirs, sums = (model(input_ids=ids).logits for model in (policy.model, loaded, merged))
    assert torch.allclose(ours, theirs, atol=1e-5) and torch.allclose(ours, sums, atol=1e-3)
    with torch.inference_mode(), loaded.disable_adapter():
        assert not torch.allclose(ours, loaded(input_ids=ids).logits, atol=1e-2)


def test_a_saved_folder_is_loaded_as_the_very_model_that_was_trained(trained: tuple[Policy, Path]) -> None:
    policy, folder = trained
    again = load_engine(open_checkpoint(folder), policy.encoder, torch.device("cpu"), policy.dtype)
    prompt = policy.encoder.encode(PROMPT)
    with torch.inference_mode():
        assert torch.equal(again.prefill([prompt]).logits_BV, read(policy))
    assert not any(weight.requires_grad for weight in again.model.parameters())
    replies = [
        model.complete_all([PROMPT], Decoding(max_new_tokens=8))[0]
        for model in (
            LocalModel.load(folder, dtype="bfloat16"),
            LocalModel("policy", policy.profile, policy.encoder, policy.engine),
        )
    ]
    assert replies[0].text == replies[1].text  # type: ignore[union-attr]


def remove_base(folder: Path) -> None:
    shutil.rmtree(folder / "base")


def change_base(folder: Path) -> None:
    path = folder / "base" / "model.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "message"), [(remove_base, "which is not there"), (change_base, "whose weights have changed since")]
)
def test_without_its_base_the_merged_weights_are_asked_and_no_phase_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], message: str
) -> None:
    shutil.copytree(CHECKPOINT, tmp_path / "base")
    policy = load(tmp_path / "base")
    move(policy)
    folder = save(policy, tmp_path / "trained")
    spoil(tmp_path)
    with caplog.at_level(logging.WARNING):
        engine = load_engine(
            open_checkpoint(folder), policy.encoder, torch.device("cpu"), torch.float32, keep_frames=True
        )
    assert message in caplog.text and "its merged weights are used" in caplog.text
    with torch.inference_mode():
        logits = engine.prefill([policy.encoder.encode(PROMPT)]).logits_BV
    assert torch.allclose(logits[logits.isfinite()], read(policy)[logits.isfinite()], atol=1e-3)
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_a_later_phase_continues_with_the_adapter_on_the_same_base(
    trained: tuple[Policy, Path], tmp_path: Path
) -> None:
    policy, folder = trained
    following = load(folder, dtype="bfloat16")
    assert torch.equal(read(following), read(policy))
    assert following.trainable.keys() == policy.trainable.keys()
    assert all(torch.equal(weight, policy.trainable[name]) for name, weight in following.trainable.items())
    take_snapshot(following, batch_size=1)
    assert following.trainable.keys() == policy.trainable.keys()  # the frozen copy does not learn
    move(following, seed=1)
    config = json.loads((save(following, tmp_path / "next") / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(folder.parent / "base")
    assert torch.equal(read(load(tmp_path / "next", dtype="bfloat16")), read(following))


def test_an_adapter_of_another_size_is_new_on_the_merged_weights(trained: tuple[Policy, Path]) -> None:
    folder = trained[1]
    other = load(folder, lora={**LORA, "rank": 2}, dtype="bfloat16")
    merged = load_file(folder / "model.safetensors")
    name = "model.language_model.layers.0.self_attn.q_proj"
    assert torch.equal(other.model.get_submodule(name).base_layer.weight, merged[f"{name}.weight"])  # type: ignore[operator]
    assert all(not weight.any() for key, weight in other.trainable.items() if ".lora_B." in key)
    whole = load_policy(ModelSettings(source=str(folder), device="cpu", dtype="bfloat16"))
    assert torch.equal(whole.model.get_submodule(name).weight, merged[f"{name}.weight"])  # type: ignore[operator]


@pytest.mark.parametrize("is_first", [True, False])
def test_the_reference_is_the_policy_at_the_phases_start_in_float64(tmp_path: Path, is_first: bool) -> None:
    """Computed apart: the base's weights plus the change that the adapter made then, as a stock model."""
    start = load()
    if not is_first:
        move(start)
        start = load(save(start, tmp_path / "start"))
    start.model.double()
    stock = copy.deepcopy(load_policy(ModelSettings(source=str(CHECKPOINT), device="cpu")).model).double().eval()
    with torch.no_grad():
        for name, weight in start.trainable.items():
            if ".lora_A." not in name:
                continue
            up, place = start.trainable[name.replace("lora_A", "lora_B")], name.partition(".lora_A.")[0]
            stock.get_submodule(place).weight += up @ weight * (LORA["alpha"] / LORA["rank"])  # type: ignore[operator]
    snapshot = take_snapshot(start, batch_size=1)
    before = read(start)
    move(start, seed=5)
    ids = torch.tensor([start.encoder.encode(Prompt("perceiver", "", "Where is it?", (), "test")).token_ids])
    with torch.inference_mode():
        with snapshot.reference() as engine:
            reference, told = engine.model(input_ids=ids).logits, read(start)
        exact, now = stock(input_ids=ids).logits, start.model(input_ids=ids).logits
    assert float((reference - exact).abs().max()) < 1e-10 < 1e-3 < float((now - exact).abs().max())
    assert torch.allclose(told, before, atol=1e-10) and not torch.allclose(read(start), before, atol=1e-3)
    assert all(weight.requires_grad for weight in start.trainable.values()) and start.trainable
    with as_frozen(start.model):
        assert not start.trainable
    with torch.enable_grad():
        start.model(input_ids=ids).logits.sum().backward()
    frozen = [weight for name, weight in start.model.named_parameters() if ".frozen." in name]
    assert bool(frozen) is not is_first and all(weight.grad is None for weight in frozen)
    assert all(weight.grad is not None for weight in start.trainable.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merging_says_what_rounding_costs(dtype: str) -> None:
    policy = load(dtype=dtype)
    assert gather_weights(policy, whole_tensor).lost == 0.0  # nothing was learned yet
    move(policy, size=1e-3)
    gathered = gather_weights(policy, whole_tensor)
    base, error, change = load_file(CHECKPOINT / "model.safetensors"), 0.0, 0.0
    for name, down in gathered.adapter.items():
        if ".lora_A." not in name:
            continue
        up = gathered.adapter[name.replace("lora_A", "lora_B")].double().numpy()
        place = name.removeprefix("base_model.model.").replace(".lora_A", "")
        wanted = up @ down.double().numpy() * 2
        got = gathered.merged[place].double().numpy() - base[place].to(policy.dtype).double().numpy()
        error, change = error + np.square(got - wanted).sum(), change + np.square(wanted).sum()
    assert gathered.lost == pytest.approx(np.sqrt(error / change), rel=0.05)
    assert gathered.lost > 0.1 if dtype == "bfloat16" else 0 < gathered.lost < 0.01
