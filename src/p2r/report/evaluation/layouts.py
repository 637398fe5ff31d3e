"""Which columns a table of systems has: those of the paper's Tables 1 and 2, and one for each other benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2r.benchmarks import hrbench, mme_realworld, vstar
from p2r.evaluation.aggregate import MME_COLUMNS
from p2r.report.evaluation.protocols import TITLES


@dataclass(frozen=True, slots=True)
class Place:
    """A column of a layout. column: of the benchmark, the first being the whole. above: the name of its group."""

    above: str
    name: str
    benchmark: str
    column: str
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class TableLayout:
    """The columns of a table, and whose rows it has. has_average: a last column with the mean of the overall scores."""

    title: str
    places: tuple[Place, ...]
    has_average: bool = False

    @property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(place.benchmark for place in self.places))


def list_layouts(asked: Sequence[str]) -> tuple[TableLayout, TableLayout, TableLayout]:
    """Return the layouts of Table 1, of Table 2 and of the other benchmarks, without the benchmarks that nobody ran."""
    others = [name for name in asked if name not in TITLES]
    return _lay_out_table_1(asked), _lay_out_table_2(asked), _lay_out_others(others)


def _lay_out_table_1(asked: Sequence[str]) -> TableLayout:
    parts = [(vstar.FACTS.name, "attribute", "direct_attributes", "position", "relative_position")]
    parts += [(facts.name, "single", "single", "cross", "cross") for facts in (hrbench.FACTS_4K, hrbench.FACTS_8K)]
    places = tuple(
        place
        for name, first, first_column, second, second_column in parts
        if name in asked
        for place in (
            Place(TITLES[name], first, name, first_column),
            Place(TITLES[name], second, name, second_column),
            Place(TITLES[name], "overall", name, "overall", is_whole=True),
        )
    )
    return TableLayout("As Table 1 of the paper", places, has_average=len(places) == 3 * len(parts))


def _lay_out_table_2(asked: Sequence[str]) -> TableLayout:
    name = mme_realworld.FACTS_LITE.name
    kinds = [f"{task}/{full}" for task in ("Perception", "Reasoning") for full in MME_COLUMNS.values()]
    short = {full: column for column, full in MME_COLUMNS.items()}
    places = [Place("", "Overall", name, "Overall", is_whole=True)]
    for kind in kinds:
        task, _, full = kind.partition("/")
        if kind in mme_realworld.LITE_CATEGORIES:
            places.append(Place(task, short[full], name, f"{task} {short[full]}"))
    return TableLayout("As Table 2 of the paper: MME-RealWorld-Lite", tuple(places) if name in asked else ())


def _lay_out_others(asked: Sequence[str]) -> TableLayout:
    wholes = {True: "Overall", False: "overall"}
    places = [Place("", name, name, wholes[name.startswith("mme_")], is_whole=True) for name in asked]
    return TableLayout("Other benchmarks", tuple(places))
