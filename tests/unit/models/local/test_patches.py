"""Patches against the plain (numpy) form of the family's processor; its torchvision form is in integration."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from p2r.errors import ImageError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from p2r.models.local import model as local  # noqa: E402, F401  # first: it keeps a torchvision that does not fit out of transformers
from p2r.models.local.patches import normalize, patchify, unpatchify  # noqa: E402
from p2r.models.profiles import QWEN2_5_VL, QWEN3_VL, PatchFormat  # noqa: E402

FORMATS = pytest.mark.parametrize("layout", [QWEN3_VL, QWEN2_5_VL], ids=["qwen3_vl", "qwen2_5_vl"])


def noise(columns: int, rows: int, layout: PatchFormat, seed: int = 0) -> Image.Image:
    shape = (rows * layout.factor, columns * layout.factor, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@FORMATS
@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (2, 3), (5, 2)])
def test_pixel_values_are_the_stock_processors(layout: PatchFormat, columns: int, rows: int) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    image = noise(columns, rows, layout)
    stock = Qwen2VLImageProcessorPil(
        patch_size=layout.patch_size,
        image_mean=list(layout.mean),
        image_std=list(layout.std),
        size={"shortest_edge": 1, "longest_edge": 10**8},
    )(images=[image], return_tensors="pt")

    patches, grid = patchify(image, layout)
    values = normalize(patches, layout)

    assert [list(grid)] == stock["image_grid_thw"].tolist()
    assert values.shape == stock["pixel_values"].shape
    assert float((values - stock["pixel_values"]).abs().max()) <= 1e-6


@FORMATS
@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (2, 3), (5, 2)])
def test_patches_are_put_together_to_the_image(layout: PatchFormat, columns: int, rows: int) -> None:
    image = noise(columns, rows, layout)
    assert unpatchify(*patchify(image, layout), layout).tobytes() == image.tobytes()


@FORMATS
def test_every_byte_lands_where_the_merge_order_wants_it(layout: PatchFormat) -> None:
    image = noise(3, 2, layout)
    pixels = np.asarray(image)
    patches, (_, rows, columns) = patchify(image, layout)
    size, merge = layout.patch_size, layout.merge_size
    place = 0
    for block_row in range(rows // merge):
        for block_column in range(columns // merge):
            for row in range(block_row * merge, (block_row + 1) * merge):
                for column in range(block_column * merge, (block_column + 1) * merge):
                    square = pixels[row * size : (row + 1) * size, column * size : (column + 1) * size]
                    assert np.array_equal(patches[place].reshape(3, size, size), square.transpose(2, 0, 1))
                    place += 1
    assert place == len(patches)


def test_several_images_are_normalized_as_one_by_one() -> None:
    first, second = (patchify(noise(2, 2, QWEN3_VL, seed), QWEN3_VL)[0] for seed in (1, 2))
    together = normalize([first, second])
    assert torch.equal(together, torch.cat([normalize(first), normalize(second)]))


def test_one_frame_is_half_of_two_equal_ones() -> None:
    patches, _ = patchify(noise(2, 1, QWEN3_VL))
    one, two = normalize(patches, frames=1), normalize(patches)
    frames = two.view(len(patches), 3, 2, -1)
    assert torch.equal(frames[:, :, 0], frames[:, :, 1])
    assert torch.equal(one.view(len(patches), 3, -1), frames[:, :, 0])


def test_sixteen_bits_are_rounded_from_float32() -> None:
    patches, _ = patchify(noise(1, 1, QWEN2_5_VL), QWEN2_5_VL)
    assert torch.equal(
        normalize(patches, QWEN2_5_VL, dtype=torch.bfloat16), normalize(patches, QWEN2_5_VL).to(torch.bfloat16)
    )


def test_the_image_is_not_modified() -> None:
    image = noise(2, 2, QWEN3_VL)
    before = image.tobytes()
    patches, _ = patchify(image)
    patches[:] = 0
    assert image.tobytes() == before


@pytest.mark.parametrize("size", [(33, 32), (32, 40), (31, 31)])
def test_a_image_that_is_not_sized_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{size[0]} x {size[1]} pixels"):
        patchify(Image.new("RGB", size))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_a_image_that_is_not_rgb_is_refused(mode: str) -> None:
    with pytest.raises(ImageError, match=f"this one is {mode}"):
        patchify(Image.new(mode, (32, 32)))
