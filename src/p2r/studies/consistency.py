"""Whether the parts of a study fit together: names that exist, seeds that meet, claims that can be measured."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from p2r.errors import ConfigError, count_nouns, excerpt
from p2r.modes import LOOKING
from p2r.studies.cells import IN_POINTS, OF_BOXES, StudyCell

if TYPE_CHECKING:
    from p2r.studies.claims import StudyClaim
    from p2r.studies.study import Study

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_OWN_SETTINGS = {"seed": "say it with seeds, of the study or of an arm", "out": "say it with out, of the study"}
_MOST_CHARS = 64
"""The most characters of a name: that of a job's log holds three of them, and may have 255 bytes."""


def check_consistency(study: Study) -> None:
    """Raise ConfigError for the first thing that does not fit."""
    for kind, names in (("arms", study.arms), ("evaluations", study.evaluations), ("files", study.files)):
        for name in names:
            _check_folder_name(kind, name)
    for name in study.arms:
        _check_needs(study, name)
    _check_seeds(study)
    _check_settings(study)
    names = [claim.name for claim in study.claims]
    if twice := [name for name in names if names.count(name) > 1]:
        place = len(names) - 1 - names[::-1].index(twice[0])
        raise ConfigError(
            f"two claims have the name {twice[0]!r}", hint=f"give one of them another, such as claims.{place}.name"
        )
    for cell in study.list_cells():
        _check_cell(study, cell)
    for claim in study.claims:
        _check_claim(claim)
    for chart in study.curves:
        for name in chart.arms:
            _check_name("arm", name, study.arms)
            if study.arms[name].recipe is None:
                raise ConfigError(
                    f"the arm {name!r} is not trained, so it has no steps to draw",
                    hint=f"leave it out of the arms of curve {chart.title!r}",
                )
    for objection in study.objections:
        for name in objection.claims:
            _check_name("claim", name, names)


def list_needed_arms(study: Study) -> list[str]:
    """The arms that a chart or a cell names, each after those that it needs."""
    named = [name for chart in study.curves for name in chart.arms]
    named += [name for cell in study.list_cells() for name in (cell.arm, cell.perceiver) if name is not None]
    chains = [[*reversed([*_iterate_needs(study, name)]), name] for name in named]
    return list(dict.fromkeys(name for chain in chains for name in chain))


def list_idle(study: Study) -> list[str]:
    """Sentences about arms, evaluations and files that nothing needs, and which are left out for that."""
    needed = list_needed_arms(study)
    asked = {cell.evaluation for cell in study.list_cells()}
    learned = {name for arm in needed for name in study.list_files(arm)}
    idle = [f"the arm {name}" for name in study.arms if name not in needed]
    idle += [f"the evaluation {name}" for name in study.evaluations if name not in asked]
    idle += [f"the files {name}" for name in study.files if name not in learned]
    return [f"No claim, table or chart needs {name}: left out." for name in idle]


def _iterate_needs(study: Study, name: str) -> Iterator[str]:
    """The arms that an arm is a phase of, or starts from, directly or through others."""
    while (other := study.arms[name].of or study.arms[name].start) is not None:
        yield other
        name = other


def _check_folder_name(kind: str, name: str) -> None:
    if not _FOLDER_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a folder: use letters, digits, - and _",
            hint=f"give this entry of {kind} another name",
        )
    if len(name) > _MOST_CHARS:
        raise ConfigError(
            f"{excerpt(name)} has {count_nouns(len(name), 'character')}, and a name may have {_MOST_CHARS}",
            hint=f"give this entry of {kind} a shorter name",
        )


def _check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise ConfigError for a name that the study does not have."""
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise ConfigError(
            f"there is no {kind} {name!r}; there are {', '.join(names)}" if names else f"there is no {kind} {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"take one of these, or add it to the study's {kind}s",
        )


def _check_needs(study: Study, name: str) -> None:
    """Raise ConfigError when an arm names one that is not there, or itself through others."""
    seen, arm = [name], study.arms[name]
    while (other := arm.of or arm.start) is not None:
        where = f"arms.{seen[-1]}.{'of' if arm.of is not None else 'start'}"
        if other not in study.arms:
            near = difflib.get_close_matches(other, study.arms, n=1)
            raise ConfigError(
                f"the arm {seen[-1]!r} needs the arm {other!r}; there are {', '.join(study.arms)}",
                hint=f"did you mean {near[0]!r}?" if near else f"change {where}, or add that arm",
            )
        if other in seen:
            circle = [*seen[seen.index(other) :], other]
            raise ConfigError(
                f"arms need each other in a circle: {' -> '.join(map(repr, circle))}", hint=f"change {where}"
            )
        if arm.of is not None and study.arms[other].recipe is None:
            raise ConfigError(
                f"the arm {seen[-1]!r} is a phase of {other!r}, which is not trained",
                hint=f"name an arm with a recipe as {where}",
            )
        seen.append(other)
        arm = study.arms[other]


def _check_seeds(study: Study) -> None:
    for name, arm in study.arms.items():
        others = () if arm.start is None else study.seeds_of(arm.start)
        if lacking := [seed for seed in study.seeds_of(name) if others and seed not in others]:
            raise ConfigError(
                f"the arm {name!r} has seeds that {arm.start!r}, from which it starts, lacks",
                hint=f"add {', '.join(map(str, lacking))} to the seeds of {arm.start}, or leave it out here",
            )
    named = {"seeds": study.seeds, "quick.seeds": study.quick.seeds}
    named |= {f"arms.{name}.seeds": arm.seeds for name, arm in study.arms.items() if arm.seeds is not None}
    for where, seeds in named.items():
        if len(seeds) > len(frozenset(seeds)):
            twice = next(seed for seed in seeds if seeds.count(seed) > 1)
            raise ConfigError(f"{where} holds {twice} twice", hint="a seed gives the same again: leave one out")


def _check_settings(study: Study) -> None:
    """Raise ConfigError for a setting of recipes that the study itself gives, and which would be without effect."""
    named = {"set": study.set, "quick.set": study.quick.set}
    for name, arm in study.arms.items():
        named |= {f"arms.{name}.set": arm.set, f"arms.{name}.quick": arm.quick}
    for where, settings in named.items():
        for each in settings:
            if (key := each.partition("=")[0].strip()) in _OWN_SETTINGS:
                raise ConfigError(
                    f"{where} has {each!r}, and a study gives each training its own {key}", hint=_OWN_SETTINGS[key]
                )
    for name, arm in study.arms.items():
        for each in (*arm.set, *arm.quick) if arm.start is not None else ():
            if each.partition("=")[0].strip() == "model.source":
                raise ConfigError(
                    f"the arm {name!r} sets {each!r}, and starts from the arm {arm.start!r}",
                    hint=f"leave out one of them: arms.{name}.start, or this setting",
                )


def _check_cell(study: Study, cell: StudyCell) -> None:
    _check_name("arm", cell.arm, study.arms)
    _check_name("evaluation", cell.evaluation, study.evaluations)
    if cell.perceiver is None:
        return
    _check_name("arm", cell.perceiver, study.arms)
    own, others = study.seeds_of(cell.arm), study.seeds_of(cell.perceiver)
    if own and others and not frozenset(own) & frozenset(others):
        raise ConfigError(
            f"the arms {cell.arm!r} and {cell.perceiver!r} are asked together, and share no seed",
            hint=f"add one to arms.{cell.arm}.seeds or arms.{cell.perceiver}.seeds",
        )


def _check_claim(claim: StudyClaim) -> None:
    """Raise ConfigError for a claim that could never be measured, or that no answers could decide."""
    terms = claim.list_terms()
    cells = [cell for _, cell in terms]
    for cell in cells:
        if cell.measure in OF_BOXES and cell.mode not in LOOKING:
            raise ConfigError(
                f"claim {claim.name!r} needs the measure {cell.measure!r}, which mode {cell.mode!r} lacks",
                hint="take another mode, such as p2r, or another measure",
            )
        if cell.perceiver is not None and cell.mode not in LOOKING:
            raise ConfigError(
                f"claim {claim.name!r} has the perceiver {cell.perceiver!r} in mode {cell.mode!r}, which asks none",
                hint="leave out perceiver there, or take another mode, such as p2r",
            )
    units = dict.fromkeys("points" if cell.measure in IN_POINTS else cell.measure for cell in cells)
    if len(units) > 1:
        raise ConfigError(
            f"claim {claim.name!r} adds up {' and '.join(units)}, which have no common unit",
            hint="give all of its cells the same measure",
        )
    weights: dict[StudyCell, float] = {}
    for weight, cell in terms:
        weights[cell] = weights.get(cell, 0.0) + weight
    if not any(map(_is_something, weights.values())):
        raise ConfigError(
            f"claim {claim.name!r} takes off what it adds: its plus and its minus are the same cells",
            hint="change what is to differ, such as arm or mode",
        )
    if "points" in units:
        _check_margin(claim, list(weights.values()))


def _check_margin(claim: StudyClaim, weights: Sequence[float]) -> None:
    """Raise ConfigError where no shares, which lie between 0 and 1, could add up to what a claim expects."""
    low, high = sum(each for each in weights if each < 0), sum(each for each in weights if each > 0)
    room = {"more": high, "less": -low, "alike": max(high, -low)}[claim.expects]
    if claim.margin >= room:
        raise ConfigError(
            f"claim {claim.name!r} expects {claim.expects}, with the margin {claim.margin:g}, and whatever is answered "
            f"its result lies between {low:g} and {high:g}",
            hint="margin = 0.03 is three points; more is above margin, less is below -margin",
        )


def _is_something(weight: float) -> bool:
    return abs(weight) > 1e-9  # weights of a slope are rounded
