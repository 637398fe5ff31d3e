"""The thin processor against its referee, the family's stock processor (which needs torchvision)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from p2r.dialogue import Prompt
from p2r.errors import DataError, ModelError
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.models.local.patches import normalize
from tests.fakes import stock_torchvision
from tests.fakes.tiny_checkpoint import Family, make_checkpoint

FACTORS: dict[Family, int] = {"qwen3_vl": 32, "qwen2_5_vl": 28, "qwen3_5": 32, "qwen2_vl": 28}

needs_torchvision = pytest.mark.skipif(not stock_torchvision.HAS_TORCHVISION, reason="torchvision is not installed")


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def ask(*images: Image.Image, text: str = "Where is the cat?\nA. left", system: str = "Be brief.") -> Prompt:
    return Prompt("perceiver", system, text, images, "test")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    base = tmp_path_factory.mktemp("checkpoints")
    return {family: make_checkpoint(base / family, family) for family in FACTORS}


@needs_torchvision
@pytest.mark.parametrize("family", FACTORS)
@pytest.mark.parametrize("sides", [((8, 8),), ((8, 12), (16, 8), (9, 11))])
@pytest.mark.parametrize("system", ["Be brief.", ""])
def test_sized_images_and_text_are_encoded_as_by_the_stock_processor(
    folders: dict[Family, Path], family: Family, sides: tuple[tuple[int, int], ...], system: str
) -> None:
    factor = FACTORS[family]
    images = [noise(w * factor, h * factor, seed) for seed, (w, h) in enumerate(sides)]
    prompt = ask(*images, text="Ein Bär? <think> the 12% 3.\n\nthe end", system=system)
    content = [{"type": "image", "image": image} for image in images]
    turns = [{"role": "user", "content": [*content, {"type": "text", "text": prompt.text}]}]
    if system:
        turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    stock = AutoProcessor.from_pretrained(folders[family]).apply_chat_template(
        turns,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        enable_thinking=False,
    )

    checkpoint = open_checkpoint(folders[family])
    ours = PromptEncoder(checkpoint).encode(prompt)

    assert list(ours.token_ids) == stock["input_ids"][0].tolist()
    assert [list(grid) for grid in ours.grids] == stock["image_grid_thw"].tolist()
    assert torch.equal(normalize(ours.patches, checkpoint.patches), stock["pixel_values"])
    image_places = torch.tensor(ours.token_ids) == checkpoint.image_token_id
    assert torch.equal(image_places.int(), stock["mm_token_type_ids"][0].int())
    assert ours.visual_tokens == tuple(w * h for w, h in sides)


@needs_torchvision
def test_a_small_crop_that_the_stock_processor_would_enlarge_is_left_alone(folders: dict[Family, Path]) -> None:
    crop = noise(4 * 32, 4 * 32)
    stock = AutoProcessor.from_pretrained(folders["qwen3_vl"]).image_processor(images=[crop], return_tensors="pt")

    ours = PromptEncoder(open_checkpoint(folders["qwen3_vl"])).encode(ask(crop))

    assert stock["image_grid_thw"].tolist() == [[1, 16, 16]]  # 64 tokens, its minimum
    assert ours.grids == ((1, 8, 8),)


def test_the_newer_layout_encodes_like_the_older(folders: dict[Family, Path], tmp_path: Path) -> None:
    newer = make_checkpoint(tmp_path, newer_layout=True)
    assert not (newer / "chat_template.json").exists()
    prompt = ask(noise(64, 64))
    assert PromptEncoder(open_checkpoint(newer)).render(prompt) == PromptEncoder(
        open_checkpoint(folders["qwen3_vl"])
    ).render(prompt)


def test_a_prompt_without_images_is_encoded(folders: dict[Family, Path]) -> None:
    encoded = PromptEncoder(open_checkpoint(folders["qwen3_vl"])).encode(ask())
    assert encoded.patches == () and encoded.visual_tokens == ()


def test_text_with_the_image_placeholder_is_refused(folders: dict[Family, Path]) -> None:
    encoder = PromptEncoder(open_checkpoint(folders["qwen3_vl"]))
    with pytest.raises(DataError, match=r"holds <\|image_pad\|>"):
        encoder.encode(ask(noise(64, 64), text="what is <|image_pad|>?"))


def test_image_tokens_are_never_truncated_but_refused(tmp_path: Path) -> None:
    encoder = PromptEncoder(open_checkpoint(make_checkpoint(tmp_path, max_position_embeddings=100)))
    with pytest.raises(ModelError, match=r"\d+ tokens \(81 visual\), more than the model's 100") as caught:
        encoder.encode(ask(noise(9 * 32, 9 * 32), text="a long question " * 4))
    assert "max_pixels" in caught.value.hint
    with pytest.raises(ModelError, match=r"\d+ tokens \(4 visual\), more than the model's 100") as caught:
        encoder.encode(ask(noise(2 * 32, 2 * 32), text="a long question " * 100))
    assert caught.value.hint == "shorten the question and its options"


def test_a_checkpoint_without_an_end_token_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    (folder / "generation_config.json").unlink()
    settings = (folder / "tokenizer_config.json").read_text()
    (folder / "tokenizer_config.json").write_text(settings.replace('"eos_token": "<|im_end|>"', '"eos_token": null'))
    with pytest.raises(ModelError, match="names no token that ends a reply"):
        PromptEncoder(open_checkpoint(folder))


def test_a_checkpoint_without_chat_template_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    (folder / "chat_template.json").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        PromptEncoder(open_checkpoint(folder))
