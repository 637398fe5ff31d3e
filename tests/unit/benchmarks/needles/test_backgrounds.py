"""Backgrounds: known pixels, the statistics of photographs, and photographs where there are some."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2r.benchmarks import load_benchmark
from p2r.benchmarks.needles import SceneImage, backgrounds
from p2r.benchmarks.needles.backgrounds import NUM_COMPUTED, count_backgrounds, draw_background
from p2r.benchmarks.needles.scene import Scene
from p2r.errors import ConfigError
from p2r.types import Sample


def scene_of(sample: Sample) -> Scene:
    assert isinstance(sample.image, SceneImage)
    return sample.image.scene


@pytest.mark.parametrize(("background", "digest"), [("strokes", "ca547a4b43cb7ab3"), ("natural", "11cca6d5cadf3e19")])
def test_a_known_background_is_unchanged(background: str, digest: str) -> None:
    pixels = draw_background(background, 3, 768, 1.0)
    assert pixels.shape == (960, 960, 3) and pixels.dtype == np.uint8
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == digest


def test_another_process_draws_the_same_pixels() -> None:
    code = (
        "import hashlib; from p2r.benchmarks.needles.backgrounds import draw_background as draw; "
        "print(hashlib.sha256(draw('natural', 1, 768, 1.0).tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert hashlib.sha256(draw_background("natural", 1, 768, 1.0).tobytes()).hexdigest() == other


@pytest.mark.parametrize("index", [0, 7])
def test_natural_backgrounds_have_the_statistics_of_photographs(index: int) -> None:
    """Amplitudes fall as 1/f, at a slope of about -1.2 in photographs; edges make large steps far more common."""
    gray = draw_background("natural", index, 1024, 1.0)[:1024, :1024].astype(float).mean(2)
    window = np.outer(np.hanning(1024), np.hanning(1024))
    amplitude = np.abs(np.fft.fft2((gray - gray.mean()) * window))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(1024), np.fft.fftfreq(1024)))
    edges = np.geomspace(4 / 1024, 0.35, 12)
    means = [amplitude[(frequency >= low) & (frequency < high)].mean() for low, high in pairwise(edges)]
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(means), 1)[0]
    assert -1.5 < slope < -0.9
    steps = np.diff(gray, axis=1)
    assert ((steps - steps.mean()) ** 4).mean() / steps.var() ** 2 > 10, "3 without edges"
    assert 30 < gray.std() < 60


def test_colors_of_natural_backgrounds_stay_duller_than_those_of_objects() -> None:
    pixels = draw_background("natural", 2, 768, 1.0).astype(int)
    spread = pixels.max(2) - pixels.min(2)
    assert 5 < spread.mean() < 40 and np.quantile(spread, 0.999) < 75, "the least colored object spreads over 125"


def test_texture_is_how_much_there_is() -> None:
    for background in ("strokes", "natural"):
        edges = [np.abs(np.diff(draw_background(background, 0, 768, t).astype(int), axis=1)).mean() for t in (0, 1)]
        assert edges[0] < edges[1]


def test_objects_lie_on_the_same_places_of_every_background() -> None:
    first, other = (load_benchmark(f"needles:background={name}", num_samples=3) for name in ("strokes", "natural"))
    for one, two in zip(first, other, strict=True):
        assert (one.question, one.gold_boxes, one.target) == (two.question, two.gold_boxes, two.target)
        assert one.image.load().tobytes() != two.image.load().tobytes()


def test_your_own_photographs_are_used_all_and_upright(tmp_path: Path) -> None:
    for k in range(20):
        Image.new("RGB", (90, 60), (12 * k, 10, 10)).save(tmp_path / f"{k:02d}.png")
    (tmp_path / "notes.txt").write_text("not one")
    assert count_backgrounds(str(tmp_path)) == 20 > NUM_COMPUTED
    drawn = {int(draw_background(str(tmp_path), k, 768, 1.0)[0, 0, 0]) for k in range(20)}
    assert drawn == {12 * k for k in range(20)}
    samples = load_benchmark(f"needles:background={tmp_path},noise=0", num_samples=60)
    seen = {scene_of(sample).background for sample in samples}
    assert len(seen) > 16
    assert np.asarray(samples[0].image.load())[0, 0].tolist()[1:] == [10, 10]


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder without photographs"):
        load_benchmark(f"needles:background={tmp_path}")


@pytest.mark.parametrize("package", list(backgrounds.SHIPPED))
def test_the_photographs_of_a_package_are_used_where_it_is_installed(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, names = backgrounds.SHIPPED[package]
    module, _, folder = place.partition("/")
    monkeypatch.setattr(backgrounds, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"background is {package}, and its photographs are not installed") as error:
        load_benchmark(f"needles:background={package}")
    assert f"pip install {package}" in error.value.hint
    (tmp_path / module / folder).mkdir(parents=True)
    for name in names:
        Image.new("RGB", (50, 60), (1, 2, 3)).save(tmp_path / module / folder / name)
    spec = importlib.util.spec_from_file_location(module, tmp_path / module / "__init__.py")
    assert isinstance(spec, ModuleSpec)
    monkeypatch.setattr(backgrounds, "find_spec", lambda name: spec if name == module else None)
    assert count_backgrounds(package) == len(names)
    sample = load_benchmark(f"needles:background={package},side_px=768", num_samples=1)[0]
    assert sample.id == f"needles:side_px=768,background={package}:0/0"
    assert sample.image.load().size == (768, 768)
    backgrounds._find_photos.cache_clear()
    backgrounds._draw_and_keep.cache_clear()
