"""What operations allocate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode


class Allocations(TorchDispatchMode):
    """Notes dtype, number of elements and kind of device of whatever an operation makes, other than views.

    Of a tensor that is split over processes, the part in this process is noted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[torch.dtype, int, str]] = []

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        is_noted = isinstance(result, torch.Tensor) and not isinstance(result, DTensor)
        if is_noted and not any(returned.alias_info for returned in func._schema.returns):
            self.made.append((result.dtype, result.numel(), result.device.type))
        return result
