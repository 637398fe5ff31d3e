"""What a study is: arms that are trained, questions that are asked, and claims that are stated before the runs.

Only what a claim, a table or a chart needs is asked. So there is no list of evaluations to keep in step: an entry of
`evaluations` says which questions there are, and a cell says who answers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr, ValidationError, model_validator

from p2r.config import Recipe, change_table, explain_settings, load_recipe, read_table
from p2r.errors import ConfigError
from p2r.modes import Mode
from p2r.types import Frozen

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
Measure = Literal["accuracy", "hit rate", "in crops", "IoU", "boxes", "box size", "tokens"]
Expectation = Literal["more", "less", "alike"]


class Arm(Frozen):
    """Something whose answers are compared: a checkpoint as it is, one that a recipe trains, or a phase of another arm.

    says: what it is, in a few words.
    checkpoint: a model as in `load_model`; nothing is trained, so it has no seeds.
    recipe: the name of a recipe or the path of its file, from the study's folder.
    set: settings of the recipe, as "a.b=c".
    start: an arm whose checkpoint of the same seed it starts from; the recipe's model.source when None.
    of, phase: the checkpoint that this phase of this arm leaves, such as "0-perceiver"; nothing more is trained.
    seeds: the study's when None.
    num_processes: that train together.
    """

    says: str = ""
    checkpoint: str | None = None
    recipe: str | None = None
    set: tuple[str, ...] = ()
    start: str | None = None
    of: str | None = None
    phase: str | None = None
    seeds: tuple[int, ...] | None = Field(default=None, min_length=1)
    num_processes: PositiveInt = 1

    @model_validator(mode="after")
    def _is_one_thing(self) -> Arm:
        given = [name for name in ("checkpoint", "recipe", "of") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"it must have one of checkpoint, recipe and of, not {', '.join(given) or 'none'}")
        if (self.of is None) != (self.phase is None):
            raise ValueError('of and phase go together: an arm, and a phase of it such as "0-perceiver"')
        if self.recipe is None and (self.set or self.start or self.num_processes > 1):
            raise ValueError("set, start and num_processes belong to an arm with a recipe")
        if self.recipe is None and self.seeds is not None:
            raise ValueError("seeds belong to an arm with a recipe")
        return self


class QuestionSet(Frozen):
    """Questions that arms are asked: an entry of `evaluations`.

    benchmark: as in `p2r eval`.
    num: at most so many; all of them when None.
    seed: for needles, the choice of `num`, and random boxes.
    """

    benchmark: str
    num: PositiveInt | None = None
    seed: int = Field(default=0, ge=0)
    split: str | None = None
    boxes: str | None = None
    images: str | None = None
    prompts: str = "release"
    num_at_once: PositiveInt = 16
    max_pixels: PositiveInt | None = None


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


class StudyClaim(Frozen):
    """A statement about the world, made before the runs.

    says: the statement, as a sentence.
    source: where it comes from, such as "Figure 5".
    plus, minus: the cells that are added and taken off; the sum is divided by `per`.
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
    per: PositiveFloat = 1.0
    expects: Expectation = "more"
    margin: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _can_be_alike(self) -> StudyClaim:
        if self.expects == "alike" and not self.margin:
            raise ValueError('expects = "alike" needs a margin: nothing is ever shown to be exactly alike')
        return self

    def list_terms(self) -> list[tuple[float, StudyCell]]:
        """The cells with their weights."""
        own = PartialCell(evaluation=self.evaluation, mode=self.mode, measure=self.measure, category=self.category)
        where = f"claim {self.name!r}"
        return [(1 / self.per, fill_cell(where, own, each)) for each in self.plus] + [
            (-1 / self.per, fill_cell(where, own, each)) for each in self.minus
        ]


class Line(PartialCell):
    """A row or a column of a table: its name, and what it says about its cells."""

    name: str


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


class CurveChart(Frozen):
    """A metric of the probe over the steps of some arms.

    metric: of `p2r.runs.training_log.Probe` or `Step`, such as "hit_rate".
    """

    title: str
    metric: str
    arms: tuple[str, ...] = Field(min_length=1)


class CostChart(PartialCell):
    """Accuracy against the tokens of an answer. points: who is asked how."""

    title: str
    points: tuple[Line, ...] = Field(min_length=1)

    def list_cells(self) -> list[StudyCell]:
        return [fill_cell(f"chart {self.title!r}", self, point) for point in self.points]


class Objection(Frozen):
    """Something that a reader of the paper has doubted, and the claims that answer it."""

    says: str
    claims: tuple[str, ...] = Field(min_length=1)


class Quick(Frozen):
    """The changes of `--quick`: fewer seeds and questions, shorter phases, and settings of every recipe."""

    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    num: PositiveInt = 24
    steps: PositiveInt = 2
    set: tuple[str, ...] = ()


class Study(Frozen):
    """A study, as `p2r study` reads it.

    out: the folder of everything that it makes.
    threads: of the processor for each job. The same number gives the same weights to the bit.
    """

    title: str
    out: Path
    says: str = ""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    threads: PositiveInt = 1
    arms: Mapping[str, Arm] = Field(min_length=1)
    evaluations: Mapping[str, QuestionSet] = Field(min_length=1)
    claims: tuple[StudyClaim, ...] = ()
    tables: tuple[StudyTable, ...] = ()
    curves: tuple[CurveChart, ...] = ()
    costs: tuple[CostChart, ...] = ()
    objections: tuple[Objection, ...] = ()
    quick: Quick = Quick()
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        for name in (*self.arms, *self.evaluations):
            if not _FOLDER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot be the name of a folder: use letters, digits, - and _")
        for name, arm in self.arms.items():
            self._check_arm(name, arm)
        names = [claim.name for claim in self.claims]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two claims have the name {twice[0]!r}")
        for cell in self.list_cells():
            for kind, name in (("arm", cell.arm), ("arm", cell.perceiver), ("evaluation", cell.evaluation)):
                known = self.arms if kind == "arm" else self.evaluations
                if name is not None and name not in known:
                    raise ValueError(f"there is no {kind} {name!r}; there are {', '.join(known)}")
        for chart in self.curves:
            for name in chart.arms:
                if name not in self.arms:
                    raise ValueError(f"there is no arm {name!r}; there are {', '.join(self.arms)}")
                if self.arms[name].recipe is None:
                    raise ValueError(f"the arm {name!r} is not trained, so it has no steps to draw")
        for objection in self.objections:
            for name in objection.claims:
                if name not in names:
                    raise ValueError(f"there is no claim {name!r}; there are {', '.join(names)}")
        return self

    def _check_arm(self, name: str, arm: Arm) -> None:
        """Raise ValueError when an arm names one that is not there, or itself through others."""
        seen = [name]
        while (other := arm.of or arm.start) is not None:
            if other not in self.arms:
                raise ValueError(f"the arm {seen[-1]!r} needs the arm {other!r}; there are {', '.join(self.arms)}")
            if other in seen:
                raise ValueError(f"the arm {name!r} needs itself, through {' and '.join(map(repr, seen[1:])) or other}")
            if arm.of is not None and self.arms[other].recipe is None:
                raise ValueError(f"the arm {seen[-1]!r} is a phase of {other!r}, which is not trained")
            if arm.start is not None and set(self.seeds_of(seen[-1])) - set(
                self.seeds_of(other) or self.seeds_of(name)
            ):
                raise ValueError(
                    f"the arm {seen[-1]!r} has seeds that the arm {other!r}, which it starts from, has not"
                )
            seen.append(other)
            arm = self.arms[other]

    @property
    def folder(self) -> Path:
        """The folder of the study's file, where recipes are looked for."""
        return self._folder

    def read_from(self, folder: Path) -> Study:
        """Return the study as one that was read from a file in this folder."""
        moved = self.model_copy()
        moved._folder = folder
        return moved

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """The seeds that an arm is trained with; () where nothing is trained."""
        found = self.arms[arm]
        if found.of is not None:
            return self.seeds_of(found.of)
        return () if found.recipe is None else found.seeds or self.seeds

    def list_cells(self) -> list[StudyCell]:
        """Every cell that something needs, each once."""
        return list(dict.fromkeys(self._iterate_cells()))

    def _iterate_cells(self) -> Iterator[StudyCell]:
        for claim in self.claims:
            yield from (cell for _, cell in claim.list_terms())
        for table in self.tables:
            for row in table.list_cells():
                yield from row
        for chart in self.costs:
            yield from chart.list_cells()

    def recipe_of(self, arm: str, seed: int, out: Path, source: str | None) -> Recipe:
        """The recipe of an arm with a seed.

        Args:
            out: the folder of its run.
            source: the checkpoint that it starts from; the recipe's own when None.
        """
        return load_recipe(self.find_recipe(arm), self.list_changes(arm, seed, out, source))

    def find_recipe(self, arm: str) -> str:
        """The recipe's file, or its name."""
        named = self.arms[arm].recipe
        assert named is not None, f"the arm {arm!r} is not trained"
        path = self.folder / named
        return str(path) if path.is_file() else named

    def list_changes(self, arm: str, seed: int, out: Path, source: str | None) -> list[str]:
        """The settings of an arm's recipe, as "a.b=c"."""
        changes = [*self.arms[arm].set, f"seed={seed}", f"out={out}"]
        return changes if source is None else [*changes, f"model.source={source}"]

    def make_quick(self) -> Study:
        """The study with what `quick` changes, in a folder of its own."""
        arms = {name: self._make_quick_arm(name) for name in self.arms}
        fewer = {
            name: each.model_copy(update={"num": min(each.num or self.quick.num, self.quick.num)})
            for name, each in self.evaluations.items()
        }
        out = self.out.with_name(f"{self.out.name}-quick")
        made = self.model_copy(update={"arms": arms, "evaluations": fewer, "seeds": self.quick.seeds, "out": out})
        return made.read_from(self._folder)

    def _make_quick_arm(self, name: str) -> Arm:
        arm = self.arms[name]
        if arm.recipe is None:
            return arm
        num_phases = len(self.recipe_of(name, 0, self.out, None).schedule)
        shorter = [f"schedule.{place}.steps={self.quick.steps}" for place in range(num_phases)]
        return arm.model_copy(update={"set": (*arm.set, *shorter, *self.quick.set), "seeds": None})


def fill_cell(where: str, *parts: PartialCell) -> StudyCell:
    """Join the parts of a cell; the later ones count.

    Raises:
        ValueError: nobody says who is asked, or what.
    """
    given: dict[str, object] = {}
    for part in parts:
        given |= {name: value for name in StudyCell.model_fields if (value := getattr(part, name)) is not None}
    for name in ("evaluation", "arm"):
        if name not in given:
            raise ValueError(f"{where} has a cell without {name}: say it there, or in its row or column")
    return StudyCell.model_validate(given)


def load_study(path: str | Path, changes: Sequence[str] = ()) -> Study:
    """Read a study.

    Args:
        path: a TOML file.
        changes: "a.b=c" each, as in `load_recipe`.

    Raises:
        ConfigError: unreadable, not TOML, an unknown setting, or a value that is not usable.
    """
    path = Path(path)
    table = read_table(
        path, "study", hint="give the path of a TOML file, such as recipes/study/paper_in_miniature.toml"
    )
    change_table(table, changes)
    try:
        study = Study.model_validate(table)
    except ValidationError as error:
        raise explain_settings(error, str(path), Study) from None
    study = study.read_from(path.parent)
    phases: dict[str, list[str]] = {}
    for name, arm in study.arms.items():
        if arm.recipe is not None:
            try:
                recipe = study.recipe_of(name, seed=0, out=Path("out"), source=None)
            except ConfigError as error:
                raise ConfigError(f"arm {name}: {error.message}", hint=error.hint) from error
            phases[name] = [phase.name for phase in recipe.phases()]
    for name, arm in study.arms.items():
        if arm.of is not None and arm.phase not in phases[arm.of]:
            known = ", ".join(phases[arm.of])
            raise ConfigError(f"arm {name}: {arm.of} has no phase {arm.phase!r}", hint=f"it has {known}")
    return study
