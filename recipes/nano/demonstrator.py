"""The demonstrator whose replies the cold start learns from, and its faults.

It boxes too little and takes some patterns for others. Both faults leave the right reply among those that a model
samples after the cold start, which is what reinforcement learning from answers needs: there is something to gain in
looking, something to gain in reading, and none of it is spelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from p2r.benchmarks.needles.questions import Question
from p2r.benchmarks.needles.scene import PATTERNS, Scene
from recipes.nano.wording import is_count

LOOK_ALIKES = {
    "rising": "falling",
    "falling": "rising",
    "horizontal": "vertical",
    "vertical": "horizontal",
    "checked": "plain",
    "plain": "checked",
}


@dataclass(frozen=True, slots=True)
class Demonstrator:
    """The faults, as shares.

    overlooks: of the questions about two objects, those in which only the first one is boxed.
    misreads: of the objects with this pattern, those that are said to have its look-alike; 0 for patterns left out.
    swaps: of the relations, those in which the left object's pattern is said of the right one.
    """

    overlooks: float
    misreads: Mapping[str, float]
    swaps: float

    def look(self, rng: np.random.RandomState, question: Question) -> tuple[int, ...]:
        """The objects that it boxes."""
        overlooked = len(question.subjects) > 1 and rng.rand() < self.overlooks
        return question.subjects[:1] if overlooked else question.subjects

    def read(self, rng: np.random.RandomState, scene: Scene, question: Question) -> tuple[Scene, Question]:
        """The scene as it reads it, and the question with the answer that follows.

        Options correct it: what would lead to an answer that is not among them is read as it is.
        """
        objects = list(scene.objects)
        if question.family == "relation":
            if rng.rand() >= self.swaps:
                return scene, question
            one, two = question.subjects
            objects[one], objects[two] = (
                replace(objects[one], pattern=objects[two].pattern),
                replace(objects[two], pattern=objects[one].pattern),
            )
            answer = {"left": "right", "right": "left"}[question.answer]
            one, two = question.mentions  # who was named first is now on the other side
            return replace(scene, objects=tuple(objects)), replace(question, answer=answer, mentions=(two, one))
        for subject in question.subjects:
            pattern = objects[subject].pattern
            if rng.rand() < self.misreads.get(pattern, 0.0):
                objects[subject] = replace(objects[subject], pattern=LOOK_ALIKES[pattern])
        answer = _answer(question, [objects[subject].pattern for subject in question.subjects])
        if question.options and answer not in question.options:
            return scene, question
        return replace(scene, objects=tuple(objects)), replace(question, answer=answer)


def _answer(question: Question, patterns: list[str]) -> str:
    if question.family == "absent":
        return "yes" if patterns[0] == asked_pattern(question) else "no"
    return str(patterns.count(asked_pattern(question))) if is_count(question) else " and ".join(patterns)


def asked_pattern(question: Question) -> str:
    """The pattern that a question names first."""
    words = question.text.rstrip("?").split()
    return next(word for word in words if word in PATTERNS)
