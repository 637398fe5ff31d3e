"""Write a Qwen3-VL checkpoint as two GGUF files: `NAME-BF16.gguf`, the language model, and `mmproj-NAME-BF16.gguf`.

llama.cpp takes them as `--model` and `--mmproj`; LM Studio and Ollama know them by these names. Tensors are read and
written one at a time, so the model need not fit into memory.
"""

# gguf is typed in part:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from p2r.errors import ConfigError, ModelError, StorageError, excerpt, install_hint
from p2r.files import check_folder, replace_folder
from p2r.models.checkpoint import Checkpoint, read_chat_template, read_json
from p2r.models.gguf.shapes import ModelShape, read_shape
from p2r.models.gguf.tensors import TensorPlan, check_tensors, list_language, list_vision
from p2r.models.gguf.vocabulary import Vocabulary, find_token, read_vocabulary
from p2r.models.gguf.weights import Array, DtypeName, count_bytes, map_values, name_dtype
from p2r.models.headers import TensorHeader, read_headers

if TYPE_CHECKING:
    from gguf import GGUFWriter

SUFFIXES: dict[DtypeName, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Dtype -> what llama.cpp calls it, in the names of files as well."""

MOST_FLOAT16 = 65504.0

MERGED = "the merged weights are written, which were rounded when the adapter was merged; see docs/guides/train.md"
OTHER_SPLIT = (
    "llama.cpp splits the coordinates of boxes in a question into other tokens than this tokenizer does; p2r's prompts "
    "have none, except in the mode tools"
)


@dataclass(frozen=True, slots=True)
class GgufFiles:
    """The two files that were written.

    language, vision: the files of the language model and of the vision encoder.
    notes: in what the files differ from the checkpoint.
    """

    language: Path
    vision: Path
    notes: tuple[str, ...] = ()


def export_gguf(
    checkpoint: Checkpoint,
    out: Path,
    *,
    dtype: DtypeName | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> GgufFiles:
    """Write a checkpoint as two GGUF files into a new folder, whose name is the model's.

    A checkpoint that was trained with adapters is written as its merged weights.

    Args:
        dtype: of the matrices; by default that of the checkpoint, which loses nothing.
        on_progress: called with the number of tensors that are written, and of all.

    Raises:
        ModelError: the checkpoint is not a dense Qwen3-VL, is incomplete, has what llama.cpp has no place for, or
            numbers that float16 cannot hold; or gguf is not installed.
        ConfigError: there is no such dtype.
        StorageError: `out` exists, or cannot be written.
    """
    if dtype is not None and dtype not in SUFFIXES:
        raise ConfigError(f"there is no dtype {excerpt(dtype)}", hint=f"`dtype` is {', '.join(get_args(DtypeName))}")
    if find_spec("gguf") is None:
        raise ModelError("exporting to GGUF needs gguf, which is not installed", hint=install_hint("gguf"))
    if out.exists():
        raise StorageError(f"{out} exists already", hint="choose another name, or remove it first")
    check_folder(out)
    shape, found = read_shape(checkpoint), read_headers(checkpoint.folder)
    language, vision = list_language(shape), list_vision(shape.vision_config)
    check_tensors([*language, *vision], found, checkpoint.folder, is_tied=shape.is_tied)
    vocabulary = read_vocabulary(checkpoint.folder, shape.text_config.vocab_size)
    dtype = dtype or name_dtype(found[language[0].source])
    name, ending = out.resolve().name, f"{out.resolve().name}-{SUFFIXES[dtype]}.gguf"
    total, num_done = len(language) + len(vision), 0

    def tell() -> None:
        nonlocal num_done
        num_done += 1
        on_progress(num_done, total)

    with replace_folder(out, resumable=False) as draft:
        writer = _open(draft / ending, "qwen3vl", "model", name, dtype)
        _add_language(writer, checkpoint, shape, vocabulary)
        _write(writer, language, found, dtype, tell)
        writer = _open(draft / f"mmproj-{ending}", "clip", "mmproj", name, dtype)
        _add_vision(writer, checkpoint, shape)
        _write(writer, vision, found, dtype, tell)
    notes = [MERGED] if checkpoint.adapter else []
    if not vocabulary.is_exact:
        notes.append(OTHER_SPLIT)
    return GgufFiles(out / ending, out / f"mmproj-{ending}", tuple(notes))


def _open(path: Path, architecture: str, kind: str, name: str, dtype: DtypeName) -> GGUFWriter:
    from gguf import GGML_QUANT_VERSION, GGUFWriter, LlamaFileType

    writer = GGUFWriter(path, architecture)
    writer.add_type(kind)
    writer.add_name(name)
    types = {
        "float32": LlamaFileType.ALL_F32,
        "float16": LlamaFileType.MOSTLY_F16,
        "bfloat16": LlamaFileType.MOSTLY_BF16,
    }
    writer.add_file_type(types[dtype])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    return writer


def _add_language(writer: GGUFWriter, checkpoint: Checkpoint, shape: ModelShape, vocabulary: Vocabulary) -> None:
    text = shape.text_config
    writer.add_context_length(text.max_position_embeddings)
    writer.add_embedding_length(text.hidden_size)
    writer.add_block_count(text.num_hidden_layers)
    writer.add_feed_forward_length(text.intermediate_size)
    writer.add_head_count(text.num_attention_heads)
    writer.add_head_count_kv(text.num_key_value_heads)
    writer.add_key_length(text.head_dim)
    writer.add_value_length(text.head_dim)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_vocab_size(text.vocab_size)
    writer.add_rope_dimension_count(text.head_dim)
    writer.add_rope_dimension_sections([*text.rope.mrope_section, 0])
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_num_deepstack_layers(len(shape.vision_config.deepstack_visual_indexes))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.split)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    _add_special_tokens(writer, checkpoint, shape, vocabulary)


def _add_special_tokens(writer: GGUFWriter, checkpoint: Checkpoint, shape: ModelShape, vocabulary: Vocabulary) -> None:
    """Write which tokens end a reply, pad and begin, and the chat template."""
    path = checkpoint.folder / "tokenizer_config.json"
    settings: Mapping[str, object] = read_json(path) if path.is_file() else {}
    own = shape.text_config.eos_token_id
    ends = checkpoint.end_token_ids or ((own,) if isinstance(own, int) else tuple(own or ()))
    template = read_chat_template(checkpoint.folder)
    if not ends or template is None:
        absent = "token that ends a reply" if template else "chat template"
        raise ModelError(f"the checkpoint {checkpoint.folder} names no {absent}", hint="is the checkpoint complete?")
    named = find_token(vocabulary, settings, "eos_token")
    end = ends[0] if named is None or named not in ends else named
    pad = find_token(vocabulary, settings, "pad_token")
    writer.add_eos_token_id(end)
    for other in [each for each in ends if each != end][:1]:
        writer.add_eot_token_id(other)
    if pad is not None:
        writer.add_pad_token_id(pad)
    begin = shape.text_config.bos_token_id
    writer.add_bos_token_id(next(each for each in (begin, pad, end) if each is not None))
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)


def _add_vision(writer: GGUFWriter, checkpoint: Checkpoint, shape: ModelShape) -> None:
    vision = shape.vision_config
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("qwen3vl_merger")
    writer.add_vision_projection_dim(vision.out_hidden_size)
    writer.add_vision_image_size(math.isqrt(vision.num_position_embeddings) * vision.patch_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_block_count(vision.depth)
    writer.add_vision_head_count(vision.num_heads)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_spatial_merge_size(vision.spatial_merge_size)
    writer.add_vision_use_gelu(True)
    writer.add_vision_is_deepstack_layers([block in vision.deepstack_visual_indexes for block in range(vision.depth)])
    writer.add_vision_image_mean(checkpoint.patches.mean)
    writer.add_vision_image_std(checkpoint.patches.std)
    budget = checkpoint.profile(for_server=True).budget
    writer.add_vision_min_pixels(budget.min_pixels)
    writer.add_vision_max_pixels(budget.max_pixels)


def _write(
    writer: GGUFWriter,
    wanted: Sequence[TensorPlan],
    found: Mapping[str, TensorHeader],
    dtype: DtypeName,
    tell: Callable[[], None],
) -> None:
    """Write the file: what was added to it, and the tensors."""
    from gguf import GGMLQuantizationType

    try:
        for each in wanted:
            own, shape = each.stored_as(dtype), each.written_shape
            kind = GGMLQuantizationType[SUFFIXES[own]]
            writer.add_tensor_info(each.name, shape, np.dtype(np.float32), count_bytes(shape, own), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for each in wanted:
            writer.write_tensor_data(_convert(each, found[each.source], each.stored_as(dtype)))
            tell()
    finally:
        writer.close()


def _convert(wanted: TensorPlan, tensor: TensorHeader, dtype: DtypeName) -> Array | NDArray[np.uint8]:
    """Return a tensor's values in the dtype in which they are stored. Raises ModelError."""
    from gguf import GGMLQuantizationType, quants

    if name_dtype(tensor) == dtype and wanted.frame is None:
        return map_values(tensor)
    values = wanted.read(tensor)
    if dtype == "float16" and (most := float(np.abs(values).max())) > MOST_FLOAT16:
        raise ModelError(
            f"{tensor.name} has a weight of {most:g}, and float16 ends at {MOST_FLOAT16:g}",
            hint="write another `dtype`: bfloat16 or float32",
        )
    return quants.quantize(values, GGMLQuantizationType[SUFFIXES[dtype]])
