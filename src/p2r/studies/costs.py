"""What each trained arm cost: steps, rollouts, tokens and processor time, as means over its seeds so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2r.evaluation.tables import MISSING, Table, show_number
from p2r.runs.training import read_training_run
from p2r.statistics import mean_of
from p2r.studies.jobs import TrainJob, group_trainings
from p2r.studies.run import SESSIONS_FILE, JobSession, read_sessions
from p2r.studies.study import Study


@dataclass(frozen=True, slots=True)
class ArmCost:
    """Means over the seeds that have begun; None where nothing is known.

    num_trained_tokens: tokens of prompts and replies in all passes of the updates.
    processor_s: of the commands that trained; those that were killed with this program are not counted.
    """

    arm: str
    num_seeds: int
    num_planned: int
    num_steps: float | None
    num_rollouts: float | None
    num_generated_tokens: float | None
    num_trained_tokens: float | None
    processor_s: float | None


def measure_costs(study: Study) -> list[ArmCost]:
    """Measure each arm that is trained. Raises StorageError for a broken log."""
    sessions = read_sessions(study.out) if (study.out / SESSIONS_FILE).exists() else []
    by_arm = group_trainings(study)
    return [_measure(arm, jobs, sessions) for arm, jobs in by_arm.items()]


def _measure(arm: str, jobs: Sequence[TrainJob], sessions: Sequence[JobSession]) -> ArmCost:
    begun = [(job, read_training_run(job.folder)) for job in jobs if job.has_begun()]
    runs = [run for _, run in begun]
    seconds = [sum(each.processor_s for each in sessions if each.job == job.name) for job, _ in begun]
    return ArmCost(
        arm=arm,
        num_seeds=len(runs),
        num_planned=len(jobs),
        num_steps=mean_of([len(run.steps) for run in runs]),
        num_rollouts=mean_of([sum(step.num_rollouts for step in run.steps) for run in runs]),
        num_generated_tokens=mean_of([sum(step.num_generated_tokens for step in run.steps) for run in runs]),
        num_trained_tokens=mean_of([sum(step.num_trained_tokens for step in run.steps) for run in runs]),
        processor_s=mean_of([each for each in seconds if each]),
    )


def tabulate_costs(costs: Sequence[ArmCost]) -> Table:
    """A row for each arm."""
    rows = tuple(
        (
            cost.arm,
            f"{cost.num_seeds} of {cost.num_planned}",
            show_number(cost.num_steps, 0),
            show_number(cost.num_rollouts, 0),
            show_number(cost.num_generated_tokens, 0),
            show_number(cost.num_trained_tokens, 0),
            show_number(None if cost.processor_s is None else cost.processor_s / 60, 1),
        )
        for cost in costs
    )
    return Table(
        title="What each arm cost",
        columns=("arm", "seeds", "steps", "rollouts", "generated tokens", "trained tokens", "processor minutes"),
        rows=rows or ((MISSING,) * 7,),
        notes=(
            "Means over seeds. Generated tokens are those of the role that learns. Trained tokens are those of prompts "
            "and replies in all passes of the updates. Processor minutes are those of the whole command, with probes "
            "and the frozen role; a command that was killed together with the study is not counted.",
        ),
    )
