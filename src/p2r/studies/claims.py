"""What a study states before the runs: claims, and the doubts that they answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from p2r.modes import Mode
from p2r.studies.cells import Measure, PartialCell, StudyCell, fill_cell
from p2r.types import Frozen

Expectation = Literal["more", "less", "alike"]


class StudyClaim(Frozen):
    """A statement about the world, made before the runs.

    says: the statement, as a sentence.
    source: where it comes from, such as "Figure 5".
    plus, minus: the cells that are added and taken off; the sum is divided by `per`.
    slope: the cells of `plus` follow on one another, as iterations do; what is claimed is the slope of their
        least-squares line, less that of `minus`.
    expects: "more": the result is above `margin`; "less": below -margin; "alike": between -margin and margin.
    margin: in the measure's own unit, where 0.01 is one point of accuracy.
    """

    name: str
    says: str
    source: str = ""
    evaluation: str | None = None
    mode: Mode | None = None
    measure: Measure | None = None
    category: str | None = None
    plus: tuple[PartialCell, ...] = Field(min_length=1)
    minus: tuple[PartialCell, ...] = ()
    per: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    slope: bool = False
    expects: Expectation = "more"
    margin: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _can_be_judged(self) -> StudyClaim:
        if self.expects == "alike" and not self.margin:
            raise ValueError('expects = "alike" needs a margin: nothing is ever shown to be exactly alike')
        if self.slope and (len(self.plus) < 2 or len(self.minus) == 1):
            raise ValueError("a slope needs at least two cells")
        return self

    def list_terms(self) -> list[tuple[float, StudyCell]]:
        """The cells with their weights."""
        own = PartialCell(evaluation=self.evaluation, mode=self.mode, measure=self.measure, category=self.category)
        where = f"claim {self.name!r}"
        return [
            (sign * weight / self.per, fill_cell(where, own, each))
            for sign, cells in ((1, self.plus), (-1, self.minus))
            for weight, each in zip(self._weigh(len(cells)), cells, strict=True)
        ]

    def _weigh(self, num_cells: int) -> list[float]:
        return find_slope_weights(num_cells) if self.slope and num_cells else [1.0] * num_cells


def find_slope_weights(num_points: int) -> list[float]:
    """The weights by which values at 0, 1, 2, ... add up to the slope of their least-squares line."""
    middle = (num_points - 1) / 2
    squares = sum((place - middle) ** 2 for place in range(num_points))
    return [(place - middle) / squares for place in range(num_points)]


class Objection(Frozen):
    """Something that a reader of the paper has doubted, and the claims that answer it."""

    says: str
    claims: tuple[str, ...] = Field(min_length=1)
