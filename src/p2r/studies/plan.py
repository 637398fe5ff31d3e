"""What a study would do: each arm's steps, rollouts and tokens, the jobs, and how long they take where that is known.

Minutes are those of arms that have run, or, before that, of the first steps of one: `p2r train RECIPE --plan` measures
a recipe that has never been run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2r.config import Phase
from p2r.errors import count_nouns
from p2r.evaluation.tables import MISSING, Table, show_number
from p2r.runs.training import read_training_run
from p2r.runs.training_log import Step
from p2r.statistics import mean_of
from p2r.studies.jobs import TrainJob, group_trainings, list_askings, list_jobs
from p2r.studies.run import SESSIONS_FILE, read_sessions
from p2r.studies.study import Study


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """An arm, with each of its seeds.

    num_steps, num_rollouts, num_tokens: of one seed; None where a phase makes passes over rows that are not read here.
    num_tokens: generated at most. minutes: of one seed, by the steps that some arm has taken; None before.
    """

    arm: str
    seeds: Sequence[int]
    num_finished: int
    num_steps: int | None
    num_rollouts: int | None
    num_tokens: int | None
    minutes: float | None


def plan_arms(study: Study) -> list[ArmPlan]:
    """Plan each arm that is trained. Raises StorageError for a broken log."""
    by_arm = group_trainings(study)
    taken = [
        (phase, step)
        for jobs in by_arm.values()
        for job in jobs
        if job.has_begun()
        for phase in job.recipe.phases()
        for step in read_training_run(job.folder).steps
        if step.phase == phase.name
    ]
    return [_plan(arm, jobs, taken) for arm, jobs in by_arm.items()]


def _plan(arm: str, jobs: Sequence[TrainJob], taken: Sequence[tuple[Phase, Step]]) -> ArmPlan:
    phases = jobs[0].recipe.phases()
    steps = [phase.steps for phase in phases]
    known = [each for each in steps if each is not None]
    is_known = len(known) == len(steps)
    rollouts = [phase.prompts_per_step * phase.rollout.group_size * len(phase.roles) for phase in phases]
    limits = [phase.max_response_tokens if phase.roles else 0 for phase in phases]
    seconds = [
        mean_of([step.timing.get("seconds") for other, step in taken if other.kind == phase.kind]) for phase in phases
    ]
    timed = [each for each in seconds if each is not None]
    return ArmPlan(
        arm=arm,
        seeds=[job.seed for job in jobs],
        num_finished=sum(job.look().is_finished for job in jobs),
        num_steps=sum(known) if is_known else None,
        num_rollouts=sum(n * each for n, each in zip(known, rollouts, strict=True)) if is_known else None,
        num_tokens=sum(n * each * most for n, each, most in zip(known, rollouts, limits, strict=True))
        if is_known
        else None,
        minutes=sum(n * each for n, each in zip(known, timed, strict=True)) / 60
        if is_known and len(timed) == len(phases)
        else None,
    )


def tabulate_plan(study: Study) -> list[Table]:
    """A table of the arms and one of the jobs."""
    plans = plan_arms(study)
    sessions = read_sessions(study.out) if (study.out / SESSIONS_FILE).exists() else []
    rows: list[tuple[str, ...]] = [
        (
            each.arm,
            ", ".join(map(str, each.seeds)),
            f"{each.num_finished} of {len(each.seeds)}",
            show_number(each.num_steps, 0),
            show_number(each.num_rollouts, 0),
            show_number(each.num_tokens, 0),
            show_number(each.minutes, 1),
        )
        for each in plans
    ]
    left = [None if each.minutes is None else each.minutes * (len(each.seeds) - each.num_finished) for each in plans]
    known = [each for each in left if each is not None]
    if plans:
        rows.append(
            (
                "all seeds together",
                str(sum(len(each.seeds) for each in plans)),
                str(sum(each.num_finished for each in plans)),
                *(show_number(_sum(plans, name), 0) for name in ("num_steps", "num_rollouts", "num_tokens")),
                f"{show_number(sum(known), 1)} left" if len(known) == len(plans) else MISSING,
            )
        )
    askings = list_askings(study)
    wall = {each.job: each.wall_s for each in sessions if each.exit_code == 0}
    asked = [
        (
            job.name,
            ", ".join(job.modes),
            MISSING if job.questions.num is None else str(job.questions.num * len(job.modes)),
            "yes" if job.look().is_finished else "no",
            show_number(wall[job.name] / 60, 1) if job.name in wall else MISSING,
        )
        for job in askings
    ]
    return [
        Table(
            title=f"{study.title}: {count_nouns(len(list_jobs(study)), 'job')}",
            columns=("arm", "seeds", "finished", "steps", "rollouts", "tokens at most", "minutes"),
            rows=tuple(rows),
            notes=(
                "Steps, rollouts, generated tokens and minutes are those of one seed. Minutes are by the steps that "
                "arms of this study have taken; a dash where no arm has trained such a phase yet, or where a phase "
                "makes passes over rows: `p2r train RECIPE --plan` measures a recipe.",
            ),
        ),
        Table(
            title="Questions",
            columns=("job", "modes", "answers", "finished", "minutes"),
            rows=tuple(asked),
        ),
    ]


def _sum(plans: Sequence[ArmPlan], name: str) -> float | None:
    """A number of all seeds together; None where an arm does not know its own."""
    values = [(getattr(each, name), len(each.seeds)) for each in plans]
    return None if any(value is None for value, _ in values) else float(sum(value * count for value, count in values))
