"""What a study shows beside its claims: tables laid out as the paper's, and charts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import get_origin

from pydantic import Field, field_validator, model_validator

from p2r.runs.training_log import Probe, Step
from p2r.studies.cells import Line, PartialCell, StudyCell, fill_cell
from p2r.types import Frozen


class PaperTable(Frozen):
    """The paper's own table, where it measures the same thing: texts, laid out as they are there."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @model_validator(mode="after")
    def _is_a_rectangle(self) -> PaperTable:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"the row {row[:1]} has another number of cells than the columns {self.columns}")
        return self


class StudyTable(PartialCell):
    """A table of cells, laid out as one of the paper's. note: a sentence below it."""

    title: str
    rows: tuple[Line, ...] = Field(min_length=1)
    columns: tuple[Line, ...] = Field(min_length=1)
    note: str = ""
    paper: PaperTable | None = None

    def list_cells(self) -> list[list[StudyCell]]:
        """The cells, row by row."""
        where = f"table {self.title!r}"
        return [[fill_cell(where, self, row, column) for column in self.columns] for row in self.rows]


class GainTable(PartialCell):
    """A table of what gains of accuracy were made of: fewer misses of each kind.

    rows: who is compared with `before`.
    """

    title: str
    before: PartialCell
    rows: tuple[Line, ...] = Field(min_length=1)
    note: str = ""

    def list_cells(self) -> list[tuple[StudyCell, StudyCell]]:
        """Before and after, row by row; a row's mode and questions are those of both, unless `before` has its own."""
        where = f"table {self.title!r}"
        asked = [PartialCell(evaluation=row.evaluation, mode=row.mode, category=row.category) for row in self.rows]
        return [
            (fill_cell(where, self, own, self.before), fill_cell(where, self, row))
            for own, row in zip(asked, self.rows, strict=True)
        ]


class TrendLine(PartialCell):
    """A row of a trend: its name, and its cells from the first point to the last."""

    name: str
    cells: tuple[PartialCell, ...] = Field(min_length=2)


class Trend(PartialCell):
    """A measure that grows, such as over iterations: a table with the slope of each row's least-squares line.

    points: the names of the columns; a chart numbers them from 1.
    x_label: what the points are.
    paper: the paper's own table, with its slopes.
    """

    title: str
    points: tuple[str, ...] = Field(min_length=2)
    x_label: str = "iterations"
    rows: tuple[TrendLine, ...] = Field(min_length=1)
    note: str = ""
    paper: PaperTable | None = None

    @model_validator(mode="after")
    def _has_a_cell_for_each_point(self) -> Trend:
        for row in self.rows:
            if len(row.cells) != len(self.points):
                raise ValueError(f"the row {row.name!r} has another number of cells than the points {self.points}")
        return self

    def list_cells(self) -> list[list[StudyCell]]:
        """The cells, row by row."""
        where = f"trend {self.title!r}"
        return [[fill_cell(where, self, row, each) for each in row.cells] for row in self.rows]


class CurveChart(Frozen):
    """A metric of the probe over the steps of some arms.

    metric: of `p2r.runs.training_log.Probe` or `Step`, such as "hit_rate" or "timing/seconds".
    """

    title: str
    metric: str
    arms: tuple[str, ...] = Field(min_length=1)

    @field_validator("metric")
    @classmethod
    def _is_logged(cls, metric: str) -> str:
        fields = {**Step.model_fields, **Probe.model_fields}
        tables = {name for name, field in fields.items() if get_origin(field.annotation) is Mapping}
        outer, _, inner = metric.partition("/")
        if outer not in fields or (outer in tables) != bool(inner):
            near = difflib.get_close_matches(metric, fields, n=1)
            raise ValueError(f"nothing is logged as {metric!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return metric


class CostChart(PartialCell):
    """Accuracy against the tokens of an answer. points: who is asked how."""

    title: str
    points: tuple[Line, ...] = Field(min_length=1)
    note: str = ""

    def list_cells(self) -> list[StudyCell]:
        return [fill_cell(f"chart {self.title!r}", self, point) for point in self.points]
