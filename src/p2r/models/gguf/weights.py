"""The values in a checkpoint's safetensors files, read one tensor at a time and without torch."""

# numpy's views are typed in part:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from math import prod
from typing import Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from p2r.errors import ModelError
from p2r.models.headers import TensorHeader

DtypeName = Literal["float32", "float16", "bfloat16"]
Array: TypeAlias = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint16]

STORED: dict[str, DtypeName] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The dtypes that can be read, by the names that safetensors has for them."""

RAW = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}
"""Dtype -> the one in which numpy reads it. It has no bfloat16, so its bits are read."""


def name_dtype(tensor: TensorHeader) -> DtypeName:
    """The dtype by its usual name. Raises ModelError for one that is not a float of 32 or 16 bits."""
    if tensor.dtype not in STORED:
        raise ModelError(
            f"{tensor.name} in {tensor.path} is stored as {tensor.dtype}, which cannot be exported",
            hint=f"export the model that it was quantized from, stored as {', '.join(STORED)}",
        )
    return STORED[tensor.dtype]


def map_values(tensor: TensorHeader) -> Array:
    """Map the values as they are stored; those of bfloat16 as their bits."""
    return cast("Array", np.memmap(tensor.path, RAW[name_dtype(tensor)], "r", tensor.offset, tensor.shape))


def read_values(tensor: TensorHeader) -> NDArray[np.float32]:
    """Read the values in float32, which holds those of each dtype exactly."""
    raw = map_values(tensor)
    if tensor.dtype != "BF16":
        return raw.astype(np.float32)
    return (raw.astype(np.uint32) << 16).view(np.float32)


def count_bytes(shape: tuple[int, ...], dtype: DtypeName) -> int:
    """Return the size of a tensor in bytes."""
    return prod(shape) * (4 if dtype == "float32" else 2)
