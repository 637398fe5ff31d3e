"""What each trained arm cost: steps, rollouts, tokens and processor time, as means over its seeds so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2r.evaluation.tables import MISSING, Table, show_number
from p2r.runs.training import TrainingRun
from p2r.runs.training_log import Step
from p2r.statistics import mean_of
from p2r.studies.joblist import group_trainings
from p2r.studies.jobs import TrainJob
from p2r.studies.measure import Reader
from p2r.studies.sessions import JobSession, read_sessions
from p2r.studies.shown import CostChart
from p2r.studies.study import Study
from p2r.studies.tables import show_cell


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


def measure_costs(study: Study, reader: Reader) -> list[ArmCost]:
    """Measure each arm that is trained, and each phase of one that is an arm. Raises StorageError for a broken log."""
    sessions = read_sessions(study.out)
    by_arm = group_trainings(study)
    parts = [(name, arm.of, arm.phase) for name, arm in study.arms.items() if arm.of in by_arm]
    found = [_measure(reader, arm, jobs, sessions, None) for arm, jobs in by_arm.items()]
    return [*found, *(_measure(reader, name, by_arm[str(of)], sessions, phase) for name, of, phase in parts)]


def _measure(
    reader: Reader, arm: str, jobs: Sequence[TrainJob], sessions: Sequence[JobSession], phase: str | None
) -> ArmCost:
    """Measure an arm up to the end of a phase; to its own end when None."""
    begun = [(job, run) for job in jobs if (run := reader.training_of(job)) is not None]
    by_seed = [_list_steps(run, phase) for _, run in begun]
    seconds = [
        sum(each.processor_s for each in sessions if each.job == job.name) * _share_of_seconds(run, steps)
        for (job, run), steps in zip(begun, by_seed, strict=True)
    ]
    return ArmCost(
        arm=arm,
        num_seeds=len(begun),
        num_planned=len(jobs),
        num_steps=mean_of([len(steps) for steps in by_seed]),
        num_rollouts=mean_of([sum(step.num_rollouts for step in steps) for steps in by_seed]),
        num_generated_tokens=mean_of([sum(step.num_generated_tokens for step in steps) for steps in by_seed]),
        num_trained_tokens=mean_of([sum(step.num_trained_tokens for step in steps) for steps in by_seed]),
        processor_s=mean_of([each for each in seconds if each]),
    )


def _list_steps(run: TrainingRun, phase: str | None) -> list[Step]:
    steps: list[Step] = []
    for each in run.phases:
        steps += each.steps
        if each.name == phase:
            break
    return steps


def _share_of_seconds(run: TrainingRun, steps: Sequence[Step]) -> float:
    """The share of a run's steps, by their seconds."""
    whole = sum(step.timing.get("seconds", 0.0) for step in run.steps)
    return sum(step.timing.get("seconds", 0.0) for step in steps) / whole if whole > 0 else 1.0


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
            "and the frozen role; a command that was killed together with the study is not counted. An arm that is a "
            "phase of another has what the other needed until that phase ended, and a share of its minutes in "
            "proportion to its steps.",
        ),
    )


def tabulate_answers(chart: CostChart, reader: Reader) -> Table:
    """Tabulate what an answer costs: a row for each point of a chart."""
    rows: list[tuple[str, ...]] = []
    for line, cell in zip(chart.points, chart.list_cells(), strict=True):
        accuracy, tokens = (
            reader.values_of(cell.model_copy(update={"measure": measure})) for measure in ("accuracy", "tokens")
        )
        rows.append((line.name, show_cell(accuracy), show_cell(tokens), show_number(reader.speed_of(cell), 2)))
    return Table(
        title=chart.title,
        columns=("", "accuracy", "tokens", "samples/s"),
        rows=tuple(rows),
        notes=(
            *filter(None, [chart.note]),
            "Tokens read and written for an answer; they do not depend on the machine. Samples/s by the wall clock, "
            "with several samples in flight, and beside other jobs if there were any: compare them within this table "
            "only.",
        ),
    )
