"""A checkpoint as GGUF files: every tensor and key, the tokenizer, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("gguf")

import gguf
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from p2r.errors import ModelError, P2RError
from p2r.models.checkpoint import open_checkpoint
from p2r.models.gguf.export import GgufFiles, export_gguf
from p2r.models.gguf.vocabulary import CONTROL, QWEN_SPLIT, USER_DEFINED
from p2r.models.gguf.weights import DtypeName
from p2r.models.nano import CHECKPOINT
from tests.fakes.tiny_checkpoint import NOT_SPECIAL, SPECIAL, make_checkpoint

F32, F16, BF16 = "F32", "F16", "BF16"
SUFFIX = {"float32": F32, "float16": F16, "bfloat16": BF16}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "model", sharded=True)


@pytest.fixture(scope="module")
def files(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> GgufFiles:
    return export_gguf(open_checkpoint(tiny), tmp_path_factory.mktemp("gguf") / "mine")


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def read(path: Path) -> dict[str, Any]:
    """The values of a file's keys."""
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def read_tensors(path: Path) -> dict[str, tuple[str, np.ndarray[Any, Any]]]:
    """The tensors of a file: their dtype and their values in float32, in numpy's order of dimensions."""
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        found[tensor.name] = tensor.tensor_type.name, gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
    return found


def read_weights(folder: Path) -> dict[str, Any]:
    return {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    weights = read_weights(folder)
    change(weights)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    save_file(weights, folder / "model.safetensors")


def name_by_referee(source: str, num_layers: int, depth: int) -> str:
    """The name that the package gguf, whose table is llama.cpp's own, has for a tensor."""
    language = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3VL, num_layers)
    vision = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, depth)
    plain = source.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
    table = vision if plain.startswith("visual.") else language
    name = table.get_name(plain, try_suffixes=(".weight", ".bias"))
    assert name is not None, source
    return name


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
def test_every_tensor_has_its_name_its_shape_and_its_values(tiny: Path, tmp_path: Path, dtype: DtypeName) -> None:
    files = export_gguf(open_checkpoint(tiny), tmp_path / "mine", dtype=dtype)
    written = read_tensors(files.language) | read_tensors(files.vision)
    merged = {
        f"model.visual.{source}.{kind}": f"{name}.{kind}"
        for kind in ("weight", "bias")
        for source, name in {
            "merger.norm": "v.post_ln",
            "merger.linear_fc1": "mm.0",
            "merger.linear_fc2": "mm.2",
            **{f"deepstack_merger_list.{k}.norm": f"v.deepstack.{k}.norm" for k in (0, 1)},
            **{f"deepstack_merger_list.{k}.linear_fc{n}": f"v.deepstack.{k}.fc{n}" for k in (0, 1) for n in (1, 2)},
        }.items()
    }
    expected: dict[str, Any] = {}
    for source, values in read_weights(tiny).items():
        if source.endswith("patch_embed.proj.weight"):
            expected["v.patch_embd.weight"], expected["v.patch_embd.weight.1"] = values[:, :, 0], values[:, :, 1]
        else:
            expected[merged.get(source) or name_by_referee(source, 3, 2)] = values
    assert written.keys() == expected.keys() and len(written) == 3 * 11 + 2 + 2 * 12 + 4 + 3 * 6
    for name, (stored, values) in written.items():
        is_small = values.ndim != 2 or name == "v.position_embd.weight"
        assert stored == (F32 if is_small else SUFFIX[dtype]), name
        wanted = expected[name].to(torch.float32 if is_small else getattr(torch, dtype)).float().numpy()
        assert values.shape == wanted.shape and np.array_equal(values, wanted), name


def test_a_checkpoint_in_float32_stays_so(copy: Path, tmp_path: Path) -> None:
    change_weights(copy, lambda weights: weights.update({name: value.float() for name, value in weights.items()}))
    files = export_gguf(open_checkpoint(copy), tmp_path / "mine")
    assert files.language.name == "mine-F32.gguf"
    kernels = read_weights(copy)["model.visual.patch_embed.proj.weight"]
    written = read_tensors(files.vision)
    for frame, name in enumerate(("v.patch_embd.weight", "v.patch_embd.weight.1")):
        assert np.array_equal(written[name][1], kernels[:, :, frame].numpy())


def test_a_deepstack_merger_bears_the_number_of_its_block(copy: Path, tmp_path: Path) -> None:
    vision = json.loads((copy / "config.json").read_text())["vision_config"]
    change(copy / "config.json", vision_config=vision | {"deepstack_visual_indexes": [1, 0]})
    files = export_gguf(open_checkpoint(copy), tmp_path / "mine")
    weights = read_weights(copy)
    for index, block in enumerate((1, 0)):
        wanted = weights[f"model.visual.deepstack_merger_list.{index}.linear_fc1.weight"].float().numpy()
        assert np.array_equal(read_tensors(files.vision)[f"v.deepstack.{block}.fc1.weight"][1], wanted)


def test_a_head_of_its_own_is_written(copy: Path, tmp_path: Path) -> None:
    text = json.loads((copy / "config.json").read_text())["text_config"]
    change(copy / "config.json", tie_word_embeddings=False, text_config=text | {"tie_word_embeddings": False})
    head = torch.randn(text["vocab_size"], 64).bfloat16()
    change_weights(copy, lambda weights: weights.update({"lm_head.weight": head}))
    files = export_gguf(open_checkpoint(copy), tmp_path / "mine")
    stored, values = read_tensors(files.language)["output.weight"]
    assert stored == BF16 and np.array_equal(values, head.float().numpy())


def test_a_head_beside_a_tied_one_is_left_out_as_transformers_does(copy: Path, tmp_path: Path) -> None:
    change_weights(copy, lambda weights: weights.update({"lm_head.weight": torch.zeros(4, 4)}))
    files = export_gguf(open_checkpoint(copy), tmp_path / "mine")
    assert "output.weight" not in read_tensors(files.language)


def test_the_keys_of_the_language_model(files: GgufFiles, tiny: Path) -> None:
    keys = read(files.language)
    config = json.loads((tiny / "config.json").read_text())["text_config"]
    assert {name: value for name, value in keys.items() if name.startswith("qwen3vl.")} == {
        "qwen3vl.context_length": 4096,
        "qwen3vl.embedding_length": 64,
        "qwen3vl.block_count": 3,
        "qwen3vl.feed_forward_length": 96,
        "qwen3vl.attention.head_count": 4,
        "qwen3vl.attention.head_count_kv": 2,
        "qwen3vl.attention.key_length": 16,
        "qwen3vl.attention.value_length": 16,
        "qwen3vl.attention.layer_norm_rms_epsilon": pytest.approx(config["rms_norm_eps"]),
        "qwen3vl.vocab_size": config["vocab_size"],
        "qwen3vl.rope.dimension_count": 16,
        "qwen3vl.rope.dimension_sections": [4, 2, 2, 0],
        "qwen3vl.rope.freq_base": 5e6,
        "qwen3vl.n_deepstack_layers": 2,
    }
    assert [keys[f"general.{name}"] for name in ("architecture", "type", "name")] == ["qwen3vl", "model", "mine"]
    assert keys["general.file_type"] == gguf.LlamaFileType.MOSTLY_BF16
    assert files.language.name == "mine-BF16.gguf" and files.vision.name == "mmproj-mine-BF16.gguf"
    template = json.loads((tiny / "chat_template.json").read_text())["chat_template"]
    assert keys["tokenizer.chat_template"] == template
    tokens = keys["tokenizer.ggml.tokens"]
    named = {name: tokens[keys[f"tokenizer.ggml.{name}_token_id"]] for name in ("eos", "eot", "padding", "bos")}
    assert named == {"eos": "<|im_end|>", "eot": "<|endoftext|>", "padding": "<|endoftext|>", "bos": "<|endoftext|>"}
    assert keys["tokenizer.ggml.add_bos_token"] is False


def test_the_tokenizers_own_end_comes_first_where_it_ends_replies(copy: Path, tmp_path: Path) -> None:
    ends = json.loads((copy / "generation_config.json").read_text())["eos_token_id"]
    change(copy / "generation_config.json", eos_token_id=[*reversed(ends)])
    keys = read(export_gguf(open_checkpoint(copy), tmp_path / "mine").language)
    assert [keys[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "eot")] == ends
    change(copy / "generation_config.json", eos_token_id=ends[1])
    keys = read(export_gguf(open_checkpoint(copy), tmp_path / "other").language)
    assert keys["tokenizer.ggml.eos_token_id"] == ends[1] and "tokenizer.ggml.eot_token_id" not in keys


def test_the_keys_of_the_vision_encoder(files: GgufFiles) -> None:
    keys = read(files.vision)
    assert {name: value for name, value in keys.items() if name.startswith("clip.")} == {
        "clip.has_vision_encoder": True,
        "clip.projector_type": "qwen3vl_merger",
        "clip.use_gelu": True,
        "clip.vision.projection_dim": 64,
        "clip.vision.image_size": 128,
        "clip.vision.patch_size": 16,
        "clip.vision.embedding_length": 32,
        "clip.vision.feed_forward_length": 64,
        "clip.vision.block_count": 2,
        "clip.vision.attention.head_count": 2,
        "clip.vision.attention.layer_norm_epsilon": pytest.approx(1e-6),
        "clip.vision.spatial_merge_size": 2,
        "clip.vision.is_deepstack_layers": [True, True],
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        "clip.vision.image_min_pixels": 65536,
        "clip.vision.image_max_pixels": 4096 * 32 * 32,
    }
    assert [keys[f"general.{name}"] for name in ("architecture", "type", "name")] == ["clip", "mmproj", "mine"]


@pytest.mark.parametrize("spelled", ["rope_scaling beside rope_theta", "no theta"])
def test_older_configs_are_read(copy: Path, tmp_path: Path, spelled: str) -> None:
    text = json.loads((copy / "config.json").read_text())["text_config"]
    rope = text.pop("rope_parameters")
    older = {"rope_scaling": {"rope_type": "default", "mrope_section": rope["mrope_section"]}}
    if spelled != "no theta":
        older["rope_theta"] = 123.0
    change(copy / "config.json", text_config=text | older)
    keys = read(export_gguf(open_checkpoint(copy), tmp_path / "mine").language)
    assert keys["qwen3vl.rope.freq_base"] == (5e6 if spelled == "no theta" else 123.0)


def test_the_tokenizer_comes_back(files: GgufFiles, tiny: Path) -> None:
    keys = read(files.language)
    tokens, kinds = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    merges = [tuple(pair.split(" ")) for pair in keys["tokenizer.ggml.merges"]]
    special = {text for text, kind in zip(tokens, kinds, strict=True) if kind == CONTROL}
    added = {text for text, kind in zip(tokens, kinds, strict=True) if kind == USER_DEFINED}
    assert (special, added) == (set(SPECIAL), set(NOT_SPECIAL))
    vocab = {text: index for index, text in enumerate(tokens) if text not in special | added}
    again = Tokenizer(BPE(vocab, merges))
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated")
    again.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    again.decoder = decoders.ByteLevel()
    again.add_special_tokens([AddedToken(text, special=True) for text in tokens if text in special])
    again.add_tokens([AddedToken(text, normalized=False) for text in tokens if text in added])
    own = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.pre"]) == ("gpt2", "qwen2")
    for text in ("<|im_start|>user\nWhere is the other one?<think>in the then</think>", "it's 1234, naïve 漢字\n\n  x"):
        ids = own.encode(text).ids
        assert again.encode(text).ids == ids
        assert again.decode(ids, skip_special_tokens=False) == text


def test_rows_of_the_table_without_a_token_are_unused(tmp_path: Path) -> None:
    files = export_gguf(open_checkpoint(CHECKPOINT), tmp_path / "nano")
    keys = read(files.language)
    assert len(keys["tokenizer.ggml.tokens"]) == len(keys["tokenizer.ggml.token_type"]) == 1280
    assert (keys["tokenizer.ggml.tokens"][-1], keys["tokenizer.ggml.token_type"][-1]) == ("[PAD1279]", 5)
    assert keys["tokenizer.ggml.pre"] == "gpt-2" and "coordinates" in files.notes[0]
    assert read(files.vision)["clip.vision.image_max_pixels"] == 65536


def test_merged_weights_are_said_to_be_rounded(copy: Path, tmp_path: Path, files: GgufFiles) -> None:
    (copy / "adapter").mkdir()
    (copy / "adapter" / "adapter_config.json").write_text("{}")
    assert "rounded" in export_gguf(open_checkpoint(copy), tmp_path / "mine").notes[0]
    assert files.notes == ()


def test_progress_counts_every_tensor(tiny: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    export_gguf(open_checkpoint(tiny), tmp_path / "mine", on_progress=lambda *counts: seen.append(counts))
    assert seen == [(done, 81) for done in range(1, 82)]


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def configure(part: str = "", **values: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        own = json.loads((folder / "config.json").read_text()).get(part, {})
        change(folder / "config.json", **({part: own | values} if part else values))

    return apply


def tokenize(name: str, **values: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        own = json.loads((folder / "tokenizer.json").read_text())[name]
        change(folder / "tokenizer.json", **{name: own | values})

    return apply


def weigh(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda folder: change_weights(folder, change)


NORM, OTHER_SPLIT = "model.language_model.norm.weight", {"type": "Split", "pattern": {"Regex": "[a-z]+"}}
ADDED = {"id": 9999, "content": "<far>", "special": True}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (configure(model_type="qwen3_vl_moe"), "is a 'qwen3_vl_moe' model"),
        (configure("text_config", head_dim="wide"), r"config.json does not describe a Qwen3-VL: text_config.head_dim"),
        (
            configure("text_config", rope_parameters={"mrope_section": [4, 2]}),
            r"mrope_section is \[4, 2\]: it needs at least 3",
        ),
        (
            configure("text_config", rope_parameters={"mrope_section": [4, 2, 2], "rope_type": "yarn"}),
            "has rope_parameters .*yarn",
        ),
        (
            configure("text_config", rope_parameters={"mrope_section": [4, 2, 2], "mrope_interleaved": False}),
            "has rope_parameters",
        ),
        (configure("vision_config", temporal_patch_size=3), "has temporal_patch_size 3"),
        (configure("vision_config", deepstack_visual_indexes=[0, 2]), r"has deepstack_visual_indexes \[0, 2\]"),
        (configure("text_config", intermediate_size=100), r"is of shape \(96, 64\), and by config.json of \(100, 64\)"),
        (configure("text_config", num_hidden_layers=4), "lacks 11 tensors of a Qwen3-VL, such as .*layers.3"),
        (configure("text_config", num_hidden_layers=2), "has 11 tensors that llama.cpp's Qwen3-VL has no place for"),
        (weigh(lambda weights: weights.pop(NORM)), f"lacks 1 tensor of a Qwen3-VL, such as {NORM}"),
        (weigh(lambda weights: weights.update({NORM: weights[NORM].to(torch.int8)})), "is stored as I8"),
        (lambda folder: min(folder.glob("*.safetensors")).unlink(), "is incomplete: model-00001"),
        (remove("tokenizer.json"), "has no tokenizer.json"),
        (remove("chat_template.json"), "names no chat template"),
        (tokenize("model", type="Unigram"), "model.type is 'Unigram'"),
        (
            tokenize("pre_tokenizer", pretokenizers=[OTHER_SPLIT]),
            r"splits text by '\[a-z\]\+', a pattern that llama.cpp",
        ),
        (tokenize("pre_tokenizer", pretokenizers="none"), "is not a byte-level BPE tokenizer"),
        (lambda folder: change(folder / "tokenizer.json", added_tokens=[ADDED]), "has a token 9999, '<far>'"),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_is_left(
    copy: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(copy)
    with pytest.raises(ModelError, match=message):
        export_gguf(open_checkpoint(copy), tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_a_file_of_weights_that_was_cut_is_said(copy: Path, tmp_path: Path) -> None:
    last = sorted(copy.glob("*.safetensors"))[-1]
    whole = last.read_bytes()
    for kept, message in ((len(whole) - 1, "are cut short"), (20, "cannot be read"), (0, "cannot be read")):
        last.write_bytes(whole[:kept])
        with pytest.raises(ModelError, match=message):
            export_gguf(open_checkpoint(copy), tmp_path / "mine")


def test_numbers_beyond_float16_are_refused(copy: Path, tmp_path: Path) -> None:
    name = "model.language_model.embed_tokens.weight"
    change_weights(copy, lambda weights: weights[name].__setitem__((0, 0), 70000.0))
    with pytest.raises(ModelError, match=r"embed_tokens\.weight has a weight of 70144, and float16 ends at 65504"):
        export_gguf(open_checkpoint(copy), tmp_path / "mine", dtype="float16")
    assert not (tmp_path / "mine").exists()
    export_gguf(open_checkpoint(copy), tmp_path / "mine")


def test_other_checkpoints_are_refused_by_name(tmp_path: Path, copy: Path) -> None:
    other = make_checkpoint(tmp_path / "other", "qwen2_5_vl")
    with pytest.raises(ModelError, match="other is a 'qwen2_5_vl' model; GGUF files are written of 'qwen3_vl'"):
        export_gguf(open_checkpoint(other), tmp_path / "mine")
    (copy / "adapter").mkdir()
    (copy / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="is a LoRA adapter, not a whole model") as refused:
        open_checkpoint(copy / "adapter")
    assert f"give {copy}" in refused.value.hint


def test_a_folder_that_exists_is_left_alone(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(P2RError, match="mine exists already"):
        export_gguf(open_checkpoint(tiny), tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_an_unknown_dtype_and_a_missing_package_are_said(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown: Any = "int8"
    with pytest.raises(P2RError, match="there is no dtype 'int8'") as refused:
        export_gguf(open_checkpoint(tiny), tmp_path / "mine", dtype=unknown)
    assert refused.value.hint == "`dtype` is float32, float16, bfloat16"
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match="gguf, which is not installed") as refused:
        export_gguf(open_checkpoint(tiny), tmp_path / "mine")
    assert "[gguf]" in refused.value.hint
