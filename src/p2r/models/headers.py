"""What a checkpoint's files say about their tensors, none of which is read."""

# safetensors has no types:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from safetensors import safe_open

from p2r.errors import ModelError


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """A tensor in a file.

    dtype: as safetensors writes it, e.g. "BF16".
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def num_weights(self) -> int:
        return prod(self.shape)


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """The tensors in the safetensors files of a folder, by their names.

    Raises:
        ModelError: a file is broken.
    """
    headers: dict[str, TensorHeader] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "np") as file:
                for name in file.keys():  # noqa: SIM118  # not a mapping
                    tensor = file.get_slice(name)
                    headers[name] = TensorHeader(tuple(tensor.get_shape()), tensor.get_dtype())
        except Exception as error:  # safetensors raises errors of its own
            raise ModelError(
                f"the weights in {path} cannot be loaded: {error}", hint="get the checkpoint again"
            ) from error
    return headers
