"""The sizes of a Qwen3-VL that its config.json states, checked."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from p2r.errors import ModelError, explain_fault
from p2r.models.checkpoint import Checkpoint


class RopeShape(BaseModel):
    """Positions turn the queries and keys in this way. transformers 4 wrote theta beside it."""

    rope_type: str = "default"
    rope_theta: float | None = None
    mrope_section: list[int] = Field(min_length=3, max_length=3)
    mrope_interleaved: bool = True


class LanguageShape(BaseModel):
    """The language model."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: RopeShape = Field(validation_alias=AliasChoices("rope_parameters", "rope_scaling"))
    rope_theta: float | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool | None = None


class VisionShape(BaseModel):
    """The vision encoder, and the mergers that hand its patches to the language model."""

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    in_channels: int = 3
    patch_size: int
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    out_hidden_size: int
    num_position_embeddings: int
    deepstack_visual_indexes: list[int]


class ModelShape(BaseModel):
    """A whole model."""

    text_config: LanguageShape
    vision_config: VisionShape
    tie_word_embeddings: bool = False

    @property
    def is_tied(self) -> bool:
        """The head is the table of embeddings."""
        own = self.text_config.tie_word_embeddings
        return self.tie_word_embeddings if own is None else own

    @property
    def rope_theta(self) -> float:
        """The base of the angles; that of the published models where config.json is silent."""
        return self.text_config.rope.rope_theta or self.text_config.rope_theta or 5e6


def read_shape(checkpoint: Checkpoint) -> ModelShape:
    """Read the sizes of a checkpoint.

    Raises:
        ModelError: it is of another kind than dense Qwen3-VL, or config.json lacks a size.
    """
    place, kind = checkpoint.folder / "config.json", checkpoint.config.get("model_type")
    if kind != "qwen3_vl":
        raise ModelError(
            f"{checkpoint.folder} is a {kind!r} model; GGUF files are written of 'qwen3_vl' models alone",
            hint="llama.cpp's own convert_hf_to_gguf.py knows other kinds",
        )
    try:
        shape = ModelShape.model_validate(checkpoint.config)
    except ValidationError as error:
        faults = "; ".join(explain_fault(fault) for fault in error.errors())
        raise ModelError(
            f"{place} does not describe a Qwen3-VL: {faults}", hint="is the checkpoint complete?"
        ) from error
    rope, vision = shape.text_config.rope, shape.vision_config
    if rope.rope_type != "default" or not rope.mrope_interleaved:
        _refuse(place, "rope_parameters", rope.model_dump(exclude_none=True))
    if vision.temporal_patch_size != 2:
        _refuse(place, "temporal_patch_size", vision.temporal_patch_size)
    if not all(0 <= layer < vision.depth for layer in vision.deepstack_visual_indexes):
        _refuse(place, "deepstack_visual_indexes", vision.deepstack_visual_indexes)
    return shape


def _refuse(place: Path, name: str, value: object) -> None:
    raise ModelError(f"{place} has {name} {value}, which llama.cpp's Qwen3-VL has no place for")
