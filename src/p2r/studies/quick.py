"""The small version of a study, which shows that all of it works: fewer seeds and questions, shorter phases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import cast

from p2r.config import PhaseSettings
from p2r.errors import ConfigError
from p2r.studies.study import Arm, Study, check_recipes


def make_quick(study: Study) -> Study:
    """Return the study with what its `quick` changes, in a folder of its own.

    Raises:
        ConfigError: what it changes is not usable, or does not fit the rest.
    """
    quick = study.quick
    fewer = {
        name: each.model_copy(update={"num": min(each.num or quick.num, quick.num)})
        for name, each in study.evaluations.items()
    }
    files = {
        name: each if each.quick is None else each.model_copy(update={"args": each.quick})
        for name, each in study.files.items()
    }
    arms = {name: _make_quick_arm(study, name) for name in study.arms}
    out = study.out.with_name(f"{study.out.name}-quick")
    update = {"arms": arms, "evaluations": fewer, "files": files, "seeds": quick.seeds, "out": out}
    made = study.model_copy(update=update).read_from(study.folder)
    try:
        check_recipes(made)
    except ConfigError as error:
        raise ConfigError(f"the quick version: {error.message}", hint=error.hint) from error
    return made


def _make_quick_arm(study: Study, name: str) -> Arm:
    arm = shorten(study, name, study.quick.steps)
    if arm.recipe is None:
        return arm
    return arm.model_copy(update={"set": (*arm.set, *study.quick.set, *arm.quick), "seeds": None})


def shorten(study: Study, name: str, num_steps: int) -> Arm:
    """Return the arm with phases of so many steps."""
    arm = study.arms[name]
    if arm.recipe is None:
        return arm
    phases = study.recipe_of(name, 0, study.out, None).schedule
    short = [f"schedule.{place}{_shorten_phase(phase, num_steps)}" for place, phase in enumerate(phases)]
    return arm.model_copy(update={"set": (*arm.set, *short)})


def _shorten_phase(phase: PhaseSettings, num_steps: int) -> str:
    """Return what is set in a phase of the schedule; one that makes passes is written again, without them."""
    if phase.passes is None:
        return f".steps={num_steps}"
    own = phase.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude={"passes"})
    return f"={_write_toml(own | {'steps': num_steps})}"


def _write_toml(value: object) -> str:
    """Write a value in one line of TOML."""
    if isinstance(value, Mapping):
        pairs = (
            f"{json.dumps(key)} = {_write_toml(each)}" for key, each in cast("Mapping[str, object]", value).items()
        )
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_write_toml, cast('Sequence[object]', value)))}]"
    return json.dumps(value, ensure_ascii=False)
