"""Models of the CLIP family with random weights, a few thousand of them, and one that comes with code of its own."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

WORDS = ("a", "red", "blue", "green", "block", "sail", "star", "boat", "on", "the", "is", "white")
SIDE = 32

OWN_CODE = '''
import torch
from transformers import CLIPConfig, CLIPModel


class LongConfig(CLIPConfig):
    model_type = "tiny_long_clip"


class LongModel(CLIPModel):
    config_class = LongConfig

    def get_text_features(self, input_ids=None, attention_mask=None, walk_short_pos=True):
        """A text of 248 tokens in the long mode: embeddings are summed, so that every token counts."""
        assert attention_mask is None
        if walk_short_pos:
            return super().get_text_features(input_ids=input_ids[:, :77]).pooler_output
        assert input_ids.shape[1] == 248
        embedded = self.text_model.embeddings.token_embedding(input_ids)
        return self.text_projection(torch.tanh(embedded.sum(dim=1)))
'''
"""As FG-CLIP's: its own class for AutoModelForCausalLM, and a mode for long texts."""


def make_clip(folder: Path, *, seed: int = 0, max_tokens: int = 16) -> Path:
    """Write a CLIP model with its tokenizer and its processor."""
    folder.mkdir(parents=True, exist_ok=True)
    part = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = ["<pad>", "<bos>", "<unk>", *WORDS, "<eos>"]
    text = {"vocab_size": len(words), "max_position_embeddings": max_tokens}
    text |= {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": len(words) - 1}
    config = CLIPConfig(
        text_config={**part, **text},
        vision_config={**part, "image_size": SIDE, "patch_size": 8},
        projection_dim=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(config)
        for weight in model.parameters():
            weight.data.normal_(std=0.2)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", len(words) - 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<bos>", eos_token="<eos>"
    ).save_pretrained(folder)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": SIDE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_convert_rgb": True,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def make_long_clip(folder: Path, *, model_type: str = "clip") -> Path:
    """Write a model whose code lies beside its weights, as FG-CLIP's does."""
    make_clip(folder, max_tokens=77)
    (folder / "own_code.py").write_text(OWN_CODE)
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {
        "model_type": model_type,
        "auto_map": {"AutoConfig": "own_code.LongConfig", "AutoModelForCausalLM": "own_code.LongModel"},
        "architectures": ["LongModel"],
    }
    path.write_text(json.dumps(config))
    return folder
