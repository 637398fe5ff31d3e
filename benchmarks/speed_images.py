"""Time the image work of one question: ours against plain Pillow and the stock Qwen-VL image processor.

    python -m benchmarks.speed_images [--runs 9] [--max-tokens 4096]

Both sides run alternately in one process on JPEGs made here, with one thread. The table shows medians, their ratio, and
the largest difference between the results (of a color value, 0 to 255; for patchify, of the model's input). The plain
side does what the release and common evaluation code do: draw on the full image, resize all of it, let the processor
make floats.

annotate starts from the sized image, which the perceiver has already used. "first of its size" includes computing the
filter weights, which are cached for images of the same size. "patchify to bytes" is the CPU's share when a GPU makes
the floats; "patchify to floats" makes them on this CPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import PIL
from PIL import Image

from p2r.dialogue import Budget
from p2r.evidence import annotate, annotate_fitted
from p2r.images import resample
from p2r.images.budget import FullImage, fit
from p2r.images.load import FileImage
from p2r.types import Box

SIZES = {"4K": (3840, 2160), "8K": (7680, 4320)}
BOXES = (Box(x1=300, y1=300, x2=380, y2=400), Box(x1=600, y1=500, x2=650, y2=600), Box(x1=80, y1=700, x2=200, y2=790))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; difference is None where there is nothing to compare."""

    name: str
    plain: Callable[[], object]
    ours: Callable[[], object]
    difference: Callable[[], float] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=9, help="runs of each side (default 9)")
    parser.add_argument("--max-tokens", type=int, default=4096, help="pixel budget in visual tokens (default 4096)")
    arguments = parser.parse_args()
    budget = Budget(max_pixels=arguments.max_tokens * 32 * 32)
    print_circumstances(arguments.runs)
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = make_jpeg(Path(folder) / f"{name}.jpg", size)
            full_image = FullImage(FileImage(path).load())
            sized = full_image.fitted(budget)
            print(
                f"\n{name}: {size[0]} x {size[1]} JPEG, {path.stat().st_size / 1e6:.1f} MB, "
                f"sized to {sized.width} x {sized.height} = {sized.width * sized.height // 1024} tokens"
            )
            print(f"{'':34}{'plain ms':>10}{'ours ms':>10}{'ratio':>8}{'largest difference':>22}")
            for row in (*image_rows(path, full_image, budget), *patch_rows(sized)):
                print_row(row, arguments.runs)


def image_rows(path: Path, full_image: FullImage, budget: Budget) -> Iterator[Row]:
    image = full_image.image

    def annotate_new_size(count: int) -> Image.Image:
        resample.forget_weights()
        return annotate_fitted(full_image, BOXES[:count], budget)

    def both_stages_plainly() -> Image.Image:
        fit(image, budget)
        return fit(annotate(image, BOXES[:2]), budget)

    def both_stages() -> Image.Image:
        fresh = FullImage(image)
        fresh.fitted(budget)
        return annotate_fitted(fresh, BOXES[:2], budget)

    yield Row(
        "decode",
        lambda: Image.open(path).convert("RGB"),
        lambda: FileImage(path).load(),
        lambda: diff(Image.open(path).convert("RGB"), FileImage(path).load()),
    )
    yield Row("resize", lambda: fit(image, budget), lambda: FullImage(image).fitted(budget))
    for count in (1, 2, 3):
        yield Row(
            f"annotate + resize, {count} box{'es' * (count > 1)}",
            lambda count=count: fit(annotate(image, BOXES[:count]), budget),
            lambda count=count: annotate_fitted(full_image, BOXES[:count], budget),
            lambda count=count: diff(
                fit(annotate(image, BOXES[:count]), budget), annotate_fitted(full_image, BOXES[:count], budget)
            ),
        )
    yield Row(
        "  2 boxes, first of its size", lambda: fit(annotate(image, BOXES[:2]), budget), lambda: annotate_new_size(2)
    )
    yield Row(
        "both stages: resize, annotate",
        both_stages_plainly,
        both_stages,
        lambda: diff(both_stages_plainly(), both_stages()),
    )


def patch_rows(sized: Image.Image) -> Iterator[Row]:
    """Yield the rows of patchify. They need the extra [local] and are left out without it."""
    if not (find_spec("torch") and find_spec("transformers")):
        print("(patchify: install perceive-to-reason[local] to compare with the stock processor)")
        return
    import torch
    from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil

    from p2r.models.local.patches import normalize, patchify

    torch.set_num_threads(1)
    stock = Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_resize=False
    )

    def patchify_plainly() -> torch.Tensor:
        return stock(sized, return_tensors="pt")["pixel_values"]

    def patchify_to_floats() -> torch.Tensor:
        return normalize(patchify(sized)[0])

    def difference() -> float:
        return float((patchify_plainly() - patchify_to_floats()).abs().max())

    yield Row("patchify to bytes", patchify_plainly, lambda: patchify(sized))
    yield Row("patchify to floats", patchify_plainly, patchify_to_floats, difference)


def print_circumstances(runs: int) -> None:
    packages = {"Python": platform.python_version(), "Pillow": PIL.__version__, "numpy": np.__version__}
    for name in ("torch", "transformers"):
        if find_spec(name):
            packages[name] = __import__(name).__version__
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    print(f"{date}, {find_cpu()}, {os.cpu_count()} cores, one thread used, medians of {runs} runs")
    print(", ".join(f"{name} {version}" for name, version in packages.items()))


def find_cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def print_row(row: Row, runs: int) -> None:
    plain_s: list[float] = []
    ours_s: list[float] = []
    row.plain()
    row.ours()
    for _ in range(runs):
        plain_s.append(measure(row.plain))
        ours_s.append(measure(row.ours))
    plain_ms, ours_ms = statistics.median(plain_s) * 1e3, statistics.median(ours_s) * 1e3
    apart = f"{row.difference():.3g}" if row.difference else ""
    print(f"{row.name:34}{plain_ms:>10.1f}{ours_ms:>10.2f}{plain_ms / ours_ms:>7.1f}x{apart:>22}")


def measure(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def diff(plain: Image.Image, ours: Image.Image) -> float:
    return float(np.abs(np.asarray(plain, dtype=np.int16) - np.asarray(ours, dtype=np.int16)).max())


def make_jpeg(path: Path, size: tuple[int, int]) -> Path:
    """Write an image that resembles a photo: soft shapes, hard edges and sensor noise."""
    rng = np.random.default_rng(0)
    width, height = size
    soft = Image.fromarray(rng.integers(0, 256, (27, 48, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    edges = Image.fromarray(rng.integers(0, 2, (height // 24, width // 24), dtype=np.uint8) * 60).resize(size, 0)
    noise = rng.normal(0, 4, (height, width, 1)).astype(np.float32)
    pixels = np.asarray(soft, dtype=np.float32) * 0.8 + np.asarray(edges, dtype=np.float32)[:, :, None] + noise
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=92)
    return path


if __name__ == "__main__":
    main()
