"""A window of a resized image is the same to the bit as the whole resize, cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from p2r.images.resample import Rect, agrees_with_pillow, resize_window, touched_range


def make_noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def resize_plainly(image: Image.Image, size: tuple[int, int], window: Rect) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC).crop(window)


@st.composite
def windows(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int], Rect]:
    size = draw(st.tuples(st.integers(1, 300), st.integers(1, 300)))
    new_size = draw(st.tuples(st.integers(1, 250), st.integers(1, 250)))
    left, top = draw(st.integers(0, new_size[0] - 1)), draw(st.integers(0, new_size[1] - 1))
    right, bottom = draw(st.integers(left + 1, new_size[0])), draw(st.integers(top + 1, new_size[1]))
    return size, new_size, (left, top, right, bottom)


@given(windows(), st.integers(0, 9))
@settings(max_examples=200)
def test_window_equals_the_whole_resize(case: tuple[tuple[int, int], tuple[int, int], Rect], seed: int) -> None:
    size, new_size, window = case
    image = make_noise(*size, seed=seed)
    ours = resize_window(image.crop, size, new_size, window)
    assert ours.tobytes() == resize_plainly(image, new_size, window).tobytes()


@pytest.mark.parametrize("size", [(100, 400), (400, 100), (60, 61), (4, 399), (4, 401)])
@pytest.mark.parametrize("new_size", [(90, 90), (100, 50), (30, 400), (200, 33)])
def test_order_of_passes_is_that_of_pillow(size: tuple[int, int], new_size: tuple[int, int]) -> None:
    image, window = make_noise(*size), (3, 2, new_size[0] - 1, new_size[1])
    ours = resize_window(image.crop, size, new_size, window)
    assert ours.tobytes() == resize_plainly(image, new_size, window).tobytes()


def test_only_what_the_window_depends_on_is_read() -> None:
    asked: list[Rect] = []
    image = make_noise(1000, 800)

    def read(rect: Rect) -> Image.Image:
        asked.append(rect)
        return image.crop(rect)

    resize_window(read, image.size, (500, 400), (100, 100, 120, 110))
    assert len(asked) == 1
    left, top, right, bottom = asked[0]
    assert 195 <= left <= 200 <= 240 <= right <= 245
    assert 195 <= top <= 200 <= 220 <= bottom <= 225


@given(st.integers(1, 200), st.integers(1, 200), st.integers(-20, 220), st.integers(0, 60))
@settings(max_examples=200)
def test_nothing_outside_the_touched_range_changes(length: int, new_length: int, start: int, num_px: int) -> None:
    first, last = touched_range(length, new_length, start, start + num_px)
    values = np.zeros((1, length, 3), dtype=np.uint8)
    values[:, max(start, 0) : max(start + num_px, 0)] = 255
    resized = np.asarray(Image.fromarray(values).resize((new_length, 1), Image.Resampling.BICUBIC))[0, :, 0]
    changed = np.flatnonzero(resized)
    assert changed.size == 0 or (first <= changed[0] and changed[-1] < last)
    assert first >= 0
    assert last <= new_length


def test_pillow_at_hand_agrees() -> None:
    assert agrees_with_pillow()
