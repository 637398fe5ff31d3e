"""The tensors in a checkpoint's safetensors files, read one at a time and without torch."""

# numpy's views are typed in part:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from p2r.errors import ModelError, reason_of

DtypeName = Literal["float32", "float16", "bfloat16"]
Array: TypeAlias = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint16]

STORED: dict[str, DtypeName] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The dtypes that can be read, by the names that safetensors has for them."""

RAW = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}
"""Dtype -> the one in which numpy reads it. It has no bfloat16, so its bits are read."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file.

    dtype: as safetensors writes it, such as "BF16".
    offset: where its bytes begin in the file.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int

    @property
    def dtype_name(self) -> DtypeName:
        """The dtype by its usual name. Raises ModelError for one that is not a float of 32 or 16 bits."""
        if self.dtype not in STORED:
            raise ModelError(
                f"{self.name} in {self.path} is stored as {self.dtype}, which cannot be exported",
                hint=f"export the model that it was quantized from, stored as {', '.join(STORED)}",
            )
        return STORED[self.dtype]

    def read_raw(self) -> Array:
        """Map the values as they are stored; those of bfloat16 as their bits."""
        name = self.dtype_name
        return cast("Array", np.memmap(self.path, RAW[name], "r", self.offset, self.shape))

    def read(self) -> NDArray[np.float32]:
        """Read the values in float32, which holds those of each dtype exactly."""
        raw = self.read_raw()
        if self.dtype != "BF16":
            return raw.astype(np.float32)
        return (raw.astype(np.uint32) << 16).view(np.float32)


def find_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors in the safetensors files of a folder, by their names, without reading their values.

    Raises:
        ModelError: a file is broken.
    """
    found: dict[str, StoredTensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                num_bytes = int.from_bytes(file.read(8), "little")
                entries = json.loads(file.read(num_bytes))
            for name, entry in entries.items():
                if name != "__metadata__":
                    begin, end = entry["data_offsets"]
                    tensor = StoredTensor(path, name, tuple(entry["shape"]), entry["dtype"], 8 + num_bytes + begin)
                    found[name] = tensor
                    if tensor.offset + end - begin > path.stat().st_size:
                        raise ModelError(f"{path} is cut short: it ends before {name} does", hint="get it again")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ModelError(
                f"the weights in {path} cannot be read: {reason_of(error)}", hint="get it again"
            ) from error
    return found


def count_bytes(shape: tuple[int, ...], dtype: DtypeName) -> int:
    """Return the size of a tensor in bytes."""
    return prod(shape) * (4 if dtype == "float32" else 2)
