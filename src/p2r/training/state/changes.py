"""Settings that may differ when a run is resumed: those that change no result, and how long it is.

What differs is recorded, with the step from which on it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from p2r.config import Phase, Recipe
from p2r.errors import StorageError, count_nouns, mask_secrets
from p2r.files import write_lines
from p2r.runs.training import CHANGES_FILE, EVIDENCE_FOLDER
from p2r.runs.training_log import RecipeChange, read_rows
from p2r.training.state.checkpoint import Position

ROUNDING = "changes nothing but rounding"
REACHED = "says how the frozen role is reached, not what it is"
SAMPLER_REACHED = "says how the server that samples is reached, not what it samples"
JUDGE_REACHED = "says how the judging model is reached, not what it is"
WATCHES = "only watches the run"
LENGTH = "changes how long the run is, see `check_lengths`"
FREE_SETTINGS: Mapping[str, str] = {
    "out": "the folder may have been moved",
    "trackers": WATCHES,
    "guards": WATCHES,
    "probe": f"{WATCHES}; with other questions best/ is chosen again",
    "checkpoint": "says how often the state is kept",
    "data.made_by": "says where the rows come from, not which they are",
    "data.skip_bad": "says how many unusable rows are put up with, not which rows are usable",
    "schedule.N.steps": LENGTH,
    "phase.steps": LENGTH,
    "iterations": LENGTH,
    "model.device": ROUNDING,
    "model.gradient_checkpointing": ROUNDING,
    "optimizer.micro_batch_groups": ROUNDING,
    "optimizer.reshard": ROUNDING,
    "optimizer.reduce_once": ROUNDING,
    "rollout.prompts_at_once": ROUNDING,
    "rollout.url": SAMPLER_REACHED,
    "rollout.launch": SAMPLER_REACHED,
    "rollout.launch_timeout_s": SAMPLER_REACHED,
    "partner.url": REACHED,
    "partner.launch": REACHED,
    "partner.launch_timeout_s": REACHED,
    "partner.transport": REACHED,
    "partner.concurrency": REACHED,
    "partner.timeout_s": REACHED,
    "partner.max_error_rate": "says when the run stops",
    "reward.judge.url": JUDGE_REACHED,
    "reward.judge.concurrency": JUDGE_REACHED,
    "reward.judge.timeout_s": JUDGE_REACHED,
    "reward.caption.device": ROUNDING,
}
"""Each setting, or table of settings, that a resumed run may have otherwise, and why."""
EXACT_KINDS = frozenset({"adamw", "offload"})
"""Values of optimizer.kind that keep the same float32 states, so that one continues from the other's."""


def list_recipe_changes(before: JsonValue, now: JsonValue) -> list[str]:
    """The settings that differ between two recipes, except those that may."""
    found = _leave_out_inherited(_compare(before, now, _may_differ))
    return [f"{name} was {_show(was)}, now {_show(is_now)}" for name, was, is_now in found]


def record_changes(folder: Path, before: Recipe, now: Recipe, done: Position | None) -> None:
    """Write down the settings that differ from those of the call before, and the step after which they do.

    Args:
        done: the position of the last checkpoint; without one the run begins again, as if it had never been otherwise.

    Raises:
        StorageError: the file cannot be written, or an earlier line is broken.
    """
    path = folder / CHANGES_FILE
    if done is None:
        path.unlink(missing_ok=True)
        return
    old, new = (dump_settings(recipe) for recipe in (before, now))
    found = _leave_out_inherited(each for each in _compare(old, new, _none) if each[0] != "out")
    if found:
        was, is_now = {name: value for name, value, _ in found}, {name: value for name, _, value in found}
        change = RecipeChange(phase=now.phases()[done.phase].name, step=done.step, was=was, now=is_now)
        known = read_rows(path, RecipeChange)
        if change not in known[-1:]:  # an earlier call was killed before it wrote the recipe
            write_lines(path, [*known, change])


def _leave_out_inherited(
    found: Iterable[tuple[str, JsonValue, JsonValue]],
) -> list[tuple[str, JsonValue, JsonValue]]:
    """Leave out what phases have from the recipe, where the recipe's own setting has changed likewise."""
    found = list(found)
    own = [each for each in found if each[0] == _name_in_phase(each[0])]
    return [each for each in found if each in own or (_name_in_phase(each[0]), *each[1:]) not in own]


def _name_in_phase(name: str) -> str:
    return re.sub(r"^schedule\.\d+\.", "", name)


def _none(*_: object) -> bool:
    """Leave out nothing."""
    return False


def dump_settings(recipe: Recipe) -> JsonValue:
    """All settings of a recipe as they are written down, without secrets."""
    return json.loads(mask_secrets(recipe.model_dump_json()))


def _compare(
    before: JsonValue, now: JsonValue, leaves_out: Callable[[str, JsonValue, JsonValue], bool], name: str = ""
) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    """The name of each setting that differs and its values, without the settings and tables that are left out."""
    before, now = _number_phases(before), _number_phases(now)
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            full, was, is_now = f"{name}.{key}" if name else key, before.get(key), now.get(key)
            if not leaves_out(full, was, is_now):
                yield from _compare(was, is_now, leaves_out, full)
    elif before != now:
        yield name, before, now


def _may_differ(name: str, before: JsonValue, now: JsonValue) -> bool:
    in_phase = _name_in_phase(name)
    if in_phase == "optimizer.kind":
        return {before, now} <= EXACT_KINDS if isinstance(before, str) and isinstance(now, str) else False
    is_added_phase = re.fullmatch(r"schedule\.\d+", name) is not None and None in (before, now)
    return is_added_phase or in_phase in FREE_SETTINGS or re.sub(r"\d+", "N", name) in FREE_SETTINGS


def check_lengths(before: Recipe, now: Recipe, done: Position | None) -> list[str]:
    """Check that phases that have begun can still become as long as a recipe says now.

    Args:
        done: the position of the last checkpoint; without one the run begins again, and nothing has begun.

    Returns:
        A sentence for each of them that has another length.

    Raises:
        StorageError: a phase from which another has begun would be longer or shorter, one under way would have fewer
            steps than it has taken, or one that has begun would be another.
    """
    if done is None:
        return []
    old, new = before.phases(), now.phases()
    last = max((phase.index for phase in old if _has_begun(phase, done, now.out)), default=0)
    if len(new) <= last:
        raise StorageError(
            f"phase {old[last].name} has begun, and is not among the phases that are asked for now",
            hint="resume with `p2r train` and the run's whole schedule, since `p2r sft` asks for its first phases "
            "alone; or choose another `out`",
        )
    remarks: list[str] = []
    for was, phase in zip(old[: last + 1], new, strict=False):
        if was.name != phase.name:
            raise _refuse(f"phase {was.name} has begun, and would be {phase.name} now", now)
        if (was.steps, was.passes) == (phase.steps, phase.passes):
            continue
        if phase.index < last:
            raise _refuse(
                f"phase {was.name} has ended and {old[last].name} has begun from it: it had {_say_length(was)}, and "
                f"cannot have {_say_length(phase)} now",
                now,
            )
        num_done = done.step if done.phase == phase.index else 0
        if was.steps is None or phase.steps is None or phase.steps < num_done:
            raise _refuse(
                f"phase {was.name} has taken {count_nouns(num_done, 'step')} of {_say_length(was)}, and cannot have "
                f"{_say_length(phase)} now",
                now,
            )
        scheduler = phase.optimizer.scheduler
        rates = "" if scheduler == "constant" else f"; its {scheduler} rates are those of {phase.steps} from here on"
        remarks.append(f"phase {phase.name} has {_say_length(phase)} now, in place of {was.steps}{rates}")
    return remarks


def _has_begun(phase: Phase, done: Position, folder: Path) -> bool:
    """Tell whether a phase has a checkpoint, or the frozen role has been asked for its evidence."""
    return phase.index <= done.phase or any((folder / EVIDENCE_FOLDER).glob(f"{phase.name}*"))


def _say_length(phase: Phase) -> str:
    return count_nouns(phase.passes, "pass", "passes") if phase.steps is None else count_nouns(phase.steps, "step")


def _refuse(message: str, recipe: Recipe) -> StorageError:
    return StorageError(
        message,
        hint="resume with the lengths that the run had; or choose another `out`, and begin from a phase of this one "
        f"with model.source = {recipe.out}/PHASE",
    )


def _number_phases(value: JsonValue) -> JsonValue:
    """A list of tables, such as the schedule, as tables by their numbers; anything else as it is."""
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return {str(number): each for number, each in enumerate(value)}
    return value


def _show(value: JsonValue) -> str:
    return "not set" if value is None else json.dumps(value)
