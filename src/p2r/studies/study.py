"""What a study is: arms that are trained, questions that are asked, and claims that are stated before the runs.

Only what a claim, a table or a chart needs is asked. So there is no list of evaluations to keep in step: an entry of
`evaluations` says which questions there are, and a cell says who answers them.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import cast

from pydantic import Field, PositiveInt, PrivateAttr, ValidationError, field_validator, model_validator

from p2r.config import Recipe, Seed, change_table, explain_settings, load_recipe, read_table
from p2r.errors import ConfigError, reason_of
from p2r.evaluation.misses import MISSES
from p2r.studies.cells import StudyCell
from p2r.studies.claims import Objection, StudyClaim
from p2r.studies.consistency import check_consistency
from p2r.studies.shown import CostChart, CurveChart, GainTable, StudyTable, Trend
from p2r.studies.splits import check_splits
from p2r.types import Frozen

ARMS_FOLDER, FILES_FOLDER = "arms", "files"
NAMED = ("arms", "evaluations", "files")
"""Tables of a study whose keys are names of its own."""
_CHANGES = re.compile(r'`changes=\["(.*?)"\]`')
"""The words in which the hint of a recipe says how its settings are changed."""
_FILES_NAME = re.compile(r"\{files\.([^}]*)\}")


class Arm(Frozen):
    """Something whose answers are compared: a checkpoint as it is, one that a recipe trains, or a phase of another arm.

    says: what it is, in a few words.
    checkpoint: a model as in `load_model`; nothing is trained, so it has no seeds.
    recipe: the name of a recipe or the path of its file, from the study's folder.
    set: settings of the recipe, as "a.b=c"; "{files.NAME}" stands for the folder of an entry of `files`.
    quick: further settings of `--quick`.
    start: an arm whose checkpoint of the same seed it starts from; the recipe's model.source when None.
    of, phase: the checkpoint that this phase of this arm leaves, such as "0-perceiver"; nothing more is trained.
    seeds, num_processes: the study's when None.
    """

    says: str = ""
    checkpoint: str | None = None
    recipe: str | None = None
    set: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    start: str | None = None
    of: str | None = None
    phase: str | None = None
    seeds: tuple[Seed, ...] | None = Field(default=None, min_length=1)
    num_processes: PositiveInt | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Arm:
        given = [name for name in ("checkpoint", "recipe", "of") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"it must have one of checkpoint, recipe and of, not {', '.join(given) or 'none'}")
        if (self.of is None) != (self.phase is None):
            raise ValueError('of and phase go together: an arm, and a phase of it such as "0-perceiver"')
        if self.recipe is None and (self.set or self.quick or self.start or self.num_processes is not None):
            raise ValueError("set, quick, start and num_processes belong to an arm with a recipe")
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

    @property
    def identity(self) -> tuple[object, ...]:
        """Return what the questions depend on, and not how they are asked."""
        return self.benchmark, self.num, self.seed, self.split, self.boxes, self.images


class MadeFiles(Frozen):
    """Rows that arms are trained on and that a script makes: an entry of `files`.

    module: what `python -m` runs, in the current folder; it gets `--out FOLDER` besides.
    args, quick: its other arguments, and those of `--quick`.
    last: the file that it writes last: the rows are there when this is.
    """

    module: str = Field(min_length=1)
    last: str = Field(min_length=1)
    args: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None


class Quick(Frozen):
    """The changes of `--quick`: fewer seeds and questions, shorter phases, and settings of every recipe."""

    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    num: PositiveInt = 24
    steps: PositiveInt = 2
    set: tuple[str, ...] = ()


class Study(Frozen):
    """A study, as `p2r study` reads it.

    out: the folder of everything that it makes.
    chosen_on: what was chosen before the study, and by which seeds: sentences for the page.
    set: settings of every arm's recipe, as those of an arm, which count more.
    num_processes: that train an arm together, such as one for each GPU.
    threads: of the processor for each job. The same number gives the same weights to the bit.
    """

    title: str
    out: Path
    says: str = ""
    chosen_on: str = ""
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), min_length=1)
    set: tuple[str, ...] = ()
    num_processes: PositiveInt = 1
    threads: PositiveInt = 1
    files: Mapping[str, MadeFiles] = {}
    arms: Mapping[str, Arm] = Field(min_length=1)
    evaluations: Mapping[str, QuestionSet] = Field(min_length=1)
    claims: tuple[StudyClaim, ...] = ()
    tables: tuple[StudyTable, ...] = ()
    gains: tuple[GainTable, ...] = ()
    trends: tuple[Trend, ...] = ()
    curves: tuple[CurveChart, ...] = ()
    costs: tuple[CostChart, ...] = ()
    objections: tuple[Objection, ...] = ()
    quick: Quick = Quick()
    _folder: Path = PrivateAttr(default=Path())
    _recipes: dict[tuple[str, ...], Recipe] = PrivateAttr(default_factory=dict[tuple[str, ...], Recipe])

    @field_validator("out")
    @classmethod
    def _is_a_folder_of_its_own(cls, out: Path) -> Path:
        if out.name in ("", "..") or "\0" in str(out):
            raise ValueError("it must be the path of a folder of the study's own")
        try:
            out.exists()
        except OSError as error:
            raise ValueError(f"it cannot be the path of a folder: {reason_of(error)}") from error
        return out

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
        for gains in self.gains:
            for pair in gains.list_cells():
                yield from (cell.model_copy(update={"measure": miss}) for miss in MISSES for cell in pair)
        for trend in self.trends:
            for row in trend.list_cells():
                yield from row
        for chart in self.costs:
            yield from chart.list_cells()

    def recipe_of(self, arm: str, seed: int, out: Path, source: str | None) -> Recipe:
        """The recipe of an arm with a seed; each is read once.

        Args:
            out: the folder of its run.
            source: the checkpoint that it starts from; the recipe's own when None.
        """
        file, changes = self.find_recipe(arm), self.list_overrides(arm, seed, out, source)
        key = (file, *changes)
        if key not in self._recipes:
            self._recipes[key] = load_recipe(file, changes)
        return self._recipes[key]

    def find_recipe(self, arm: str) -> str:
        """The recipe's file, or its name."""
        named = self.arms[arm].recipe
        assert named is not None, f"the arm {arm!r} is not trained"
        path = self.folder / named
        return os.path.normpath(path) if path.is_file() else named

    def list_overrides(self, arm: str, seed: int, out: Path, source: str | None) -> list[str]:
        """The settings of an arm's recipe, as "a.b=c"."""
        given = (*self.set, *self.arms[arm].set)
        own = [_FILES_NAME.sub(lambda found: str(self.find_files(found[1])), each) for each in given]
        changes = [*own, f"seed={seed}", f"out={out}"]
        return changes if source is None else [*changes, f"model.source={source}"]

    def find_files(self, name: str) -> Path:
        """The folder of an entry of `files`. Raises ConfigError when there is none."""
        if name not in self.files:
            known = f"there are {', '.join(self.files)}" if self.files else f"make a table [files.{name}]"
            raise ConfigError(f"{{files.{name}}} stands for files that the study does not make", hint=known)
        return self.out / FILES_FOLDER / name

    def list_files(self, arm: str) -> list[str]:
        """The entries of `files` that an arm is trained on."""
        given = () if self.arms[arm].recipe is None else (*self.set, *self.arms[arm].set)
        return [name for each in given for name in _FILES_NAME.findall(each)]

    def name_questions(self, evaluation: str) -> str:
        """A name that evaluations share whose questions are the same, however they are asked."""
        own = self.evaluations[evaluation].identity
        return next(name for name, each in self.evaluations.items() if each.identity == own)


def _check_names(table: Mapping[str, object], changes: Sequence[str]) -> None:
    """Refuse a change of an arm, of questions, or of rows that the file does not have: it would be an idle new one."""
    for change in changes:
        kind, _, rest = change.partition("=")[0].strip().partition(".")
        names, name = table.get(kind), rest.partition(".")[0]
        if kind in NAMED and name and isinstance(names, dict) and name not in names:
            known = [str(each) for each in cast("Mapping[object, object]", names)]
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"{kind}.{name} cannot be changed: the study has none of this name",
                hint=f"did you mean {kind}.{near[0]}?" if near else f"its {kind} are {', '.join(known)}",
            )


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
    before = deepcopy(table)
    change_table(table, changes)
    _check_names(before, changes)
    try:
        study = Study.model_validate(table)
    except ValidationError as error:
        raise explain_settings(error, str(path), Study) from None
    try:
        check_consistency(study)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
    study = study.read_from(path.parent)
    check_recipes(study)
    return study


def check_recipes(study: Study) -> None:
    """Read the recipe of each arm, and see that it has the phases and the questions that the study says.

    Raises:
        ConfigError: it cannot be read, lacks a phase, or watches what is reported.
    """
    phases: dict[str, list[str]] = {}
    for name, arm in study.arms.items():
        if arm.recipe is not None:
            try:
                recipe = study.recipe_of(name, seed=0, out=Path("out"), source=None)
            except ConfigError as error:
                hint = _CHANGES.sub(r"\1 in the arm's set", error.hint)
                raise ConfigError(f"arm {name}: {error.message}", hint=hint) from error
            phases[name] = [phase.name for phase in recipe.phases()]
    for name, arm in study.arms.items():
        if arm.of is not None and arm.phase not in phases[arm.of]:
            known = ", ".join(phases[arm.of])
            raise ConfigError(f"arm {name}: {arm.of} has no phase {arm.phase!r}", hint=f"it has {known}")
    check_splits(study)
