"""What a study would do: each arm's steps, rollouts, tokens and hours, and each job's answers and minutes.

Rows are counted as training counts them. Minutes are those of what has run, or else of a short trial, or else what the
arithmetic takes on a GPU that sustains a stated number of operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from p2r.benchmarks.load import count_published
from p2r.errors import P2RError, count_nouns
from p2r.evaluation.tables import MISSING, Table, show_number
from p2r.models.headers import read_headers
from p2r.models.known import count_known_weights
from p2r.models.load import find_here
from p2r.studies.check import load_evaluation, name_settings
from p2r.studies.consistency import list_idle
from p2r.studies.joblist import find_root, group_trainings, list_askings, list_jobs
from p2r.studies.jobs import AskJob, TrainJob
from p2r.studies.pace import Measured, Pace, measure_pace, sum_times
from p2r.studies.rows import RowCounter
from p2r.studies.study import QuestionSet, Study
from p2r.studies.trial import name_answers, name_steps
from p2r.training.plan.counts import PhaseCounts, count_phase, needs_rows
from p2r.training.plan.flops import estimate_flops

UNKNOWN_MINUTES = (
    "Minutes are unknown before anything has run: --trial measures two steps of each kind of phase and a few questions "
    "on this machine, --tflops 400 takes as given what a GPU sustains."
)
MINUTES = (
    "Minutes are those of one seed, one job at a time, without loading models, probes, checkpoints and pre-rollouts."
)


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """An arm, with each of its seeds.

    num_steps, num_rollouts, num_tokens: of one seed; None where its rows cannot be counted.
    num_tokens: generated at most.
    time: the seconds of one seed, and what they are by; None where nothing tells.
    """

    arm: str
    seeds: Sequence[int]
    num_finished: int
    num_processes: int
    num_steps: int | None
    num_rollouts: int | None
    num_tokens: int | None
    time: Measured | None

    @property
    def minutes(self) -> float | None:
        """Minutes of one seed."""
        return None if self.time is None else self.time[0] / 60

    @property
    def gpu_hours(self) -> float | None:
        """Hours of all processes of one seed."""
        return None if self.time is None else self.time[0] / 3600 * self.num_processes


@dataclass(slots=True)
class Planner:
    """Plans the arms and the questions of a study.

    rows: assumed where a recipe's rows are not on this machine; None for none.
    tflops: 10^12 operations that a GPU sustains each second, where no time was measured; None for none.
    """

    study: Study
    rows: int | None = None
    tflops: float | None = None
    notes: dict[str, None] = field(default_factory=dict[str, None])
    _published: list[str] = field(default_factory=list[str])
    _questions: dict[QuestionSet, int | None] = field(default_factory=dict[QuestionSet, "int | None"])

    def plan_arms(self, pace: Pace) -> list[ArmPlan]:
        """Plan each arm that is trained. Raises StorageError for a broken log."""
        counter = RowCounter(self.rows, self.notes)
        return [self._plan_arm(arm, jobs, counter, pace) for arm, jobs in group_trainings(self.study).items()]

    def _plan_arm(self, arm: str, jobs: Sequence[TrainJob], counter: RowCounter, pace: Pace) -> ArmPlan:
        first = jobs[0]
        # A checkpoint that is yet to be trained has the prompts of the model that it comes from.
        model = first.recipe.model.model_copy(update={"source": find_root(self.study, arm)})
        recipe = first.recipe.model_copy(update={"model": model})
        phases = recipe.phases()
        rows = counter.count(recipe) if any(map(needs_rows, phases)) else {}
        counts = None if rows is None else [count_phase(recipe, each, rows.get(each.index, 0)) for each in phases]
        time = None
        if counts is not None:
            steps = [each.num_steps for each in counts]
            time = sum_times([pace.steps.get(name_steps(self.study, first, phase)) for phase in phases], steps)
            time = time or self._reckon(first, counts)
        return ArmPlan(
            arm=arm,
            seeds=[job.seed for job in jobs],
            num_finished=sum(job.look().is_finished for job in jobs),
            num_processes=first.num_processes,
            num_steps=None if counts is None else sum(each.num_steps for each in counts),
            num_rollouts=None if counts is None else sum(each.num_before + each.num_rollouts for each in counts),
            num_tokens=None if counts is None else sum(each.num_tokens for each in counts),
            time=time,
        )

    def count_questions(self, job: AskJob) -> int | None:
        """The questions of a job in one mode; as published where its files are not on this machine."""
        asked = job.questions
        if asked not in self._questions:
            num: int | None
            try:
                num = len(load_evaluation(asked, check_images=False))
            except P2RError as error:
                num = count_published(asked.benchmark, asked.split)
                if num is None:
                    said = name_settings(error.message)
                    self.notes[f"The questions of {job.evaluation} are unknown: {said}."] = None
                else:
                    self._published.append(job.evaluation)
            self._questions[asked] = num if num is None or asked.num is None else min(num, asked.num)
        return self._questions[asked]

    def list_notes(self) -> list[str]:
        """Say what was assumed or could not be known, a sentence each."""
        if not self._published:
            return list(self.notes)
        names = ", ".join(self._published)
        return [*self.notes, f"Questions are counted as published where files cannot be read here: {names}."]

    def time_questions(self, job: AskJob, pace: Pace) -> Measured | None:
        """The seconds of a job's answers; None where nothing tells."""
        times = [pace.answers.get(name_answers(self.study, job, mode)) for mode in job.modes]
        return sum_times(times, [self.count_questions(job)] * len(job.modes))

    def _reckon(self, job: TrainJob, counts: Sequence[PhaseCounts]) -> Measured | None:
        """The seconds that the arithmetic of a training takes at most; None where that is not asked or not known."""
        if self.tflops is None:
            return None
        root = find_root(self.study, job.arm)
        num_weights = count_weights(root)
        if num_weights is None:
            self.notes[f"The number of weights of {root} is not known: it is not on this machine."] = None
            return None
        phases = job.recipe.phases()
        flops = sum(estimate_flops(job.recipe, *each, num_weights) for each in zip(phases, counts, strict=True))
        speed = f"{self.tflops:g} TFLOP/s"
        self.notes[
            f"{speed}: the time that each GPU takes if it sustains so many operations over rollouts and updates alike, "
            "with two operations for each weight and token of a forward pass, and as if every prompt and every reply "
            "were as long as it can get. Writing replies sustains far less than learning from them."
        ] = None
        return flops / (self.tflops * 1e12) / job.num_processes, speed


def count_weights(spec: str) -> int | None:
    """The number of weights of a model; None where it is neither on this machine nor listed."""
    known = count_known_weights(spec)
    if known is not None:
        return known
    checkpoint = find_here(spec)
    return None if checkpoint is None else sum(each.num_weights for each in read_headers(checkpoint.folder).values())


def tabulate_plan(study: Study, *, rows: int | None = None, tflops: float | None = None) -> list[Table]:
    """A table of the arms and one of the questions; rows, tflops: see `Planner`."""
    planner = Planner(study, rows, tflops)
    pace = measure_pace(study)
    plans = planner.plan_arms(pace)
    askings = list_askings(study)
    times = {job.name: planner.time_questions(job, pace) for job in askings}
    is_unknown = any(plan.time is None for plan in plans) or None in times.values()
    notes = ["Steps, rollouts, generated tokens, minutes and GPU hours are those of one seed."]
    if any(plan.num_processes > 1 for plan in plans):
        notes.append("GPU hours are those of all processes, one for each GPU.")
    if any(plan.time is not None for plan in plans) or any(times.values()):
        notes.append(MINUTES)
    if is_unknown and not any(plan.time for plan in plans):
        notes.append(UNKNOWN_MINUTES)
    elif is_unknown:
        notes.append("A dash: nothing like it has run yet; --trial measures it.")
    return [
        Table(
            title=f"{study.title}: {count_nouns(len(list_jobs(study)), 'job')}",
            columns=(
                "arm", "seeds", "finished", "steps", "rollouts", "tokens at most", "minutes", "GPU hours", "by",
            ),
            rows=tuple(_list_rows(plans)),
            notes=(*notes, *planner.list_notes(), *list_idle(study)),
        ),
        Table(
            title="Questions",
            columns=("job", "modes", "answers", "finished", "minutes", "by"),
            rows=tuple(_question_row(job, planner.count_questions(job), times[job.name]) for job in askings),
        ),
    ]  # fmt: skip


def _list_rows(plans: Sequence[ArmPlan]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            each.arm,
            ", ".join(map(str, each.seeds)),
            f"{each.num_finished} of {len(each.seeds)}",
            show_number(each.num_steps, 0),
            show_number(each.num_rollouts, 0),
            show_number(each.num_tokens, 0),
            show_number(each.minutes, 1),
            show_number(each.gpu_hours, 2),
            MISSING if each.time is None else each.time[1],
        )
        for each in plans
    ]
    if plans:
        left = [len(each.seeds) - each.num_finished for each in plans]
        all_seeds = [len(each.seeds) for each in plans]
        sums = [
            _add_up([each.num_steps for each in plans], all_seeds),
            _add_up([each.num_rollouts for each in plans], all_seeds),
            _add_up([each.num_tokens for each in plans], all_seeds),
        ]
        rows.append(
            (
                "all seeds together",
                str(sum(all_seeds)),
                str(sum(each.num_finished for each in plans)),
                *(show_number(value, 0) for value in sums),
                _show_left(_add_up([each.minutes for each in plans], left), 1),
                _show_left(_add_up([each.gpu_hours for each in plans], left), 2),
                "",
            )
        )
    return rows


def _show_left(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{show_number(value, digits)} left"


def _add_up(values: Sequence[float | None], counts: Sequence[int]) -> float | None:
    """The sum of values that come so often each; None where one is not known."""
    known = [value for value in values if value is not None]
    return sum(a * b for a, b in zip(known, counts, strict=True)) if len(known) == len(values) else None


def _question_row(job: AskJob, num: int | None, time: Measured | None) -> tuple[str, ...]:
    return (
        job.name,
        ", ".join(job.modes),
        MISSING if num is None else f"{num * len(job.modes):,}",
        "yes" if job.look().is_finished else "no",
        MISSING if time is None else show_number(time[0] / 60, 1),
        MISSING if time is None else time[1],
    )
