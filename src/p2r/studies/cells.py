"""A cell of a study: one mean, of what is measured when who is asked which questions how."""

from __future__ import annotations

from typing import Literal

from p2r.errors import ConfigError
from p2r.evaluation.misses import MISSES, Miss
from p2r.modes import Mode
from p2r.types import Frozen

Measure = Literal["accuracy", "hit rate", "in crops", "IoU", "boxes", "box size", "tokens", Miss]
OF_BOXES: frozenset[Measure] = frozenset({"hit rate", "in crops", "IoU", "boxes", "box size", "spelling", "place"})
"""Measures that only modes have that look for boxes."""
OF_GOLD: frozenset[Measure] = frozenset({"hit rate", "in crops", "IoU", *MISSES})
"""Measures that compare with gold boxes."""
IN_POINTS: frozenset[Measure] = frozenset({"accuracy", "hit rate", "in crops", *MISSES})
"""Measures that are shares of questions, and printed in per cent."""


class PartialCell(Frozen):
    """A cell of which the rest is said elsewhere: by the table's row, its column, or its claim."""

    evaluation: str | None = None
    arm: str | None = None
    perceiver: str | None = None
    mode: Mode | None = None
    measure: Measure | None = None
    category: str | None = None


class StudyCell(Frozen):
    """One mean: what is measured, when who is asked which questions how.

    arm: answers, and says where to look.
    perceiver: an arm that says where to look in place of `arm`.
    category: only questions of this category; all when "".
    """

    evaluation: str
    arm: str
    perceiver: str | None = None
    mode: Mode = "p2r"
    measure: Measure = "accuracy"
    category: str = ""


class Line(PartialCell):
    """A row or a column of a table: its name, and what it says about its cells."""

    name: str


def fill_cell(where: str, *parts: PartialCell) -> StudyCell:
    """Join the parts of a cell; the later ones count.

    Raises:
        ConfigError: nobody says who is asked, or what.
    """
    given: dict[str, object] = {}
    for part in parts:
        given |= {name: value for name in StudyCell.model_fields if (value := getattr(part, name)) is not None}
    for name in ("evaluation", "arm"):
        if name not in given:
            raise ConfigError(
                f"{where} has a cell without {name}: say it there, or in its row or column",
                hint=f"{name} is one of the names in the tables [{name}s.NAME]",
            )
    return StudyCell.model_validate(given)
