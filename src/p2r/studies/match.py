"""Whether what lies in a job's folder is what the study asks for now, or was made for what it said before.

A study may move, and its data too: paths are compared by what they end with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from p2r.config import Recipe, is_needles
from p2r.runs.changes import LOADING, explain_changes
from p2r.runs.evaluation import Run
from p2r.studies.study import ARMS_FOLDER, FILES_FOLDER, QuestionSet

_MAY_BE_NOTHING = frozenset({"limit", "max_pixels"})
"""Settings of run.json for which null says something; others are null in runs that did not record or need them."""


def list_other_settings(asked: Recipe, found: Recipe, folder: Path) -> list[str]:
    """The settings of a recipe in which a run's differ, wherever the study lay when it was trained.

    Args:
        folder: the run's, below the study's.
    """
    ours = asked.model_dump(mode="json", exclude={"out"})
    text = json.dumps(found.model_dump(mode="json", exclude={"out"}))
    was, now = (_find_study(place) for place in (Path(found.out), folder))
    for each in (ARMS_FOLDER, FILES_FOLDER):
        text = text.replace(json.dumps(f"{was}/{each}/")[1:-1], json.dumps(f"{now}/{each}/")[1:-1])
    theirs: dict[str, JsonValue] = json.loads(text)
    return [name for name in ours if ours[name] != theirs.get(name)]


def _find_study(training: Path) -> Path:
    """The folder of a study, of one of its trainings: arms/ARM/seed-N lies in it."""
    return training.parents[2] if len(training.parents) > 2 else training


def explain_other_answers(
    run: Run, settings: Mapping[str, JsonValue], trained: Mapping[str, str], asked: QuestionSet
) -> str:
    """Say what else a run holds than the answers that are asked for; "" where it holds these.

    Args:
        settings: of run.json, as they must be.
        trained: settings of run.json that are checkpoints of this study, by their place in its folder.
    """
    known = run.settings.model_dump(mode="json")
    before = {name: known[name] for name in settings if known[name] is not None or name in _MAY_BE_NOTHING}
    now = {name: settings[name] for name in before}
    for name, place in trained.items():
        model = known[name]
        if model is not None and not f"/{model}".endswith(f"/{place}"):
            before[name], now[name] = model, place
    if run.origin is not None:
        loaded: Mapping[str, JsonValue] = run.origin.model_dump(mode="json", include={*LOADING} - {"skip_bad"})
        for name, was in loaded.items():
            is_now = getattr(asked, name)
            if _end_of(was) != _end_of(is_now):
                before[name], now[name] = was, is_now
        if not _is_same_spec(run.origin.spec, asked.benchmark):
            before["benchmark"], now["benchmark"] = run.origin.spec, asked.benchmark
    return explain_changes(before, now)


def _is_same_spec(was: str, now: str) -> bool:
    """Tell whether two names of a benchmark may mean the same questions, which may have been moved."""
    (name, _, place), (other, _, there) = was.partition(":"), now.partition(":")
    if name == other and not is_needles(name) and not (place and there):
        return True
    return (_end_of(name), _end_of(place)) == (_end_of(other), _end_of(there))


def _end_of(path: object) -> str | None:
    return Path(path).name if isinstance(path, str) else None
