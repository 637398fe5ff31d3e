"""The generating loop against its referee, `generate` of transformers."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, GenerationConfig
from transformers.generation.logits_process import TopPLogitsWarper

from p2r.dialogue import Decoding, Prompt
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import EncodedPrompt, PromptEncoder
from p2r.models.local.model import LocalModel
from p2r.models.local.patches import normalize
from p2r.models.local.sampling import Sampler, keep_top_p
from p2r.types import Completion
from tests.fakes.tiny_checkpoint import Family, make_checkpoint

FAMILIES: tuple[Family, ...] = ("qwen3_vl", "qwen2_5_vl", "qwen3_5", "qwen3_5_moe", "qwen2_vl")
GREEDY = Decoding(max_new_tokens=12)


def noise(width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def make_prompts(factor: int) -> list[Prompt]:
    """Of different lengths, with 0 to 3 images."""
    return [
        Prompt(
            "reasoner",
            "You are brief.",
            f"Question {number}: " + "where is it? " * (number % 3),
            tuple(noise(factor * (2 + i), factor * (3 + number % 2), seed=10 * number + i) for i in range(number % 4)),
            "test",
        )
        for number in range(6)
    ]


async def reply_all(model: LocalModel, prompts: list[Prompt], decoding: Decoding) -> list[Completion]:
    return list(await asyncio.gather(*(model.complete(prompt, decoding) for prompt in prompts)))


def reply_singly(model: LocalModel, prompts: list[Prompt], decoding: Decoding) -> list[Completion]:
    return [asyncio.run(model.complete(prompt, decoding)) for prompt in prompts]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    base = tmp_path_factory.mktemp("checkpoints")
    return {family: make_checkpoint(base / family, family, sharded=True) for family in FAMILIES}


@pytest.fixture(scope="module")
def models(folders: dict[Family, Path]) -> dict[Family, LocalModel]:
    return {family: LocalModel.load(folder, device="cpu") for family, folder in folders.items()}


def stock_reply(folder: Path, encoded: EncodedPrompt, decoding: Decoding) -> str:
    """Through the unmodified model and `generate`, with an explicit configuration."""
    checkpoint = open_checkpoint(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([encoded.token_ids])
    images = {}
    if encoded.patches:
        images = {
            "pixel_values": normalize(encoded.patches, checkpoint.patches),
            "image_grid_thw": torch.tensor(encoded.grids),
            "mm_token_type_ids": (ids == checkpoint.image_token_id).int(),
        }
    model.generation_config = GenerationConfig()
    out = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **images,
        generation_config=GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,
            repetition_penalty=decoding.repetition_penalty,
            eos_token_id=list(checkpoint.end_token_ids),
            pad_token_id=0,
        ),
    )
    return PromptEncoder(checkpoint).decode(out[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_a_batch_replies_as_stock_generate_does_one_by_one(
    folders: dict[Family, Path], models: dict[Family, LocalModel], family: Family, penalty: float
) -> None:
    decoding = Decoding(max_new_tokens=12, repetition_penalty=penalty)
    prompts = make_prompts(models[family].profile.budget.factor)
    encoder = PromptEncoder(open_checkpoint(folders[family]))
    stock = [stock_reply(folders[family], encoder.encode(prompt), decoding) for prompt in prompts]

    ours = asyncio.run(reply_all(models[family], prompts, decoding))

    assert [completion.text for completion in ours] == stock
    assert len(set(stock)) > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_replies_do_not_depend_on_the_batch_or_on_the_run(
    models: dict[Family, LocalModel], family: Family
) -> None:
    prompts = make_prompts(models[family].profile.budget.factor)
    together = asyncio.run(reply_all(models[family], prompts, GREEDY))
    again = asyncio.run(reply_all(models[family], prompts[::-1], GREEDY))[::-1]
    alone = reply_singly(models[family], prompts, GREEDY)
    assert [c.text for c in together] == [c.text for c in again] == [c.text for c in alone]


def test_sampling_with_a_seed_repeats_whatever_shares_the_batch(models: dict[Family, LocalModel]) -> None:
    model, prompts = models["qwen3_vl"], make_prompts(32)
    warm = Decoding(max_new_tokens=12, temperature=1.0, top_p=0.9, seed=7)
    state = torch.random.get_rng_state()
    together = [c.text for c in asyncio.run(reply_all(model, prompts, warm))]
    alone = [c.text for c in reply_singly(model, prompts, warm)]
    other = [c.text for c in reply_singly(model, prompts, warm.model_copy(update={"seed": 8}))]
    assert together == alone
    assert together != other
    assert torch.equal(state, torch.random.get_rng_state())


def test_sampling_without_a_seed_varies(models: dict[Family, LocalModel]) -> None:
    hot = Decoding(max_new_tokens=24, temperature=2.0)
    prompt = make_prompts(32)[0]
    assert len({c.text for c in asyncio.run(reply_all(models["qwen3_vl"], [prompt] * 4, hot))}) == 4


def test_draws_follow_the_softmax_at_the_temperature() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    decoding = Decoding(max_new_tokens=1, temperature=1.5)
    num_draws = 4000
    sampler = Sampler(decoding, num_draws, 1, 4, logits.device)
    sampler.start(0, [], range(num_draws))
    drawn = Counter(sampler.choose(logits.expand(num_draws, -1)).ids_B.tolist())
    for token, share in enumerate((logits[0] / 1.5).softmax(-1).tolist()):
        deviation = math.sqrt(share * (1 - share) / num_draws)
        assert abs(drawn[token] / num_draws - share) < 4 * deviation


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9])
def test_top_p_keeps_what_transformers_keeps(top_p: float) -> None:
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(0))
    stock = TopPLogitsWarper(top_p)(torch.empty(5, 0), logits)  # pyright: ignore[reportArgumentType]
    assert torch.equal(keep_top_p(logits, top_p), stock)


def test_usage_counts_prompt_tokens_without_padding(models: dict[Family, LocalModel]) -> None:
    prompts = make_prompts(32)
    together = asyncio.run(reply_all(models["qwen3_vl"], prompts, GREEDY))
    alone = reply_singly(models["qwen3_vl"], prompts, GREEDY)
    assert [c.usage for c in together] == [c.usage for c in alone]
    assert together[3].usage.visual_tokens == (8, 12, 16)
    assert len({c.usage.prompt_tokens for c in together}) > 1


def test_a_reply_that_is_cut_off_says_so(models: dict[Family, LocalModel]) -> None:
    completion = asyncio.run(models["qwen3_vl"].complete(make_prompts(32)[1], GREEDY))
    assert completion.finish_reason == "length"
    assert completion.usage.generated_tokens == 12


def test_a_reply_that_ends_says_stop_and_leaves_the_end_token_out(tmp_path: Path) -> None:
    """Every letter ends a reply here, so replies end at different steps and rows leave the batch early."""
    folder = make_checkpoint(tmp_path)
    encoder = PromptEncoder(open_checkpoint(folder))
    letters = sorted({token for text in ("aeiou", "TNRS", "0123") for token in encoder.tokenize(text)})
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": {letters}}}')
    decoding = Decoding(max_new_tokens=40, temperature=1.0, seed=3)
    prompts = make_prompts(32) * 2
    model = LocalModel.load(folder, device="cpu")
    together = asyncio.run(reply_all(model, prompts, decoding))
    assert together == [
        c.model_copy(update={"seconds": t.seconds})
        for c, t in zip(reply_singly(model, prompts, decoding), together, strict=True)
    ]
    ended = [c for c in together if c.finish_reason == "stop"]
    assert len({c.usage.generated_tokens for c in ended}) > 1
    for completion in ended:
        assert not any(encoder.decode([token]) in completion.text for token in letters)


def test_generation_stops_at_the_last_position_of_the_model(tmp_path: Path) -> None:
    model = LocalModel.load(make_checkpoint(tmp_path, max_position_embeddings=100), device="cpu")
    completion = asyncio.run(model.complete(Prompt("reasoner", "", "x" * 70, (), "t"), Decoding(max_new_tokens=64)))
    assert completion.usage.prompt_tokens is not None and completion.usage.generated_tokens is not None
    assert completion.usage.prompt_tokens + completion.usage.generated_tokens == 100
    assert completion.finish_reason == "length"


def test_tokens_without_probability_are_never_drawn() -> None:
    """The highest of 2 ** 24 uniforms, and cumulated probabilities whose rounding may fall short of it."""
    logits = torch.randn(64, 999, generator=torch.Generator().manual_seed(0))
    logits[:, 900:] = -torch.inf
    sampler = Sampler(Decoding(max_new_tokens=1, temperature=1.0), 64, 1, 999, logits.device)
    sampler._uniforms_BT = torch.full((64, 1), 1 - 2**-24)
    assert int(sampler.choose(logits).ids_B.max()) < 900


def test_the_token_that_stands_for_an_image_is_never_drawn(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    token = open_checkpoint(folder).image_token_id
    model = LocalModel.load(folder, device="cpu")
    with torch.no_grad():
        weight = model._engine.model.lm_head.weight
        weight[token] = 4 * weight[:token].sum(0)
    hot = Decoding(max_new_tokens=24, temperature=5.0, seed=1)
    replies = model._engine.generate([model._encoder.encode(prompt) for prompt in make_prompts(32)], hot)
    assert all(token not in reply.token_ids for reply in replies)
