"""Python runs this at its start, in vLLM's processes too: torchvision can be imported over a CPU build of torch.

`stock_torchvision` does the same for the processes of tests, which can do it before they import anything.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

from tests.fakes.torchvision_operators import OPERATORS


class _Declare(MetaPathFinder):
    """Finds nothing, and declares the operators when torchvision is looked for."""

    library: object = None

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname == "torchvision" and self.library is None:
            import torch

            library = torch.library.Library("torchvision", "DEF")
            self.library = library  # what it declares goes with it
            for name in OPERATORS:
                library.define(f"{name}() -> ()")


sys.meta_path.insert(0, _Declare())
