"""What a checkpoint's files say about their tensors, none of which is read. Neither torch nor numpy is needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from p2r.errors import ModelError, reason_of


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """A tensor in a safetensors file.

    dtype: as safetensors writes it, e.g. "BF16".
    offset: where its bytes begin in the file.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int

    @property
    def num_weights(self) -> int:
        return prod(self.shape)


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """The tensors in the safetensors files of a folder, by their names.

    Raises:
        ModelError: a file is broken, or shorter than it says.
    """
    headers: dict[str, TensorHeader] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                num_bytes = int.from_bytes(file.read(8), "little")
                if 8 + num_bytes > size:
                    raise ValueError(f"its header would end at byte {8 + num_bytes}, and the file at {size}")
                entries = json.loads(file.read(num_bytes))
            for name, entry in entries.items():
                if name != "__metadata__":
                    begin, end = entry["data_offsets"]
                    header = TensorHeader(path, name, tuple(entry["shape"]), entry["dtype"], 8 + num_bytes + begin)
                    headers[name] = header
                    if header.offset + end - begin > size:
                        raise ModelError(
                            f"the weights in {path} are cut short: the file ends before {name} does",
                            hint="get the checkpoint again",
                        )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the weights in {path} cannot be read: {reason_of(error)}", hint="get the checkpoint again"
            ) from error
    return headers
