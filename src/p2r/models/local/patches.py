"""Cut sized images into the patches that a Qwen-VL vision tower takes: bytes on the host, floats on the device.

The stock image processor rescales, normalizes and copies each image in float32 on the host, every pixel twice (a still
image is two equal frames). Here bytes are rearranged on the host, and the device makes floats of them: the same numbers
to the bit (the stock formula with rescaling folded into mean and standard deviation), several times faster, with an
eighth of the transfer. Nothing is resized: an image must already have the size at which the model sees it.

Shapes: N patches, P pixels a patch side, T frames (2 in all published checkpoints), D = 3 * T * P * P.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# numpy's methods and torch.from_numpy are only partly typed.

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from p2r.errors import ImageError
from p2r.models.profiles import QWEN2_5_VL, QWEN3_VL, PatchFormat

Bytes: TypeAlias = NDArray[np.uint8]

__all__ = ["QWEN2_5_VL", "QWEN3_VL", "PatchFormat", "normalize", "patchify", "unpatchify"]


def patchify(image: Image.Image, layout: PatchFormat = QWEN3_VL) -> tuple[Bytes, tuple[int, int, int]]:
    """Cut an image into patches in the order in which the vision tower merges them.

    Args:
        image: RGB; both sides are multiples of `layout.factor`.

    Returns:
        (N, 3 * P * P) bytes, each patch as (channel, row, column), and the grid (1, rows, columns) in patches with
        N = rows * columns. The order is Qwen's: merge block by merge block, row by row within each.

    Raises:
        ImageError: not RGB, or a side is not a multiple of the factor.
    """
    if image.mode != "RGB":
        raise ImageError(f"patches need an RGB image, this one is {image.mode}", hint="use image.convert('RGB')")
    width, height = image.size
    size, merge, factor = layout.patch_size, layout.merge_size, layout.factor
    if width % factor or height % factor or not width or not height:
        raise ImageError(
            f"an image of {width} x {height} pixels has no whole number of {factor}-pixel tokens",
            hint="size it with p2r.images.budget.fit first",
        )
    rows, columns = height // factor, width // factor
    run = np.dtype((np.void, size))  # a patch row of one channel moves as one item, not as single bytes
    patches = np.empty((rows, columns, merge, merge, 3, size), dtype=run)
    for channel, plane in enumerate(image.split()):
        runs = np.asarray(plane).view(run).reshape(rows, merge, size, columns, merge)
        patches[:, :, :, :, channel] = runs.transpose(0, 3, 1, 4, 2)
    return patches.view(np.uint8).reshape(-1, 3 * size * size), (1, rows * merge, columns * merge)


def unpatchify(patches: Bytes, grid: tuple[int, int, int], layout: PatchFormat = QWEN3_VL) -> Image.Image:
    """Return the image that `patchify` has cut into these patches, to the bit."""
    _, rows, columns = grid
    size, merge = layout.patch_size, layout.merge_size
    blocks = patches.reshape(rows // merge, columns // merge, merge, merge, 3, size, size)
    pixels: Bytes = blocks.transpose(0, 2, 5, 1, 3, 6, 4).reshape(rows * size, columns * size, 3)
    return Image.fromarray(np.ascontiguousarray(pixels))


def normalize(
    patches: Bytes | Sequence[Bytes],
    layout: PatchFormat = QWEN3_VL,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    frames: int | None = None,
) -> torch.Tensor:
    """Make the `pixel_values` of Qwen's models from bytes: (b / 255 - mean) / std, each frame repeated.

    Args:
        patches: (N, 3 * P * P) bytes of `patchify`, of one image or of several (an array, or a list of arrays).
        device: where the floats are made; only bytes are sent there.
        dtype: the result's dtype; values are computed in float32 first, as the stock processor does.
        frames: 1 leaves out the repeated frame, for a vision tower whose frame weights are summed; None keeps all.

    Returns:
        (N, 3 * T * P * P) on `device`, equal to the bit to the stock (torchvision) processor's float32.
    """
    pixels = np.ascontiguousarray(patches) if isinstance(patches, np.ndarray) else np.concatenate(patches)
    num_frames = layout.temporal_patch_size if frames is None else frames
    scale = 1.0 / layout.rescale_factor
    mean = (torch.tensor(layout.mean) * scale).to(device)[:, None]
    std = (torch.tensor(layout.std) * scale).to(device)[:, None]
    host = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
    bytes_NCP = host.to(device).view(len(pixels), 3, layout.patch_size**2)
    values_NCTP = torch.empty(len(pixels), 3, num_frames, layout.patch_size**2, dtype=torch.float32, device=device)
    first_NCP = values_NCTP[:, :, 0]
    torch.sub(bytes_NCP, mean, out=first_NCP)
    first_NCP.div_(std)
    if num_frames > 1:
        values_NCTP[:, :, 1:] = first_NCP[:, :, None]
    return values_NCTP.view(len(pixels), -1).to(dtype)
