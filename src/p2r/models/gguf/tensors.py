"""The names that llama.cpp has for the tensors of a Qwen3-VL, and how each of them is stored.

Matrices are stored in the chosen dtype. The rest is small and stays in float32, which llama.cpp asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2r.errors import ModelError, count_nouns
from p2r.models.gguf.shapes import LanguageShape, ModelShape, VisionShape
from p2r.models.gguf.weights import DtypeName, read_values
from p2r.models.headers import TensorHeader

LANGUAGE, VISION, HEAD = "model.language_model.", "model.visual.", "lm_head.weight"
PATCHES = f"{VISION}patch_embed.proj.weight"

LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""The parts of a layer of the language model."""

BLOCK = {
    "norm1": "ln1",
    "attn.qkv": "attn_qkv",
    "attn.proj": "attn_out",
    "norm2": "ln2",
    "mlp.linear_fc1": "ffn_up",
    "mlp.linear_fc2": "ffn_down",
}
"""The parts of a block of the vision encoder."""


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A tensor of a GGUF file.

    name: in the GGUF file.
    source: its name in the checkpoint.
    shape: in the checkpoint.
    is_matrix: stored in the chosen dtype; else in float32.
    frame: of the two images of a video that a patch spans, whose kernels are tensors of their own: the one that is
        taken. None for all other tensors.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    is_matrix: bool = False
    frame: int | None = None

    @property
    def written_shape(self) -> tuple[int, ...]:
        """The shape in the GGUF file, in numpy's order."""
        return self.shape if self.frame is None else (*self.shape[:2], *self.shape[3:])

    def stored_as(self, chosen: DtypeName) -> DtypeName:
        """Return the dtype in the GGUF file."""
        return chosen if self.is_matrix else "float32"

    def read(self, tensor: TensorHeader) -> NDArray[np.float32]:
        """Return the values in float32."""
        values = read_values(tensor)
        return values if self.frame is None else np.ascontiguousarray(values[:, :, self.frame])


def list_language(shape: ModelShape) -> list[TensorPlan]:
    """Return the tensors of the language model."""
    text = shape.text_config
    table = (text.vocab_size, text.hidden_size)
    return [
        TensorPlan("token_embd.weight", f"{LANGUAGE}embed_tokens.weight", table, is_matrix=True),
        *(wanted for layer in range(text.num_hidden_layers) for wanted in _list_layer(text, layer)),
        TensorPlan("output_norm.weight", f"{LANGUAGE}norm.weight", (text.hidden_size,)),
        *([] if shape.is_tied else [TensorPlan("output.weight", HEAD, table, is_matrix=True)]),
    ]


def _list_layer(text: LanguageShape, layer: int) -> Iterator[TensorPlan]:
    hidden, inner, head = text.hidden_size, text.intermediate_size, text.head_dim
    queries, keys = text.num_attention_heads * head, text.num_key_value_heads * head
    matrices = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for part, name in LAYER.items():
        size = head if part in ("self_attn.q_norm", "self_attn.k_norm") else hidden
        shape = matrices.get(part, (size,))
        source = f"{LANGUAGE}layers.{layer}.{part}.weight"
        yield TensorPlan(f"blk.{layer}.{name}.weight", source, shape, is_matrix=part in matrices)


def list_vision(shape: VisionShape) -> list[TensorPlan]:
    """Return the tensors of the vision encoder and of the mergers."""
    width, inner, patch = shape.hidden_size, shape.intermediate_size, shape.patch_size
    wide = width * shape.spatial_merge_size**2
    kernel = (width, shape.in_channels, 2, patch, patch)
    wanted = [
        TensorPlan("v.patch_embd.weight", PATCHES, kernel, frame=0),
        TensorPlan("v.patch_embd.weight.1", PATCHES, kernel, frame=1),
        TensorPlan("v.patch_embd.bias", f"{VISION}patch_embed.proj.bias", (width,)),
        TensorPlan("v.position_embd.weight", f"{VISION}pos_embed.weight", (shape.num_position_embeddings, width)),
    ]
    matrices = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.linear_fc1": (inner, width),
        "mlp.linear_fc2": (width, inner),
    }
    for block in range(shape.depth):
        for part, name in BLOCK.items():
            wanted += _list_linear(f"v.blk.{block}.{name}", f"blocks.{block}.{part}", matrices.get(part, (width,)))
    mergers = [("merger", "v.post_ln", "mm.0", "mm.2", width)]
    for index, block in enumerate(shape.deepstack_visual_indexes):
        name = f"v.deepstack.{block}"
        mergers.append((f"deepstack_merger_list.{index}", f"{name}.norm", f"{name}.fc1", f"{name}.fc2", wide))
    for source, norm, first, second, normed in mergers:
        wanted += _list_linear(norm, f"{source}.norm", (normed,))
        wanted += _list_linear(first, f"{source}.linear_fc1", (wide, wide))
        wanted += _list_linear(second, f"{source}.linear_fc2", (shape.out_hidden_size, wide))
    return wanted


def _list_linear(name: str, source: str, shape: tuple[int, ...]) -> tuple[TensorPlan, TensorPlan]:
    """Return the weight and the bias of a layer, which is a norm where its weight has one dimension."""
    return (
        TensorPlan(f"{name}.weight", f"{VISION}{source}.weight", shape, is_matrix=len(shape) > 1),
        TensorPlan(f"{name}.bias", f"{VISION}{source}.bias", shape[:1]),
    )


def check_tensors(
    wanted: Sequence[TensorPlan], found: Mapping[str, TensorHeader], folder: Path, *, is_tied: bool
) -> None:
    """Make sure that a checkpoint has each tensor that is wanted, in its shape, and no other.

    Raises:
        ModelError: it does not.
    """
    sources = {each.source for each in wanted}
    absent = sorted(sources - found.keys())
    if absent:
        raise ModelError(
            f"{folder} lacks {count_nouns(len(absent), 'tensor')} of a Qwen3-VL, such as {absent[0]}",
            hint="is the checkpoint complete?",
        )
    unknown = sorted(found.keys() - sources - ({HEAD} if is_tied else set()))
    if unknown:
        raise ModelError(
            f"{folder} has {count_nouns(len(unknown), 'tensor')} that llama.cpp's Qwen3-VL has no place for, such as "
            f"{unknown[0]}"
        )
    for each in wanted:
        tensor = found[each.source]
        if tensor.shape != each.shape:
            raise ModelError(
                f"{each.source} in {tensor.path} is of shape {tensor.shape}, and by config.json of {each.shape}",
                hint="do config.json and the weights belong together?",
            )
