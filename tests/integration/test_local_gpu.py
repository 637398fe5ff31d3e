"""Local models on an NVIDIA GPU."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from p2r.dialogue import Decoding, Prompt
from p2r.models.local.model import LocalModel
from p2r.types import Completion
from tests.fakes.tiny_checkpoint import make_checkpoint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU"),
]

SHORT = Decoding(max_new_tokens=12)


def noise(side: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def make_prompts(side: int = 128, num_prompts: int = 6) -> list[Prompt]:
    return [
        Prompt("reasoner", "", f"Question {n}? " * (1 + n % 3), (noise(side, n),) * (1 + n % 2), "test")
        for n in range(num_prompts)
    ]


def reply_all(model: LocalModel, prompts: Sequence[Prompt], decoding: Decoding = SHORT) -> list[Completion]:
    async def ask() -> list[Completion]:
        return list(await asyncio.gather(*(model.complete(prompt, decoding) for prompt in prompts)))

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), max_position_embeddings=32768)


def test_a_gpu_is_used_with_bfloat16_when_there_is_one(folder: Path) -> None:
    model = LocalModel.load(folder)
    assert (model.device, model.dtype) == ("cuda:0", "bfloat16")
    assert all(completion.usage.generated_tokens == 12 for completion in reply_all(model, make_prompts()))


def test_the_gpu_replies_as_the_cpu_does_in_float32(folder: Path) -> None:
    here = reply_all(LocalModel.load(folder, device="cuda", dtype="float32"), make_prompts())
    there = reply_all(LocalModel.load(folder, device="cpu", dtype="float32"), make_prompts())
    assert [c.text for c in here] == [c.text for c in there]


def test_seeded_sampling_repeats_on_the_gpu(folder: Path) -> None:
    model = LocalModel.load(folder, device="cuda", dtype="float32")
    warm = Decoding(max_new_tokens=12, temperature=1.0, seed=5)
    assert [c.text for c in reply_all(model, make_prompts(), warm)] == [
        reply_all(model, [prompt], warm)[0].text for prompt in make_prompts()
    ]


def test_a_batch_that_does_not_fit_the_gpu_is_halved(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = LocalModel.load(folder, device="cuda", batch_size=16)
    prompts = make_prompts(side=1024, num_prompts=16)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.35e9 / total)
    try:
        replies = reply_all(model, prompts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(replies) == 16
    assert "do not fit into memory" in caplog.text
