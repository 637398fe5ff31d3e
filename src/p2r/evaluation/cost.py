"""What answers cost: calls, tokens and seconds of each stage, and samples per second of the whole.

Paper: Figure 11 sets accuracy against samples per second. Tokens are shown as well: they do not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from p2r.evaluation.scoring import ScoredRow, ScoredRun
from p2r.evaluation.tables import Table, show_number
from p2r.statistics import mean_of
from p2r.types import Completion, Frozen, Trace

Stage = Literal["perceiver", "reasoner", "judge"]
STAGES: tuple[Stage, ...] = ("perceiver", "reasoner", "judge")
ANSWERING: tuple[Stage, ...] = ("perceiver", "reasoner")
"""What an answer costs; judging it is the evaluation's own cost."""


class Cost(Frozen):
    """Of one stage or several. Means are over answered samples; None where no sample's replies say it.

    num_calls: questions that a model was asked, in all.
    num_reused: of these, replies that were there already, from a cache or for another sample; they count as asked.
    prompt_tokens: all that was read, visual tokens among it.
    seconds: as the model reports them; side by side they include waiting.
    """

    num_samples: int
    num_calls: int
    num_reused: int
    visual_tokens: float | None
    prompt_tokens: float | None
    generated_tokens: float | None
    seconds: float | None

    @property
    def tokens(self) -> float | None:
        """Read and written; only the visual ones of those read where nothing else is known."""
        read = self.visual_tokens if self.prompt_tokens is None else self.prompt_tokens
        return None if read is None else read + (self.generated_tokens or 0)


def measure_cost(rows: Sequence[ScoredRow], *stages: Stage) -> Cost:
    """Of these stages; of answering when none is named."""
    answered = [row.trace for row in rows if row.trace.failure is None]
    calls = [[call for stage in stages or ANSWERING for call in list_calls(trace, stage)] for trace in answered]
    return Cost(
        num_samples=len(answered),
        num_calls=sum(map(len, calls)),
        num_reused=sum(bool(call.reused) for per_sample in calls for call in per_sample),
        visual_tokens=_mean_sum(calls, lambda call: sum(call.usage.visual_tokens)),
        prompt_tokens=_mean_sum(calls, lambda call: call.usage.prompt_tokens),
        generated_tokens=_mean_sum(calls, lambda call: call.usage.generated_tokens),
        seconds=_mean_sum(calls, lambda call: call.seconds),
    )


def list_calls(trace: Trace, stage: Stage) -> tuple[Completion, ...]:
    """Every reply of a model in this stage, in order."""
    last = {
        "perceiver": trace.perception.completion if trace.perception else None,
        "reasoner": trace.reasoning,
        "judge": trace.verdict.completion if trace.verdict else None,
    }[stage]
    return last.calls if last else ()


def find_speed(run: ScoredRun) -> float | None:
    """Samples per second of wall time; None for a run without a clock."""
    seconds = sum(session.seconds for session in run.sessions)
    return sum(session.num_asked for session in run.sessions) / seconds if seconds > 0 else None


def tabulate_cost(run: ScoredRun) -> Table:
    """Calls, tokens and seconds of each stage, and the wall time."""
    named: list[tuple[str, Cost]] = [(stage, measure_cost(run.rows, stage)) for stage in STAGES]
    named = [(name, cost) for name, cost in named if cost.num_calls or name != "judge"]
    if all(cost.num_calls for _, cost in named[:2]):
        named.insert(2, ("both", measure_cost(run.rows)))
    rows = tuple((name, str(cost.num_calls), str(cost.num_reused), *_show_means(cost)) for name, cost in named)
    return Table(
        title="Cost",
        columns=("stage", "calls", "reused", "visual tokens", "prompt tokens", "generated tokens", "seconds"),
        rows=rows,
        notes=(
            "Calls in all, of which replies that were there already (a cache, or a row that asks the same); means per "
            "answered sample, as if each had been asked. Prompt tokens count visual ones. Seconds are as the model "
            "reports them; side by side they include waiting.",
            _explain_wall(run),
        ),
    )


def _show_means(cost: Cost) -> tuple[str, ...]:
    return (
        show_number(cost.visual_tokens, 0),
        show_number(cost.prompt_tokens, 0),
        show_number(cost.generated_tokens, 0),
        show_number(cost.seconds, 2),
    )


def _explain_wall(run: ScoredRun) -> str:
    sessions, speed = run.sessions, find_speed(run)
    if speed is None:
        return "No wall time was kept with this run."
    seconds = sum(session.seconds for session in sessions)
    parts = f" in {len(sessions)} parts" if len(sessions) > 1 else ""
    num_asked = sum(session.num_asked for session in sessions)
    return f"Wall time {seconds:,.2f} s{parts}, {num_asked} samples asked: {speed:.2f} samples/s."


def _mean_sum(calls: Sequence[Sequence[Completion]], read: Callable[[Completion], float | None]) -> float | None:
    """Mean over samples of the sum over calls, of the samples whose every call says it."""
    sums: list[float] = []
    for per_sample in calls:
        values = [read(call) for call in per_sample]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            sums.append(sum(known))
    return mean_of(sums) if any(calls) else None
