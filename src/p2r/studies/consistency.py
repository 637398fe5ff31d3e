"""Whether the parts of a study fit together: names that exist, seeds that meet, claims that can be measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2r.modes import LOOKING
from p2r.studies.cells import IN_POINTS, OF_BOXES, StudyCell

if TYPE_CHECKING:
    from p2r.studies.claims import StudyClaim
    from p2r.studies.study import Study

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check_consistency(study: Study) -> None:
    """Raise ValueError for the first thing that does not fit."""
    for name in (*study.arms, *study.evaluations, *study.files):
        if not _FOLDER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a folder: use letters, digits, - and _")
    for name in study.arms:
        _check_needs(study, name)
    _check_seeds(study)
    names = [claim.name for claim in study.claims]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two claims have the name {twice[0]!r}")
    for cell in study.list_cells():
        _check_cell(study, cell)
    for claim in study.claims:
        _check_claim(claim)
    for chart in study.curves:
        for name in chart.arms:
            _check_arm_name(study, name)
            if study.arms[name].recipe is None:
                raise ValueError(f"the arm {name!r} is not trained, so it has no steps to draw")
    for objection in study.objections:
        for name in objection.claims:
            if name not in names:
                raise ValueError(f"there is no claim {name!r}; there are {', '.join(names)}")


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


def _check_arm_name(study: Study, name: str) -> None:
    if name not in study.arms:
        raise ValueError(f"there is no arm {name!r}; there are {', '.join(study.arms)}")


def _check_needs(study: Study, name: str) -> None:
    """Raise ValueError when an arm names one that is not there, or itself through others."""
    seen, arm = [name], study.arms[name]
    while (other := arm.of or arm.start) is not None:
        if other not in study.arms:
            raise ValueError(f"the arm {seen[-1]!r} needs the arm {other!r}; there are {', '.join(study.arms)}")
        if other in seen:
            circle = [*seen[seen.index(other) :], other]
            raise ValueError(f"arms need each other in a circle: {' -> '.join(map(repr, circle))}")
        if arm.of is not None and study.arms[other].recipe is None:
            raise ValueError(f"the arm {seen[-1]!r} is a phase of {other!r}, which is not trained")
        seen.append(other)
        arm = study.arms[other]


def _check_seeds(study: Study) -> None:
    for name, arm in study.arms.items():
        others = () if arm.start is None else study.seeds_of(arm.start)
        if others and not frozenset(study.seeds_of(name)) <= frozenset(others):
            raise ValueError(f"the arm {name!r} has seeds that {arm.start!r}, from which it starts, lacks")
    for seeds in (study.seeds, study.quick.seeds, *(arm.seeds for arm in study.arms.values())):
        if seeds is not None and len(seeds) > len(frozenset(seeds)):
            raise ValueError(f"seeds holds {next(seed for seed in seeds if seeds.count(seed) > 1)} twice")


def _check_cell(study: Study, cell: StudyCell) -> None:
    _check_arm_name(study, cell.arm)
    if cell.evaluation not in study.evaluations:
        raise ValueError(f"there is no evaluation {cell.evaluation!r}; there are {', '.join(study.evaluations)}")
    if cell.perceiver is None:
        return
    _check_arm_name(study, cell.perceiver)
    own, others = study.seeds_of(cell.arm), study.seeds_of(cell.perceiver)
    if own and others and not frozenset(own) & frozenset(others):
        raise ValueError(f"the arms {cell.arm!r} and {cell.perceiver!r} are asked together, and share no seed")


def _check_claim(claim: StudyClaim) -> None:
    """Raise ValueError for a claim that could never be measured."""
    cells = [cell for _, cell in claim.list_terms()]
    for cell in cells:
        if cell.measure in OF_BOXES and cell.mode not in LOOKING:
            raise ValueError(f"claim {claim.name!r} needs the measure {cell.measure!r}, which mode {cell.mode!r} lacks")
    units = dict.fromkeys("points" if cell.measure in IN_POINTS else cell.measure for cell in cells)
    if len(units) > 1:
        raise ValueError(f"claim {claim.name!r} adds up {' and '.join(units)}, which have no common unit")
