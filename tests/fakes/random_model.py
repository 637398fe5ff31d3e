"""Qwen3-VL with random weights: at the published sizes, and at one that a CPU can time; and a prompt for it."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2r.models.local import backend  # noqa: F401  # first: it keeps a torchvision that does not fit out

# isort: split
import numpy as np
import torch
from transformers import AutoConfig, GenerationConfig, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from p2r.models.local.encoding import EncodedPrompt, quiet_transformers
from p2r.models.local.patches import normalize
from tests.fakes.tiny_checkpoint import make_checkpoint

TEXT = 32  # tokens of a prompt that are no image, at least
TOKEN_IDS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Qwen3-VL: of its language part, then of its vision tower."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    channels: int
    inner: int
    vocabulary: int
    vision_hidden: int
    vision_depth: int
    vision_heads: int

    @property
    def token_flops(self) -> int:
        """Of the matrix products of one token through the layers."""
        attention = self.hidden * self.channels * 2 * (self.heads + self.key_heads)
        return 2 * self.layers * (attention + 3 * self.hidden * self.inner)

    def attention_flops(self, num_pairs: float) -> float:
        return 4 * self.layers * self.heads * self.channels * num_pairs

    def vision_flops(self, num_tokens: int) -> float:
        """One image: four patches per token, full attention, twelve times the square of the width per layer."""
        patches, width = 4 * num_tokens, self.vision_hidden
        mergers = 4 * num_tokens * (4 * width) * (4 * width + self.hidden)
        return self.vision_depth * (24 * width**2 * patches + 4 * width * patches**2) + mergers


SIZES = {
    "tiny": Shape(384, 4, 6, 2, 64, 1024, 2000, 192, 3, 3),
    "2b": Shape(2048, 28, 16, 8, 128, 6144, 151936, 1024, 24, 16),
    "4b": Shape(2560, 36, 32, 8, 128, 9728, 151936, 1024, 24, 16),
}


def make_model(
    shape: Shape, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Qwen3VLForConditionalGeneration:
    half = shape.channels // 2
    side = half * 5 // 16  # 20 of 64 in the published models
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.inner,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.key_heads,
            "head_dim": shape.channels,
            "max_position_embeddings": 262144,
            "initializer_range": shape.hidden**-0.5,  # attention is far from even, as in a trained model
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [half - 2 * side, side, side],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": shape.vision_depth,
            "hidden_size": shape.vision_hidden,
            "intermediate_size": 4 * shape.vision_hidden,
            "num_heads": shape.vision_heads,
            "out_hidden_size": shape.hidden,
            "initializer_range": shape.vision_hidden**-0.5,
            "deepstack_visual_indexes": [shape.vision_depth * n // 4 - (n == 4) for n in (1, 2, 3)],
        },
        image_token_id=1900,
        vision_start_token_id=1901,
        vision_end_token_id=1902,
        video_token_id=1903,
        tie_word_embeddings=True,
    )
    config._attn_implementation = "sdpa"
    with torch.device(device):
        return Qwen3VLForConditionalGeneration._from_config(config, dtype=dtype)


def write_checkpoint(
    folder: Path, shape: Shape, *, device: str = "cpu", dtype: torch.dtype = torch.float32, num_files: int = 1
) -> None:
    """The tiny tokenizer and a random model of this size; tokens beyond the tokenizer's are no text."""
    with quiet_transformers():
        make_checkpoint(folder)
        tokens, generation = AutoConfig.from_pretrained(folder), GenerationConfig.from_pretrained(folder)
        torch.manual_seed(0)
        model = make_model(shape, device=device, dtype=dtype)
        for name in TOKEN_IDS:
            setattr(model.config, name, getattr(tokens, name))
        model.generation_config = generation
        (folder / "model.safetensors").unlink()
        num_bytes = sum(weight.nbytes for weight in model.parameters())
        model.save_pretrained(folder, max_shard_size=1 + num_bytes // num_files if num_files > 1 else "50GB")


def make_prompt(num_prompt: int, seed: int = 0) -> EncodedPrompt:
    """One image, as square as it goes, and text around it."""
    rows, columns = image_size(num_prompt)
    random = np.random.default_rng(seed)
    text = random.integers(0, 1000, num_prompt - rows * columns - 2).tolist()
    ids = [*text[:8], 1901, *[1900] * (rows * columns), 1902, *text[8:]]
    patches = random.integers(0, 256, (4 * rows * columns, 3 * 16 * 16), dtype=np.uint8)
    return EncodedPrompt(tuple(ids), (patches,), ((1, 2 * rows, 2 * columns),), (rows * columns,))


def image_size(num_prompt: int) -> tuple[int, int]:
    rows = int((num_prompt - TEXT) ** 0.5)
    return rows, (num_prompt - TEXT) // rows


def repeat_rows(
    model: Qwen3VLForConditionalGeneration, prompts: Sequence[EncodedPrompt], responses_BR: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What a trainer that repeats prompts, of equal lengths, hands to the model."""
    ids = torch.cat([torch.tensor([prompt.token_ids for prompt in prompts]), responses_BR], dim=1).to(model.device)
    patches = [rows for prompt in prompts for rows in prompt.patches]
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == model.config.image_token_id).int(),
        "pixel_values": normalize(patches, device=model.device, dtype=model.dtype),
        "image_grid_thw": torch.tensor([grid for prompt in prompts for grid in prompt.grids], device=model.device),
    }


def read_memory_mb(device: torch.device, *, peak: bool = False) -> float:
    """Of the GPU's tensors, or of this process."""
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 1e6
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    resident_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return resident_pages * resource.getpagesize() / 1e6
