"""Local models as a user meets them: layouts, settings, batches, full memory, missing and broken parts."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from p2r.dialogue import Decoding, Prompt
from p2r.errors import ConfigError, ImageError, ModelError
from p2r.models.checkpoint import open_checkpoint
from p2r.models.load import load_model
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Abandoned, Engine, GeneratedTokens
from p2r.models.local.model import LocalModel
from p2r.types import Completion
from tests.fakes.tiny_checkpoint import make_checkpoint

SHORT = Decoding(max_new_tokens=4)


def ask(text: str = "Where?", *images: Image.Image) -> Prompt:
    return Prompt("perceiver", "Be brief.", text, images or (Image.new("RGB", (64, 64), "red"),), "test")


async def reply_all(model: LocalModel, prompts: Sequence[Prompt]) -> list[Completion | BaseException]:
    calls = (model.complete(prompt, SHORT) for prompt in prompts)
    return list(await asyncio.gather(*calls, return_exceptions=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), sharded=True)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def model(folder: Path) -> LocalModel:
    return LocalModel.load(folder, device="cpu")


def test_a_folder_is_loaded_by_its_name(folder: Path) -> None:
    model = load_model(str(folder), device="cpu")
    assert model.name == str(folder)
    assert model.profile.family == "qwen3_vl"
    assert asyncio.run(model.complete(ask(), SHORT)).model == str(folder)


def test_a_cpu_gets_float32_unless_told_otherwise(folder: Path) -> None:
    assert LocalModel.load(folder, device="cpu").dtype == "float32"
    assert LocalModel.load(folder, device="cpu", dtype="bfloat16").dtype == "bfloat16"


def test_bfloat16_replies_as_stock_weights_do(folder: Path) -> None:
    model = LocalModel.load(folder, device="cpu", dtype="bfloat16")
    assert asyncio.run(model.complete(ask(), SHORT)).usage.generated_tokens == 4


@pytest.mark.parametrize(("device", "dtype"), [("gpu", None), ("cuda:99", None), ("cpu", "float8")])
def test_unusable_settings_are_refused(folder: Path, device: str, dtype: str | None) -> None:
    with pytest.raises(ConfigError):
        LocalModel.load(folder, device=device, dtype=dtype)


def test_concurrent_calls_run_as_one_batch(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    generate = Engine.generate

    def count(engine: Engine, prompts: Sequence[EncodedPrompt], *rest: object) -> list[GeneratedTokens]:
        sizes.append(len(prompts))
        return generate(engine, prompts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "generate", count)
    asyncio.run(reply_all(model, [ask(f"number {n}") for n in range(10)]))
    assert sizes == [10]


def test_full_memory_halves_the_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = Engine.generate

    def small(engine: Engine, prompts: Sequence[EncodedPrompt], *rest: object) -> list[GeneratedTokens]:
        if min(len(prompts), rest[-2]) > 3:  # type: ignore[type-var]
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(prompts))
        return generate(engine, prompts, *rest)  # type: ignore[arg-type]

    sizes: list[int] = []
    model = LocalModel.load(folder, device="cpu")
    expected = asyncio.run(reply_all(model, [ask(f"number {n}") for n in range(8)]))
    monkeypatch.setattr(Engine, "generate", small)
    replies = asyncio.run(reply_all(model, [ask(f"number {n}") for n in range(8)]))
    assert [r.text for r in replies if isinstance(r, Completion)] == [
        e.text for e in expected if isinstance(e, Completion)
    ]
    assert sizes == [8, 2, 2, 2, 2]  # all of them, two at a time


def test_a_prompt_that_does_not_fit_alone_is_told_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(engine: Engine, prompts: Sequence[EncodedPrompt], *rest: object) -> list[GeneratedTokens]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Engine, "generate", full)
    with pytest.raises(ModelError, match=r"too little memory for one prompt of \d+ tokens"):
        asyncio.run(LocalModel.load(folder, device="cpu").complete(ask(), SHORT))


def test_one_bad_prompt_does_not_spoil_the_others(model: LocalModel) -> None:
    odd = Image.new("RGB", (65, 64))
    first, second, third = asyncio.run(reply_all(model, [ask(), ask("odd", odd), ask("long " * 3000)]))
    assert isinstance(first, Completion)
    assert isinstance(second, ImageError)
    assert isinstance(third, ModelError)


def test_generation_stops_when_its_caller_leaves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, ended = threading.Event(), threading.Event()
    step = Engine._step

    def note(engine: Engine, *arguments: object) -> torch.Tensor:
        started.set()
        return step(engine, *arguments)  # type: ignore[arg-type]

    generate = Engine.generate

    def until_end(
        engine: Engine, prompts: Sequence[EncodedPrompt], decoding: Decoding, abandoned: Callable[[], bool], *_: object
    ) -> list[GeneratedTokens]:
        try:
            replies = generate(engine, prompts, decoding, abandoned)
        except Abandoned:  # it was still reading the prompt
            ended.set()
            raise
        assert replies[0].num_generated < decoding.max_new_tokens
        ended.set()
        return replies

    monkeypatch.setattr(Engine, "_step", note)
    monkeypatch.setattr(Engine, "generate", until_end)
    model = LocalModel.load(folder, device="cpu")

    async def leave() -> None:
        call = asyncio.create_task(model.complete(ask(), Decoding(max_new_tokens=100_000)))
        await asyncio.to_thread(started.wait)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await asyncio.to_thread(ended.wait, 60)

    asyncio.run(leave())


def test_a_missing_shard_is_named(copy: Path) -> None:
    (copy / "model-00002-of-00004.safetensors").unlink()
    with pytest.raises(ModelError, match=r"incomplete: model-00002-of-00004\.safetensors missing"):
        load_model(str(copy))


def test_a_missing_tensor_is_not_filled_with_random_numbers(copy: Path) -> None:
    index = json.loads((copy / "model.safetensors.index.json").read_text())["weight_map"]
    name = next(key for key in index if key.endswith("layers.0.mlp.up_proj.weight"))
    tensors = load_file(copy / index[name])
    del tensors[name]
    save_file(tensors, copy / index[name], metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensor is missing.*up_proj"):
        LocalModel.load(copy)


def test_quantized_weights_are_refused_and_not_read_without_their_scales(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(ModelError, match=r"are quantized \(fp8\), and torch does not run those here") as error:
        load_model(str(copy))
    assert "write vllm: before the name" in error.value.hint


def test_broken_weights_are_told_in_one_sentence(copy: Path) -> None:
    (copy / "model-00001-of-00004.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ModelError, match=r"cannot be read: its header would end at byte .*, and the file at 12"):
        LocalModel.load(copy)


def test_a_broken_tokenizer_is_told_in_one_sentence(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{")
    (copy / "vocab.json").write_text("{")
    with pytest.raises(ModelError, match="tokenizer"):
        LocalModel.load(copy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "no config.json"),
        (lambda path: path.write_text("x"), "is a file"),
        (lambda path: (path.mkdir(), (path / "adapter_config.json").write_text("{}")), "LoRA adapter"),
        (lambda path: (path.mkdir(), (path / "config.json").write_text("{")), "cannot read"),
        (lambda path: (path.mkdir(), (path / "config.json").write_text('{"model_type": "llama"}')), "'llama' model"),
    ],
)
def test_what_is_no_usable_checkpoint_is_refused(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "model")
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path / "model"))


def test_a_checkpoint_whose_processor_stops_earlier_keeps_its_own_limit(copy: Path) -> None:
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    settings["size"] = {"shortest_edge": 4096, "longest_edge": 65536}
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    assert LocalModel.load(copy).profile.budget.max_pixels == 65536
    assert LocalModel.load(copy, max_pixels=131072).profile.budget.max_pixels == 131072


def test_patch_settings_that_contradict_the_model_are_refused(copy: Path) -> None:
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(settings | {"patch_size": 14}))
    with pytest.raises(ModelError, match="patches of 14 px"):
        open_checkpoint(copy)


TRY = """
import asyncio, sys
{before}
from PIL import Image
from p2r.models.load import load_model
from p2r.dialogue import Decoding, Prompt
prompt = Prompt("perceiver", "", "Where?", (Image.new("RGB", (64, 64)),), "t")
print(asyncio.run(load_model(sys.argv[1]).complete(prompt, Decoding(max_new_tokens=4))).usage.generated_tokens)
"""


def run(code: str, *arguments: str, path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), environment.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600, env=environment
    )


def test_it_works_without_torchvision(folder: Path) -> None:
    done = run(TRY.format(before="sys.modules['torchvision'] = None"), str(folder))
    assert done.stdout.strip() == "4", done.stderr
    assert done.stderr == ""


@pytest.mark.slow
def test_it_works_beside_a_torchvision_that_does_not_fit(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    for before in (
        "",
        "import transformers; transformers.utils.is_torchvision_available()",
        "import p2r.training.engines.local.policy",
    ):
        done = run(TRY.format(before=before), str(folder), path=tmp_path)
        assert done.stdout.strip() == "4", done.stderr


def test_a_hub_that_cannot_be_reached_is_told_in_one_sentence(tmp_path: Path) -> None:
    code = """
from p2r.errors import ModelError
from p2r.models.load import load_model
try:
    load_model("hongxingli/P2R-4B")
except ModelError as error:
    print(error.message, error.hint, sep="|")
"""
    done = run(code, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
    message, hint = done.stdout.strip().split("|")
    assert message == "cannot reach the Hugging Face hub for 'hongxingli/P2R-4B', and it is not in the local cache"
    assert "folder" in hint
    assert done.stderr == ""
