"""On the path of verl's environment in tests: PyPI's torchvision is a CUDA build, whose operators a CPU torch lacks."""

import importlib.abc
import sys


class _DeclareOperators(importlib.abc.MetaPathFinder):
    """Declares the operators that torchvision names as it is imported; nothing calls them."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                self.library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.modules.setdefault("_p2r_declared_operators", self)  # a library lives as long as its object


sys.meta_path.insert(0, _DeclareOperators())
