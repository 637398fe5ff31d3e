"""Import this before transformers, in tests that use its stock processors as referees: it makes torchvision importable.

A torchvision wheel links CUDA, so over a CPU build of torch its operators do not load and the import fails. Processors
never call those operators; declaring their names is enough. Without torchvision the tests that need it are skipped.
"""

import importlib
import importlib.util

import torch

FORWARD = ("nms", "qnms", "roi_align", "qroi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
BACKWARD = tuple(f"_{name}_backward" for name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"))

HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None

if HAS_TORCHVISION:
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        _library = torch.library.Library("torchvision", "DEF")
        for _name in (*FORWARD, *BACKWARD):
            _library.define(f"{_name}(Tensor x) -> Tensor")
        importlib.import_module("torchvision")
