"""Seconds of a step and of an answer, as measured on this machine: by arms that ran, or else by a study's trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from p2r.runs.training import read_training_run
from p2r.statistics import mean_of
from p2r.studies.joblist import list_askings, list_trainings
from p2r.studies.study import Study
from p2r.studies.trial import make_trial, name_answers, name_steps

RAN, TRIAL = "what ran", "the trial"
Measured = tuple[float, str]
"""Seconds, and what they are measured by."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a step, by `name_steps`, and of an answer, by `name_answers`."""

    steps: Mapping[str, Measured]
    answers: Mapping[str, Measured]


def measure_pace(study: Study) -> Pace:
    """Measure what there is so far. Raises StorageError for a broken log."""
    steps: dict[str, Measured] = {}
    answers: dict[str, Measured] = {}
    for each, how in ((make_trial(study), TRIAL), (study, RAN)):
        steps |= {key: (seconds, how) for key, seconds in _average(_time_steps(each)).items()}
        answers |= {key: (seconds, how) for key, seconds in _average(_time_answers(each)).items()}
    return Pace(steps, answers)


def _average(found: Iterator[tuple[str, float]]) -> dict[str, float]:
    by_key: dict[str, list[float]] = {}
    for key, seconds in found:
        by_key.setdefault(key, []).append(seconds)
    return {key: mean for key, each in by_key.items() if (mean := mean_of(each)) is not None}


def _time_steps(study: Study) -> Iterator[tuple[str, float]]:
    """The key and the seconds of each step but the first of its phase, which gets ready, unless there is no other."""
    for job in list_trainings(study):
        if not job.has_begun():
            continue
        taken = read_training_run(job.folder).steps
        for phase in job.recipe.phases():
            own = [step.timing["seconds"] for step in taken if step.phase == phase.name and "seconds" in step.timing]
            key = name_steps(study, job, phase)
            yield from ((key, seconds) for seconds in own[1:] or own)


def _time_answers(study: Study) -> Iterator[tuple[str, float]]:
    """The key and the seconds of an answer of each run; answers that were asked side by side share their time."""
    for job in list_askings(study):
        for mode in job.modes:
            run = job.read(mode)
            sessions = () if run is None else run.sessions
            num_asked = sum(each.num_asked for each in sessions)
            if num_asked:
                yield name_answers(study, job, mode), sum(each.seconds for each in sessions) / num_asked


def sum_times(times: Sequence[Measured | None], counts: Sequence[float | None]) -> Measured | None:
    """The seconds of several things that come so often each; None where a number is not known."""
    total, by = 0.0, dict[str, None]()
    for time, count in zip(times, counts, strict=True):
        if time is None or count is None:
            return None
        total += time[0] * count
        by[time[1]] = None
    return total, " and ".join(by)
