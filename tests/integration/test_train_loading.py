"""Models that are split over processes are loaded part by part, and are those that one process loads whole."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from p2r.config import ModelSettings
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.models.local.model import load_engine, load_weights
from p2r.training.engines.local.distributed import whole_tensor
from p2r.training.engines.local.export import gather_weights, save_policy
from p2r.training.engines.local.policy import load_policy, take_snapshot
from tests.fakes.processes import run_world
from tests.fakes.split_loading import load_split
from tests.fakes.tiny_checkpoint import make_checkpoint

HAS_PEFT = importlib.util.find_spec("peft") is not None
LORA = {"rank": 4, "alpha": 8, "targets": ["q_proj", "down_proj"]}
LONGEST_WAIT_S = 900.0


def make_plain(folder: Path) -> None:
    """As published by Qwen: several files, bfloat16, a head that is tied and not stored."""
    make_checkpoint(folder, sharded=True)
    assert len(list(folder.glob("*.safetensors"))) > 2


def make_renamed(folder: Path) -> None:
    """As published by Qwen: names that transformers has changed since."""
    make_checkpoint(folder, "qwen2_5_vl", sharded=True)
    names = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert any(name.startswith("visual.") for name in names)
    assert any(name.startswith("model.layers.") for name in names)


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    make_checkpoint(folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def make_float32(folder: Path) -> None:
    """In bfloat16 its weights are rounded."""

    def change(weights: dict[str, torch.Tensor]) -> None:
        for name, weight in weights.items():
            weights[name] = weight.float() * 1.001

    change_weights(folder, change)


def make_mixed(folder: Path) -> None:
    """Several dtypes in one file; the norms would be rounded in the dtype of the others."""

    def change(weights: dict[str, torch.Tensor]) -> None:
        for name, weight in weights.items():
            if "norm" in name:
                weights[name] = weight.float() * 1.001

    change_weights(folder, change)


def make_stored_head(folder: Path) -> None:
    """A head that is tied, and stored nevertheless."""

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"].clone()

    change_weights(folder, change)


def make_untied(folder: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["lm_head.weight"] = 2 * weights["model.language_model.embed_tokens.weight"]

    change_weights(folder, change)
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config))


def make_adapted(folder: Path) -> None:
    """A checkpoint of ours with an adapter that has learned."""
    base = folder.parent / "base"
    make_checkpoint(base, sharded=True)
    policy = load_policy(ModelSettings.model_validate({"source": str(base), "device": "cpu", "lora": LORA}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.trainable.values():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    save_policy(policy, gather_weights(policy, whole_tensor), folder)


CASES: Mapping[str, tuple[Callable[[Path], None], Mapping[str, object]]] = {
    "plain": (make_plain, {"dtype": "bfloat16"}),
    "plain, in float32": (make_plain, {"dtype": "float32"}),
    "tower stays": (make_plain, {"dtype": "bfloat16", "freeze_vision": True}),
    "renamed": (make_renamed, {"dtype": "bfloat16"}),
    "rounded": (make_float32, {"dtype": "bfloat16"}),
    "float32": (make_float32, {"dtype": "float32"}),
    "mixed": (make_mixed, {"dtype": "float32"}),
    "stored head": (make_stored_head, {"dtype": "bfloat16"}),
    "untied": (make_untied, {"dtype": "bfloat16"}),
}
ADAPTED: Mapping[str, tuple[Callable[[Path], None], Mapping[str, object]]] = {
    "new adapter": (make_plain, {"dtype": "bfloat16", "lora": LORA}),
    "new adapter, in float32": (make_plain, {"dtype": "float32", "lora": LORA}),
    "new adapter, rounded": (make_float32, {"dtype": "bfloat16", "lora": LORA}),
    "adapter goes on": (make_adapted, {"dtype": "bfloat16", "lora": LORA}),
    "adapter goes on, in float32": (make_adapted, {"dtype": "float32", "lora": LORA}),
}
ALL = {**CASES, **(ADAPTED if HAS_PEFT else {})}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By case. Three processes, into which few dimensions divide."""
    folder = tmp_path_factory.mktemp("loading")
    for name, (make, settings) in ALL.items():
        (folder / name).mkdir()
        make(folder / name / "model")
        given = {"source": str(folder / name / "model"), "device": "cpu", **settings}
        (folder / name / "settings.json").write_text(json.dumps(given))
    run_world(3, load_split, folder, longest_wait_s=LONGEST_WAIT_S)
    return {name: json.loads((folder / name / "found.json").read_text()) for name in ALL}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_split_model_is_the_one_that_a_single_process_loads(found: dict[str, dict[str, Any]], name: str) -> None:
    """Weights, buffers, adapters, and the frozen copy, to the bit; and so its logits are the same up to rounding."""
    facts = found[name]
    assert facts["same names"] and facts["num"] > 100
    assert facts["differing"] == []
    assert facts["apart"] < (1e-5 if ALL[name][1]["dtype"] == "float32" else 5e-2)
    assert facts["tied"] == [name != "untied"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_no_more_than_a_part_of_a_tensor_is_allocated_at_once(found: dict[str, dict[str, Any]], name: str) -> None:
    assert found[name]["most at once"] <= 1
    assert all(0.3 < share < 0.37 for share in found[name]["shares"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_what_learns_is_kept_in_float32_and_the_rest_as_it_is_computed_with(
    found: dict[str, dict[str, Any]], name: str
) -> None:
    facts, computed = found[name], [ALL[name][1]["dtype"]]
    is_whole = name not in ADAPTED
    assert facts["learning"] == ["float32"]
    assert facts["still"] == ([] if is_whole and name != "tower stays" else computed)
    if is_whole:
        assert facts["frozen"] == computed and facts["learn in the copy"] == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [make_plain, make_renamed, make_float32, make_mixed, make_stored_head, make_untied])
def test_one_process_has_the_weights_and_buffers_of_transformers(
    tmp_path: Path, make: Callable[[Path], None], dtype: torch.dtype
) -> None:
    make(tmp_path / "model")
    checkpoint = open_checkpoint(tmp_path / "model")
    model = load_engine(checkpoint, PromptEncoder(checkpoint), torch.device("cpu"), dtype, keep_frames=True).model
    stock = AutoModelForImageTextToText.from_pretrained(tmp_path / "model", dtype=dtype)
    for ours, theirs in (
        (dict(model.named_parameters()), dict(stock.named_parameters())),
        (dict(model.named_buffers()), dict(stock.named_buffers())),
    ):
        assert ours.keys() == theirs.keys() and theirs
        for name, tensor in theirs.items():
            assert ours[name].dtype == tensor.dtype
            assert torch.equal(ours[name], tensor.view_as(ours[name])), name


def is_mapped(tensor: torch.Tensor) -> bool:
    """Whether a file is mapped where a tensor lies in memory."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        ends, *_, source = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in ends.split("-"))
        if first <= tensor.data_ptr() < last:
            return source.endswith(".safetensors")
    return False


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux says what is mapped")
@pytest.mark.parametrize("make", [make_plain, make_renamed, make_float32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_will_be_split_is_mapped_and_not_read(
    tmp_path: Path, make: Callable[[Path], None], dtype: torch.dtype
) -> None:
    make(tmp_path / "model")
    checkpoint = open_checkpoint(tmp_path / "model")
    model = load_weights(checkpoint, PromptEncoder(checkpoint), None, dtype, keep_frames=True).model
    assert [name for name, weight in model.named_parameters() if not is_mapped(weight)] == []


def test_a_frozen_copy_shares_a_vision_tower_that_does_not_learn(tmp_path: Path) -> None:
    make_plain(tmp_path / "model")
    policy = load_policy(ModelSettings(source=str(tmp_path / "model"), device="cpu", freeze_vision=True))
    frozen = take_snapshot(policy, batch_size=1).engine.model
    pairs = zip(policy.model.named_parameters(), frozen.parameters(), strict=True)
    shared = {name: weight.data_ptr() == copied.data_ptr() for (name, weight), copied in pairs}
    assert {name for name, is_shared in shared.items() if is_shared} == {name for name in shared if ".visual." in name}
