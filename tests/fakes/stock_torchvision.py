"""Import this before transformers, in tests that use its stock processors as referees: it makes torchvision importable.

A torchvision wheel links CUDA, so over a CPU build of torch its operators do not load and the import fails. Processors
never call those operators; declaring their names is enough. Without torchvision the tests that need it are skipped.
"""

import importlib
import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from tests.fakes.torchvision_operators import OPERATORS

REFEREE = Path(sys.prefix) / "referee"
"""Where the Makefile puts torchvision: beside a CPU build of torch, it would stop transformers from importing.
This is a package's folder; tests, benchmarks and recipes find each other as packages, without `sys.path`."""
if REFEREE.is_dir():
    sys.path.append(str(REFEREE))

HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None


def _decode_image(data: torch.Tensor, mode: object = None, apply_exif_orientation: bool = False) -> torch.Tensor:
    """Its image decoder does not load either: the same formats, by Pillow. It reads no BMP, nor does this.
    Both turn an image as its EXIF entry says only when asked to, and only JPEG and PNG."""
    with Image.open(io.BytesIO(data.numpy().tobytes())) as image:
        if image.format not in ("JPEG", "PNG", "GIF", "WEBP"):
            raise RuntimeError("Unsupported image file. Only jpeg, png, webp and gif are currently supported.")
        is_turned = apply_exif_orientation and image.format in ("JPEG", "PNG")
        upright = ImageOps.exif_transpose(image) if is_turned else image
        return torch.from_numpy(np.array(upright.convert("RGB"))).permute(2, 0, 1)


if HAS_TORCHVISION:
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        _library = torch.library.Library("torchvision", "DEF")
        for _name in OPERATORS:
            _library.define(f"{_name}(Tensor x) -> Tensor")
        importlib.import_module("torchvision")
        vars(importlib.import_module("torchvision.io"))["decode_image"] = _decode_image
