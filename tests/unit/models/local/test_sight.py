"""Images a few at a time and once, beside the tower over all of them."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from p2r.models.local.engine import VisionLanguageModel, fold_patch_embedding  # noqa: E402
from p2r.models.local.patches import normalize  # noqa: E402
from p2r.models.local.sight import Images, Sight  # noqa: E402
from tests.fakes.tiny_policy import FORMATS, Family, make_model  # noqa: E402

GRIDS = ((1, 4, 6), (1, 2, 2), (1, 4, 6), (1, 8, 2), (1, 2, 4))


def make_images(family: Family = "qwen3_vl", grids: Sequence[tuple[int, int, int]] = GRIDS) -> Images:
    draw, values = np.random.default_rng(3), 3 * FORMATS[family].patch_size ** 2
    patches = [draw.integers(0, 256, (rows * columns, values), dtype=np.uint8) for _, rows, columns in grids]
    return Images(patches, grids, FORMATS[family])


def make_frozen(family: Family = "qwen3_vl") -> VisionLanguageModel:
    model = make_model(family)
    model.model.visual.requires_grad_(False)
    return model


def count_runs(model: VisionLanguageModel) -> list[int]:
    """Grows by the number of patches of each run of the tower."""
    runs: list[int] = []
    model.model.visual.register_forward_pre_hook(lambda _, inputs: runs.append(len(inputs[0])))
    return runs


def look(
    model: VisionLanguageModel, sight: Sight, images: Images, *, keep: bool = False, at_once: int | None = None
) -> list[torch.Tensor]:
    """All features of all images, the levels one after the other."""
    with sight.shown_to(model, images, keep=keep, at_once=at_once) as shown:
        output = model.model.get_image_features(shown["pixel_values"], shown["image_grid_thw"], return_dict=True)
    assert "get_image_features" not in vars(model.model)
    levels = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]
    return [each for level in levels for each in level]


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "qwen2_vl"])
@pytest.mark.parametrize("at_once", [1, 30, 1000])
def test_features_are_those_of_the_tower_over_all_images(family: Family, at_once: int) -> None:
    model, images = make_model(family, dtype=torch.float64), make_images(family)
    pixels = normalize(list(images.patches), FORMATS[family], dtype=torch.float64)
    with torch.no_grad():
        stock = model.model.get_image_features(pixels, torch.tensor(images.grids), return_dict=True)
    levels = [stock.pooler_output, *(getattr(stock, "deepstack_features", None) or ())]
    runs = count_runs(model)
    found = look(model, Sight(), images, at_once=at_once)
    assert runs == {1: [24, 4, 24, 16, 8], 30: [28, 24, 24], 1000: [76]}[at_once]
    expected = [each for level in levels for each in level]
    assert len(expected) == (15 if family == "qwen3_vl" else 5)
    assert all(torch.allclose(a, b, atol=1e-12, rtol=0) for a, b in zip(found, expected, strict=True))
    assert not any(each.requires_grad for each in found)


def test_what_is_kept_is_not_looked_at_again_and_goes_with_its_patches() -> None:
    model, images, sight = make_frozen(), make_images(), Sight()
    runs = count_runs(model)
    first = look(model, sight, images, keep=True)
    more = make_images(grids=((1, 2, 6),))
    known = images.patches[1]
    both = Images([known, *more.patches, known], [GRIDS[1], (1, 2, 6), GRIDS[1]], images.patch_format)
    second = look(model, sight, both)
    assert runs == [76, 12]  # the new image alone
    assert torch.equal(second[0], first[1]) and torch.equal(second[2], first[1])
    look(model, sight, more, keep=True)  # it was not to be kept before
    assert runs == [76, 12, 12]
    sight.forget(more)
    look(model, sight, more)
    assert runs == [76, 12, 12, 12]
    assert len(sight._known) == 5
    del images, both, known
    gc.collect()
    assert not sight._known


def test_one_image_in_a_batch_twice_is_looked_at_once() -> None:
    model, one = make_model(), make_images(grids=GRIDS[:1])
    runs = count_runs(model)
    twice = Images([*one.patches, *one.patches], [*one.grids, *one.grids], one.patch_format)
    first, second, *_ = look(model, Sight(), twice)
    assert runs == [24] and torch.equal(first, second)


def test_nothing_is_kept_while_the_tower_learns() -> None:
    model, images, sight = make_model(), make_images(), Sight()
    before = look(model, sight, images, keep=True)
    with torch.no_grad():
        model.model.visual.patch_embed.proj.weight.mul_(1.5)
    assert not torch.equal(look(model, sight, images, keep=True)[0], before[0])


def test_the_tower_is_back_after_an_error() -> None:
    model, images, sight = make_model(), make_images(), Sight()
    with pytest.raises(KeyError), sight.shown_to(model, images):
        raise KeyError
    assert "get_image_features" not in vars(model.model)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "qwen2_vl"])
def test_frames_that_are_summed_in_each_call_are_the_convolution_and_learn_alike(family: Family) -> None:
    """Both frames are equal, so one of them and the sum of their weights do."""
    images = make_images(family)
    stock, folded = (make_model(family, dtype=torch.float32) for _ in range(2))
    assert fold_patch_embedding(folded, keep_frames=True) == 1
    weight = folded.model.visual.patch_embed.proj.weight.requires_grad_(True)
    outputs = []
    for model, frames in ((stock, 2), (folded, 1)):
        pixels = normalize(list(images.patches), FORMATS[family], frames=frames)
        output = model.model.get_image_features(pixels, torch.tensor(images.grids), return_dict=True)
        outputs.append(torch.cat(output.pooler_output))
        outputs[-1].square().sum().backward()
    assert torch.allclose(*outputs, atol=1e-4, rtol=1e-4)
    expected = stock.model.visual.patch_embed.proj.weight.grad
    assert weight.shape == (16, expected[0].numel())  # all of them are saved
    assert torch.allclose(weight.grad.view_as(expected), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
