"""Needles: a procedural benchmark in which one look cannot answer and a second, closer look can.

`Needles(seed=0, num_samples=100)` is a sequence of samples that never changes for the same seed and knobs. Families
(attribute, relation, pair by default) and answer forms (free form, choice) take turns. Seeds from `TRAINING_SEEDS`
upward are reserved for training; results in the documentation use smaller seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from PIL import Image

from p2r.benchmarks.base import Facts
from p2r.benchmarks.needles.knobs import Family, Knobs
from p2r.benchmarks.needles.questions import Question, ask, has_clear_sides
from p2r.benchmarks.needles.render import render
from p2r.benchmarks.needles.scene import Scene, draw_scene
from p2r.errors import ConfigError
from p2r.types import Sample

TRAINING_SEEDS = 1_000_000


@dataclass(frozen=True, slots=True)
class SceneImage:
    """A scene as an image source: pixels are rendered on demand."""

    uri: str
    scene: Scene

    def load(self) -> Image.Image:
        return render(self.scene)

    def read_size(self) -> tuple[int, int]:
        return self.scene.knobs.side_px, self.scene.knobs.side_px


class Needles(Sequence[Sample]):
    """`num_samples` questions, each about its own image. Sample k depends only on (knobs, seed, k).

    Raises:
        ConfigError: the knobs have a family that needs more objects than a scene may have.
    """

    def __init__(self, *, seed: int = 0, num_samples: int = 100, knobs: Knobs | None = None) -> None:
        self.seed, self.num_samples, self.knobs = seed, num_samples, knobs or Knobs()
        least = self.knobs.num_objects[0]
        crowded = [family for family in ("relation", "pair") if family in self.knobs.families]
        if crowded and least < 2:
            raise ConfigError(
                f"needles: the family {crowded[0]} asks about two objects, and num_objects begins at {least}",
                hint="give num_objects=2-6, or families without it",
            )
        label = self.knobs.label
        self.source = f"needles:{label}:{seed}" if label else f"needles:{seed}"

    @property
    def facts(self) -> Facts:
        """The facts about it as a benchmark."""
        is_box = "where" in self.knobs.families
        return Facts("needles", self.num_samples, scored_by="box" if is_box else "answer")

    def __len__(self) -> int:
        return self.num_samples

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(self.num_samples))]
        if not -self.num_samples <= index < self.num_samples:
            raise IndexError(index)
        index %= self.num_samples
        families, forms = self.knobs.families, self.knobs.forms
        family, form = families[index % len(families)], forms[index // len(families) % len(forms)]
        rng = np.random.RandomState([self.seed, index])
        scene, question = draw_question(rng, self.knobs, family, choice=form == "choice")
        return to_sample(scene, question, f"{self.source}/{index}")


def draw_question(rng: np.random.RandomState, knobs: Knobs, family: Family, *, choice: bool) -> tuple[Scene, Question]:
    """Draw a scene and a question of this family about it."""
    scene = draw_scene(rng, knobs, twins=family == "relation", printed=family == "text")
    while family == "relation" and not has_clear_sides(scene):
        scene = draw_scene(rng, knobs, twins=True)
    return scene, ask(rng, scene, family, choice=choice)


def to_sample(scene: Scene, question: Question, name: str) -> Sample:
    """Make a sample, called `name`, of a question about a scene."""
    return Sample(
        id=name,
        benchmark="needles",
        category=question.family,
        image=SceneImage(name, scene),
        question=question.text,
        options=question.options,
        answer_form="choice" if question.options else "free_form",
        target=question.target,
        gold_boxes=tuple(scene.objects[index].box(scene.knobs.side_px) for index in question.subjects),
        chance=question.chance,
    )
