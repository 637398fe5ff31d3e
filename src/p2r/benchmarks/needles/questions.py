"""Questions about a scene, balanced so that only the details answer them.

attribute: "What pattern is on the red star?" (one box; 6 patterns).
relation:  "Is the checked red star to the left or right of the plain red star?" (two boxes, left one first). Both
           objects look the same until the badge is read, so one look finds them and cannot tell them apart.
pair:      "What patterns are on the red star and the blue ring?" (two boxes in the order of the question; 36 answers).
text:      "What code is printed on the red star?" (one box; see `codes`).
absent:    "Is there a checked red star in the image?" (one box). There is a red star, and in half of the questions its
           pattern is another one. Asked patterns are uniform either way, so that the wording says nothing.
where:     "Where is the red star?" (one box, which is the answer: Acc@0.5 as in ReasonSeg). One look shows it.

Options of a choice are exchangeable given the question, so blind guessing is right with probability 1 / number of
options: attribute draws the wrong patterns uniformly; pair offers the grid {a, b} x {c, d} of two candidates per
object, in which every option shares a word with two others; relation offers both sides; text offers such a grid of two
characters at two places; absent offers yes and no.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from p2r.benchmarks.needles.codes import draw_options, guess_chance
from p2r.benchmarks.needles.knobs import Family
from p2r.benchmarks.needles.scene import PATTERNS, Scene
from p2r.types import LETTERS

MIN_SIDE_GAP = 0.14


@dataclass(frozen=True, slots=True)
class Question:
    """A question. `subjects` index objects in the order of the boxes, `mentions` in the order of the wording.

    answer: the right answer; "" where the boxes are the answer.
    chance: the accuracy of blind guessing; None where the boxes are the answer.
    """

    family: Family
    text: str
    subjects: tuple[int, ...]
    mentions: tuple[int, ...]
    answer: str
    options: tuple[str, ...]
    chance: float | None

    @property
    def target(self) -> str | None:
        return LETTERS[self.options.index(self.answer)] if self.options else self.answer or None


def ask(rng: np.random.RandomState, scene: Scene, family: Family, *, choice: bool) -> Question:
    """Ask a question of this family about the scene.

    A relation needs a scene with twins that `has_clear_sides`, and text a scene with printed objects.
    """
    return _ASK[family](rng, scene, choice=choice)


def has_clear_sides(scene: Scene) -> bool:
    """Return True if the twins (the first two objects) are far enough apart to tell which is on the left."""
    first, second = scene.objects[:2]
    return abs(first.x - second.x) > MIN_SIDE_GAP * scene.knobs.side_px


def _unique(scene: Scene) -> list[int]:
    names = [item.name for item in scene.objects]
    return [index for index, name in enumerate(names) if names.count(name) == 1]


def _draw_subject(rng: np.random.RandomState, scene: Scene) -> int:
    candidates = _unique(scene)
    return candidates[rng.randint(len(candidates))]


def _ask_attribute(rng: np.random.RandomState, scene: Scene, *, choice: bool) -> Question:
    subject = _draw_subject(rng, scene)
    item = scene.objects[subject]
    options: tuple[str, ...] = ()
    if choice:
        wrong = [pattern for pattern in PATTERNS if pattern != item.pattern]
        kept = [item.pattern, *(wrong[int(index)] for index in rng.permutation(len(wrong))[:3])]
        options = tuple(kept[int(index)] for index in rng.permutation(4))
    text = f"What pattern is on the {item.name}?"
    return Question(
        "attribute", text, (subject,), (subject,), item.pattern, options, 1 / 4 if choice else 1 / len(PATTERNS)
    )


def _ask_relation(rng: np.random.RandomState, scene: Scene, *, choice: bool) -> Question:
    named, other = (0, 1) if rng.rand() < 0.5 else (1, 0)
    one, two = scene.objects[named], scene.objects[other]
    answer = "left" if one.x < two.x else "right"
    text = f"Is the {one.pattern} {one.name} to the left or right of the {two.pattern} {two.name}?"
    sides = ("left", "right") if rng.rand() < 0.5 else ("right", "left")
    subjects = (named, other) if answer == "left" else (other, named)
    return Question("relation", text, subjects, (named, other), answer, sides if choice else (), 1 / 2)


def _ask_pair(rng: np.random.RandomState, scene: Scene, *, choice: bool) -> Question:
    candidates = _unique(scene)
    order = rng.permutation(len(candidates))[:2]
    subjects = (candidates[int(order[0])], candidates[int(order[1])])
    one, two = (scene.objects[index] for index in subjects)
    answer = f"{one.pattern} and {two.pattern}"
    options: tuple[str, ...] = ()
    if choice:
        firsts, seconds = (_with_another(rng, item.pattern) for item in (one, two))
        grid = [f"{first} and {second}" for first in firsts for second in seconds]
        options = tuple(grid[int(index)] for index in rng.permutation(4))
    text = f"What patterns are on the {one.name} and the {two.name}?"
    chance = 1 / 4 if choice else 1 / len(PATTERNS) ** 2
    return Question("pair", text, subjects, subjects, answer, options, chance)


def _with_another(rng: np.random.RandomState, pattern: str) -> tuple[str, str]:
    others = [other for other in PATTERNS if other != pattern]
    return pattern, others[rng.randint(len(others))]


def _ask_text(rng: np.random.RandomState, scene: Scene, *, choice: bool) -> Question:
    subject = _draw_subject(rng, scene)
    item = scene.objects[subject]
    assert item.code is not None, "text is asked of scenes with printed objects"
    options = draw_options(rng, item.code) if choice else ()
    text = f"What code is printed on the {item.name}?"
    return Question("text", text, (subject,), (subject,), item.code, options, 1 / 4 if choice else guess_chance())


def _ask_absent(rng: np.random.RandomState, scene: Scene, *, choice: bool) -> Question:
    return ask_if_there(rng, scene, _draw_subject(rng, scene), choice=choice)


def ask_if_there(rng: np.random.RandomState, scene: Scene, subject: int, *, choice: bool) -> Question:
    """Ask whether the object `subject` is there with its own pattern or, in half of the questions, with another one."""
    item = scene.objects[subject]
    is_there = bool(rng.rand() < 0.5)
    asked = item.pattern if is_there else _with_another(rng, item.pattern)[1]
    options = ("yes", "no") if rng.rand() < 0.5 else ("no", "yes")
    text = f"Is there a {asked} {item.name} in the image?"
    answer = "yes" if is_there else "no"
    return Question("absent", text, (subject,), (subject,), answer, options if choice else (), 1 / 2)


def _ask_where(rng: np.random.RandomState, scene: Scene, *, choice: bool) -> Question:
    subject = _draw_subject(rng, scene)
    text = f"Where is the {scene.objects[subject].name}?"
    return Question("where", text, (subject,), (subject,), "", (), None)


class _Ask(Protocol):
    def __call__(self, rng: np.random.RandomState, scene: Scene, *, choice: bool) -> Question: ...


_ASK: Mapping[Family, _Ask] = {
    "attribute": _ask_attribute,
    "relation": _ask_relation,
    "pair": _ask_pair,
    "text": _ask_text,
    "absent": _ask_absent,
    "where": _ask_where,
}
