"""A trial: a study's phases for two steps each, and a few of its questions, to see how long they take here.

A trial is a study of its own, in the folder `trial` of the study: its jobs run as those of any study, and what has
finished is not run again. What takes the same time is tried once: phases of one kind with the same settings, and
questions that are asked the same way. Names hold a hash of all that matters, so that what has changed is tried again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from p2r.config import Phase
from p2r.modes import Mode
from p2r.studies.cells import Line
from p2r.studies.joblist import find_root, group_trainings, list_askings
from p2r.studies.jobs import AskJob, TrainJob
from p2r.studies.quick import shorten
from p2r.studies.shown import CurveChart, StudyTable
from p2r.studies.study import Arm, QuestionSet, Study

TRIAL_FOLDER = "trial"
NUM_STEPS = 2
"""The first step gets ready, the second is timed."""
_UNTIMED = {
    **dict.fromkeys(("index", "steps", "passes", "lr", "source", "base"), True),
    "data": {"seed", "num_rows", "skip_bad"},
    "optimizer": {"lr"},
}
"""Settings of a phase that a step's seconds do not depend on; its model is compared apart."""


def name_steps(study: Study, job: TrainJob, phase: Phase) -> str:
    """All that the seconds of a step of a phase depend on."""
    model = job.recipe.model.model_dump(mode="json", exclude={"source"})
    parts = [find_root(study, job.arm), job.num_processes, model, job.recipe.partner.model_dump(mode="json")]
    return json.dumps([*parts, phase.model_dump(mode="json", exclude=_UNTIMED)])


def name_answers(study: Study, job: AskJob, mode: Mode) -> str:
    """All that the seconds of an answer in a mode depend on."""
    questions = job.questions.model_dump(mode="json", exclude={"num", "seed"})
    return json.dumps([find_root(study, job.arm), mode, questions])


def make_trial(study: Study) -> Study:
    """The trial of a study."""
    arms: dict[str, Arm] = {}
    tried: set[str] = set()
    trained: list[str] = []
    for name, jobs in group_trainings(study).items():
        new = {name_steps(study, jobs[0], phase) for phase in jobs[0].recipe.phases()} - tried
        if new:
            tried |= new
            root = _add_root(arms, find_root(study, name))
            arm = _make_arm(study, name, jobs[0], root)
            settings = jobs[0].recipe.model_dump_json(exclude={"out"})
            trained.append(f"{name}-{_hash(arm.model_dump_json(), root, settings)}")
            arms[trained[-1]] = arm
    evaluations: dict[str, QuestionSet] = {}
    lines: dict[str, Line] = {}
    for job in list_askings(study):
        asked = job.questions
        few = asked.model_copy(update={"num": min(asked.num or asked.num_at_once, asked.num_at_once)})
        name = f"{job.evaluation}-{_hash(few.model_dump_json())}"
        evaluations[name] = few
        for mode in job.modes:
            root = _add_root(arms, find_root(study, job.arm))
            lines.setdefault(name_answers(study, job, mode), Line(name=mode, evaluation=name, arm=root, mode=mode))
    return _make_study(study, arms, trained, evaluations, list(lines.values()))


def _add_root(arms: dict[str, Arm], root: str) -> str:
    """The name of the arm that is this model as it is."""
    name = f"model-{_hash(root)}"
    arms[name] = Arm(checkpoint=root)
    return name


def _make_arm(study: Study, name: str, job: TrainJob, root: str) -> Arm:
    """The arm with short phases, without probes and checkpoints on the way."""
    few = ["iterations=1", "probe.num=1", "probe.every=1000000", "checkpoint.every=1000000"]
    changes = {
        "set": (*shorten(study, name, NUM_STEPS).set, *few),
        "start": root,
        "seeds": (job.seed,),
        "num_processes": job.num_processes,
    }
    return study.arms[name].model_copy(update=changes)


def _make_study(
    study: Study,
    arms: dict[str, Arm],
    trained: Sequence[str],
    evaluations: dict[str, QuestionSet],
    lines: Sequence[Line],
) -> Study:
    curves = (CurveChart(title="trained", metric="reward", arms=tuple(trained)),) if trained else ()
    tables = (StudyTable(title="asked", rows=tuple(lines), columns=(Line(name="accuracy"),)),) if lines else ()
    changes: dict[str, object] = {
        "title": f"{study.title}: a trial",
        "out": study.out / TRIAL_FOLDER,
        "arms": arms,
        "evaluations": evaluations,
        "curves": curves,
        "tables": tables,
        **dict.fromkeys(("claims", "costs", "gains", "trends", "objections"), ()),
    }
    return study.model_copy(update=changes)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
