"""The training scenes, rendered once by all cores: images as patches (bytes), with where everything is in each
image.

Every image goes through the product's own evidence and sizing code, so the model trains on the very pixels it will be
shown. Scenes come in three levels (1, 2-3, 4-6 objects); only the last is what the benchmark asks.
"""

from __future__ import annotations

import multiprocessing
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress

from p2r.benchmarks.needles import TRAINING_SEEDS
from p2r.benchmarks.needles.knobs import Family, Knobs
from p2r.benchmarks.needles.questions import Question, ask, has_clear_sides
from p2r.benchmarks.needles.render import render
from p2r.benchmarks.needles.scene import Scene, draw_scene
from p2r.dialogue import Budget
from p2r.evidence import gather
from p2r.images.budget import FullImage, fit
from p2r.models.local.patches import patchify
from p2r.types import Box
from recipes.nano.architecture import MAX_PIXELS, MIN_PIXELS

BUDGET = Budget(factor=32, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
FEWER_OBJECTS = ((1, 1), (2, 3))
SHARD = 100


@dataclass(frozen=True, slots=True)
class View:
    """A sized image: patches (N, 768) bytes, merged grid (rows, columns), and where it lies in the scene.

    origin, scale: scene pixel p is at ((p - origin) * scale) in this image, per axis (x, y).
    drawn: boxes outlined on it.
    """

    patches: NDArray[np.uint8]
    grid: tuple[int, int]
    origin: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    drawn: tuple[Box, ...] = ()

    def token_at(self, x: float, y: float) -> int | None:
        """Index of the merged token that covers scene pixel (x, y), None when it lies outside."""
        column, row = (x - self.origin[0]) * self.scale[0] / 32, (y - self.origin[1]) * self.scale[1] / 32
        inside = 0 <= row < self.grid[0] and 0 <= column < self.grid[1]
        return int(row) * self.grid[1] + int(column) if inside else None


@dataclass(frozen=True, slots=True)
class Case:
    """One set of evidence: the same question as an open one and as a choice, annotated image, crops."""

    questions: tuple[Question, Question]
    annotated: View
    crops: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One scene with all its images."""

    level: int
    scene: Scene
    full: View
    case: Case | None
    zooms: tuple[View, ...]


def build_pool(folder: Path, counts: tuple[int, int, int], seed: int, knobs: Knobs) -> None:
    """Render counts[level] scenes per level into `folder`, a shard at a time; finished shards are kept on a re-run.

    Scenes of the last level have these knobs, the others the same ones with fewer objects.
    """
    folder.mkdir(parents=True, exist_ok=True)
    levels = [level for level, count in enumerate(counts) for _ in range(count)]
    jobs = [
        (folder / f"{start:06d}.pkl", seed, start, levels[start : start + SHARD], knobs)
        for start in range(0, len(levels), SHARD)
    ]
    jobs = [job for job in jobs if not job[0].exists()]
    with multiprocessing.Pool() as workers, Progress() as progress:
        task = progress.add_task("scenes", total=len(jobs))
        for _ in workers.imap_unordered(_write_shard, jobs):
            progress.advance(task)


def load_pool(folder: Path) -> list[Entry]:
    return [entry for shard in sorted(folder.glob("*.pkl")) for entry in pickle.loads(shard.read_bytes())]


def _write_shard(job: tuple[Path, int, int, list[int], Knobs]) -> None:
    path, seed, start, levels, knobs = job
    entries = [
        _make_entry(np.random.RandomState([TRAINING_SEEDS + seed, start + k]), level, knobs)
        for k, level in enumerate(levels)
    ]
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps(entries))
    part.rename(path)


def _make_entry(rng: np.random.RandomState, level: int, knobs: Knobs) -> Entry:
    if level < len(FEWER_OBJECTS):
        knobs = knobs.model_copy(update={"num_objects": FEWER_OBJECTS[level]})
    twins = level > 0 and bool(rng.rand() < 0.5)
    scene = draw_scene(rng, knobs, twins=twins)
    full_image = FullImage(render(scene))
    full = make_view(full_image.fitted(BUDGET), (0, 0, knobs.side_px, knobs.side_px))
    case = _make_case(rng, scene, full_image) if level > 0 else None
    zooms = tuple(_zoom(rng, scene, full_image.image) for _ in range(2))
    return Entry(level, scene, full, case, zooms)


def _make_case(rng: np.random.RandomState, scene: Scene, full_image: FullImage) -> Case:
    family = draw_family(rng, scene)
    state = rng.get_state()
    opened = ask(rng, scene, family, choice=False)
    rng.set_state(state)
    choice = ask(rng, scene, family, choice=True)
    boxes = [jitter(rng, scene.objects[subject].box(scene.knobs.side_px)) for subject in opened.subjects]
    evidence = gather(full_image, boxes)
    annotated, *crops = evidence.sized(BUDGET)
    views = [make_view(crop, rect) for crop, rect in zip(crops, evidence.record.crops, strict=True)]
    side = scene.knobs.side_px
    return Case((opened, choice), make_view(annotated, (0, 0, side, side), tuple(boxes)), tuple(views))


def draw_family(rng: np.random.RandomState, scene: Scene) -> Family:
    """A family this scene can be asked about; relations count as much as the others together."""
    names = [item.name for item in scene.objects]
    num_unique = sum(names.count(name) == 1 for name in names)
    families: list[Family] = ["attribute"] if num_unique else []
    families += ["pair"] if num_unique > 1 else []
    families += ["relation"] * max(1, len(families)) if can_relate(scene) else []
    return families[rng.randint(len(families))] if families else "relation"


def can_relate(scene: Scene) -> bool:
    """Are there twins, one clearly left of the other?"""
    return len({item.name for item in scene.objects}) < len(scene.objects) and has_clear_sides(scene)


def jitter(rng: np.random.RandomState, box: Box, *, shift: float = 16, stretch: float = 0.13) -> Box:
    """The box moved by N(0, shift) per mille and its sides scaled by exp(N(0, stretch)): what a fair perceiver would
    draw."""
    (x, y), width, height = box.center, box.x2 - box.x1, box.y2 - box.y1
    x, y = x + rng.randn() * shift, y + rng.randn() * shift
    width, height = width * np.exp(rng.randn() * stretch), height * np.exp(rng.randn() * stretch)
    left, top, right, bottom = (
        float(np.clip(round(value), 0, 999)) for value in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    )
    return Box(x1=min(left, 980), y1=min(top, 980), x2=max(right, left + 15), y2=max(bottom, top + 15), label=box.label)


def _zoom(rng: np.random.RandomState, scene: Scene, image: Image.Image) -> View:
    """A closer look at some object than any crop gives: where patterns are learned first."""
    item, side = scene.objects[rng.randint(len(scene.objects))], scene.knobs.side_px
    reach = int(rng.randint(80, 172))
    x, y = item.x + rng.randint(-reach // 3, reach // 3), item.y + rng.randint(-reach // 3, reach // 3)
    rect = (max(0, x - reach), max(0, y - reach), min(side, x + reach), min(side, y + reach))
    return make_view(image.crop(rect).resize((192, 192), Image.Resampling.BICUBIC), rect)


def make_view(image: Image.Image, rect: tuple[int, int, int, int] = (0, 0, 1, 1), drawn: tuple[Box, ...] = ()) -> View:
    """An image as the model sees it. rect: where it lies in the scene, in pixels; not needed to show it."""
    image = fit(image, BUDGET)
    patches, (_, rows, columns) = patchify(image)
    scale = (image.width / (rect[2] - rect[0]), image.height / (rect[3] - rect[1]))
    return View(patches, (rows // 2, columns // 2), (rect[0], rect[1]), scale, drawn)
