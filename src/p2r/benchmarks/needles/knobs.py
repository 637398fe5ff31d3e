"""The settings of needles: what is asked, in which images, and how hard it is.

A benchmark's name may state them, as in "needles:side_px=2048,num_objects=8-10,families=text+absent". Whatever takes
the name of a benchmark takes these settings: the commands, `evaluate`, `load_benchmark`, and a recipe's `data.source`
and `probe.source`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field, ValidationError, model_validator

from p2r.benchmarks.needles.backgrounds import check_background, is_folder, name_background
from p2r.benchmarks.needles.codes import PLATE_PERIODS
from p2r.errors import ConfigError, count_nouns, excerpt, explain_fault
from p2r.types import Frozen

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Family = Literal["attribute", "relation", "pair", "text", "absent", "where"]
FAMILIES: tuple[Family, ...] = ("attribute", "relation", "pair")
"""The families that are asked by default."""
Form = Literal["free_form", "choice"]

MIN_SIDE_PX, MAX_SIDE_PX = 768, 4096
MOST_FILLED = 0.4
"""Most of the image that circles around the objects may cover: more of them seldom find a place at random."""
APART = 1.25
"""Least distance of two centers, in sizes of the largest object."""


class Knobs(Frozen, allow_inf_nan=False):
    """The settings. The defaults are the benchmark; others make the search easier or harder. Shares are of the side.

    num_objects: least and most objects in a scene.
    num_distractors: objects that have the first one's color or shape, as many as there is room for.
    object_share: smallest and largest object.
    detail_share: side of the badge.
    period_share: period of its stripes, and width of two dots of printed text.
    texture: density of what the background is made of, 1 is the default; photographs are as they are.
    noise: standard deviation of the photographic noise, in gray levels.
    background: "strokes", "natural", a package that ships photographs, or a folder of your own: see `backgrounds`.
    families: the kinds of questions, which take turns: see `questions`.
    forms: the answer forms, which take turns. The family where has none.
    """

    side_px: int = Field(default=1024, ge=MIN_SIDE_PX, le=MAX_SIDE_PX)
    num_objects: tuple[int, int] = (4, 6)
    num_distractors: int = Field(default=2, ge=0, le=10)
    object_share: tuple[float, float] = (0.13, 0.152)
    detail_share: float = Field(default=0.056, gt=0)
    period_share: float = Field(default=0.0042, gt=0)
    texture: float = Field(default=1.0, ge=0, le=20)
    noise: float = Field(default=4.0, ge=0, le=100)
    background: str = Field(default="strokes", min_length=1)
    families: tuple[Family, ...] = Field(default=FAMILIES, min_length=1)
    forms: tuple[Form, ...] = Field(default=("free_form", "choice"), min_length=1)

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Knobs:
        (least, most), (smallest, largest) = self.num_objects, self.object_share
        if not 1 <= least <= most <= 12:
            raise ValueError(f"num_objects={_write_range(least, most)}: it must be 1 <= LEAST <= MOST <= 12")
        if not 0 < smallest <= largest <= 0.5:
            raise ValueError(f"object_share={_write_range(smallest, largest)}: it must be 0 < LEAST <= MOST <= 0.5")
        if most > 1 and most * (APART * largest) ** 2 * 0.785 > MOST_FILLED * (1 - largest + APART * largest) ** 2:
            raise ValueError(
                f"num_objects={_write_range(least, most)}: {count_nouns(most, 'object')} of {largest:.0%} of the side, "
                "the largest object_share, are too many for one image"
            )
        if self.detail_share > 0.5 * smallest:
            raise ValueError(
                f"detail_share={_write(self.detail_share)} is more than half of the smallest object, {_write(smallest)}"
            )
        if self.detail_share < 2 * self.period_share:
            raise ValueError(
                f"detail_share={_write(self.detail_share)} has no room for two stripe periods, "
                f"period_share={_write(self.period_share)}"
            )
        if self.period_share * self.side_px < 2.5:
            raise ValueError(
                f"period_share={_write(self.period_share)} is {self.period_share * self.side_px:.2g} px of "
                f"side_px={self.side_px}, too narrow to be drawn; 2.5 px is the least"
            )
        if "text" in self.families and PLATE_PERIODS * self.period_share > smallest:
            raise ValueError(
                f"period_share={_write(self.period_share)} prints text {PLATE_PERIODS * self.period_share:.3g} wide, "
                f"wider than the smallest object, {_write(smallest)}"
            )
        return self

    @model_validator(mode="after")
    def _can_be_asked(self) -> Knobs:
        for name, turns in (("families", self.families), ("forms", self.forms)):
            if len(set(turns)) < len(turns):
                raise ValueError(f"{name}={_write(turns)}: it has the same entry twice")
        if "where" in self.families and len(self.families) > 1:
            raise ValueError(f"families={_write(self.families)}: where is scored by boxes, and the others by answers")
        if "where" in self.families and "forms" in self.model_fields_set:
            raise ValueError(f"forms={_write(self.forms)}: the family where asks for boxes, not for answers")
        return self

    @property
    def text(self) -> str:
        """The settings that differ from the defaults, as `parse_knobs` reads them; "" for none."""
        changed = ((name, getattr(self, name)) for name in Knobs.model_fields)
        default = Knobs()
        return ",".join(f"{name}={_write(value)}" for name, value in changed if value != getattr(default, name))

    @property
    def label(self) -> str:
        """`text` for the names of samples, in which photographs go by their contents and not by their place."""
        return self.model_copy(update={"background": name_background(self.background)}).text


def parse_knobs(text: str) -> Knobs:
    """Read settings NAME=VALUE with commas between them; "" gives the defaults.

    A range is LEAST-MOST, and the entries of a list have a + between them.

    Raises:
        ConfigError: a setting is unknown or stated twice, or its value is not usable.
    """
    given: dict[str, object] = {}
    written: dict[str, str] = {}
    for part in re.split(r",(?=\s*\w+\s*=)", text) if text.strip() else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(
                f"needles: {part!r} sets nothing", hint=f"write NAME=VALUE, such as needles:{_EXAMPLE}; {_list_names()}"
            )
        if name not in Knobs.model_fields:
            near = difflib.get_close_matches(name, Knobs.model_fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else _list_names()
            raise ConfigError(f"needles has no setting {name!r}", hint=hint)
        if name in given:
            raise ConfigError(f"needles: {name} is stated twice", hint="state it once")
        given[name], written[name] = _read(name, value), value
    try:
        knobs = Knobs.model_validate(given)
    except ValidationError as error:
        fault = error.errors()[0]
        names = [str(fault["loc"][0])] if fault["loc"] else list(given)
        raise ConfigError(
            f"needles: {_explain(fault, written)}", hint=f"the default is {', '.join(map(_write_default, names))}"
        ) from None
    check_background(knobs.background)
    return knobs


_RANGES = ("num_objects", "object_share")
_EXAMPLE = "side_px=2048,num_objects=8-10,families=text+absent"


def _explain(fault: ErrorDetails, written: Mapping[str, str]) -> str:
    """Say what is wrong with a setting, as it is written in the name."""
    rule = explain_fault({**fault, "loc": ()}).replace("'", "")
    if not fault["loc"]:
        return rule
    name, *parts = map(str, fault["loc"])
    if parts and name in _RANGES:
        rule += ", or two with a - between them"
    elif parts and fault["input"] != written[name]:
        rule = f"{excerpt(fault['input'])} {rule.removeprefix('it ')}"
    return f"{name}={written[name]}: {rule}"


def _list_names() -> str:
    return f"the settings are {', '.join(Knobs.model_fields)}"


def _write_default(name: str) -> str:
    return f"{name}={_write(getattr(Knobs(), name))}"


def _read(name: str, value: str) -> object:
    """Split a value that has parts, and leave it to the schema to say what is wrong with them."""
    if name in ("families", "forms"):
        return tuple(part.strip() for part in value.split("+"))
    if name in _RANGES:
        least, dash, most = value.partition("-")
        return (least.strip(), most.strip()) if dash else (value, value)
    if name == "background" and value and is_folder(value) and Path(value).expanduser().is_dir():
        return str(Path(value).expanduser().absolute())
    return value


def _write_range(least: float, most: float) -> str:
    return _write(least if least == most else (least, most))


def _write(value: object) -> str:
    if isinstance(value, tuple):
        parts = cast("tuple[object, ...]", value)
        return ("+" if isinstance(parts[0], str) else "-").join(map(_write, parts))
    return f"{value:.12g}" if isinstance(value, float) else str(value)
