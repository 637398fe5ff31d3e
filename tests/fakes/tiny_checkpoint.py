"""Tiny random checkpoints in the published file layout of Qwen3-VL (and so P2R-4B), Qwen2.5-VL, Qwen3.5 and Qwen2-VL.

The layout of the hub repositories in 2025 and 2026: config.json, sharded safetensors with an index, tokenizer.json
beside vocab.json and merges.txt, tokenizer_config.json, chat_template.json, preprocessor_config.json,
video_preprocessor_config.json, generation_config.json (with sampling defaults that must not leak into greedy decoding).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

Family = Literal["qwen3_vl", "qwen2_5_vl", "qwen3_5", "qwen3_5_moe", "qwen2_vl"]
OLDER: tuple[Family, ...] = ("qwen2_5_vl", "qwen2_vl")
"""Families with patches of 14 pixels."""
OF_16_PIXELS: dict[str, object] = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "patch_size": 16,
    "out_hidden_size": 64,
    "num_position_embeddings": 64,
    "initializer_range": 0.2,
}
"""The vision tower of the other families, which may add to it."""

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
NOT_SPECIAL = ("<think>", "</think>")

TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{- message.content }}{%- else %}
{%- for part in message.content %}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif 'text' in part %}{{- part.text }}{%- endif %}
{%- endfor %}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
THINKING_TEMPLATE = (
    TEMPLATE
    + """
{%- if add_generation_prompt %}{{- '<think>\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{- '\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"""
)
"""A reply begins within a thought unless `enable_thinking` is false, as in Qwen3.5."""


def make_checkpoint(
    folder: Path,
    family: Family = "qwen3_vl",
    *,
    sharded: bool = False,
    max_position_embeddings: int = 4096,
    seed: int = 0,
    newer_layout: bool = False,
) -> Path:
    """Write a checkpoint with random weights; `newer_layout`: chat_template.jinja in place of chat_template.json."""
    folder.mkdir(parents=True, exist_ok=True)
    template = THINKING_TEMPLATE if family.startswith("qwen3_5") else TEMPLATE
    tokens = _write_tokenizer(folder, template, newer_layout=newer_layout)
    model = _model(family, tokens, max_position_embeddings, seed)
    with torch.no_grad():  # random weights would end most replies at once, and put markers into them
        weight = model.get_input_embeddings().weight
        assert isinstance(weight, torch.Tensor)
        weight[[tokens[name] for name in (*SPECIAL, *NOT_SPECIAL)]] = 0.0
    model.save_pretrained(folder, max_shard_size="150KB" if sharded else "1GB")
    _write(folder / "generation_config.json", _generation_config(tokens))
    _write(folder / "preprocessor_config.json", _preprocessor(family))
    _write(
        folder / "video_preprocessor_config.json",
        _preprocessor(family) | {"video_processor_type": "Qwen3VLVideoProcessor"},
    )
    if family in OLDER:
        (folder / "video_preprocessor_config.json").unlink()
    return folder


def _model(family: Family, tokens: dict[str, int], max_position_embeddings: int, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    text = {
        "vocab_size": len(tokens),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": max_position_embeddings,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
    }
    ids = {
        "image_token_id": tokens["<|image_pad|>"],
        "video_token_id": tokens["<|video_pad|>"],
        "vision_start_token_id": tokens["<|vision_start|>"],
        "vision_end_token_id": tokens["<|vision_end|>"],
        "tie_word_embeddings": True,
    }
    if family == "qwen3_vl":
        text["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [4, 2, 2],
            "mrope_interleaved": True,
        }
        vision = OF_16_PIXELS | {"deepstack_visual_indexes": [0, 1]}
        config = Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
        return Qwen3VLForConditionalGeneration(config).bfloat16().eval()
    if family in ("qwen3_5", "qwen3_5_moe"):
        return _make_linear(family, text, ids)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    if family == "qwen2_vl":
        sees = {
            "depth": 2,
            "embed_dim": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "hidden_size": 64,
            "initializer_range": 0.2,
        }
        return (
            Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=sees, **ids))
            .bfloat16()
            .eval()
        )
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 14,
        "out_hidden_size": 64,
        "window_size": 56,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.2,
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    return Qwen2_5_VLForConditionalGeneration(config).bfloat16().eval()


def _make_linear(family: Family, text: dict[str, object], ids: dict[str, object]) -> PreTrainedModel:
    """Make a model whose layers are of linear attention but for the second one."""
    text |= {
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
            "partial_rotary_factor": 0.5,
        },
    }
    if family == "qwen3_5":
        return (
            Qwen3_5ForConditionalGeneration(Qwen3_5Config(text_config=text, vision_config=OF_16_PIXELS, **ids))
            .bfloat16()
            .eval()
        )
    text |= {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    }
    config = Qwen3_5MoeConfig(text_config=text, vision_config=OF_16_PIXELS, **ids)
    return Qwen3_5MoeForConditionalGeneration(config).bfloat16().eval()


def _write_tokenizer(folder: Path, template: str, *, newer_layout: bool) -> dict[str, int]:
    """Byte-level BPE with a few merges, in the three files of Qwen's tokenizer. Returns token -> id."""
    letters = sorted(ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("Ġ", "a"), ("e", "r"), ("o", "n")]
    vocab = {piece: index for index, piece in enumerate([*letters, *("".join(pair) for pair in merges)])}
    added = {name: len(vocab) + index for index, name in enumerate((*SPECIAL, *NOT_SPECIAL))}
    entries = [
        {
            "id": index,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": name in SPECIAL,
        }
        for name, index in added.items()
    ]
    split = {
        "type": "Split",
        "pattern": {
            "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
            r"|\s+(?!\S)|\s+"
        },
        "behavior": "Isolated",
        "invert": False,
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    _write(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": entries,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": vocab,
                "merges": [list(pair) for pair in merges],
            },
        },
    )
    _write(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(entry["id"]): {k: v for k, v in entry.items() if k != "id"} for entry in entries},
        "additional_special_tokens": list(SPECIAL[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 262144,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    _write(folder / "tokenizer_config.json", settings)
    if newer_layout:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    else:
        _write(folder / "chat_template.json", {"chat_template": template})
    return vocab | added


def _generation_config(tokens: dict[str, int]) -> dict[str, object]:
    return {
        "bos_token_id": tokens["<|endoftext|>"],
        "pad_token_id": tokens["<|endoftext|>"],
        "do_sample": True,
        "eos_token_id": [tokens["<|im_end|>"], tokens["<|endoftext|>"]],
        "top_k": 20,
        "top_p": 0.8,
        "repetition_penalty": 1.3,
        "temperature": 0.7,
    }


def _preprocessor(family: Family) -> dict[str, object]:
    common: dict[str, object] = {"temporal_patch_size": 2, "merge_size": 2}
    if family not in OLDER:
        return common | {
            "size": {"longest_edge": 16777216, "shortest_edge": 65536},
            "patch_size": 16,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": "Qwen3VLProcessor",
            "image_processor_type": "Qwen2VLImageProcessorFast",
        }
    return common | {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor" if family == "qwen2_vl" else "Qwen2_5_VLProcessor",
    }


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
