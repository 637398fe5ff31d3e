"""What answers cost: calls, tokens and seconds of each stage, and samples per second of the whole run.

Paper: Figure 11 plots accuracy against samples per second. Tokens are shown as well, because they do not depend on the
machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from p2r.errors import count_nouns
from p2r.evaluation.scoring import ScoredRow, ScoredRun
from p2r.evaluation.tables import Table, show_number
from p2r.statistics import mean_of
from p2r.types import Completion, Frozen, Trace

Stage = Literal["perceiver", "reasoner", "judge"]
STAGES: tuple[Stage, ...] = ("perceiver", "reasoner", "judge")
ANSWERING: tuple[Stage, ...] = ("perceiver", "reasoner")
"""The stages that an answer costs; judging it is a cost of the evaluation."""


class Cost(Frozen):
    """The cost of one stage or several. Means are over answered samples; None where no reply reports the number.

    num_calls: calls of a model in all samples.
    num_reused: calls that were answered from a cache or by another sample's reply; they count as calls.
    prompt_tokens: all tokens read, visual ones included.
    seconds: as the model reports them; calls that run side by side include waiting.
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
        """Tokens read and written; of those read only the visual ones where no others are known."""
        read = self.visual_tokens if self.prompt_tokens is None else self.prompt_tokens
        return None if read is None else read + (self.generated_tokens or 0)


def measure_cost(rows: Sequence[ScoredRow], *stages: Stage) -> Cost:
    """The cost of these stages; of answering when none is named."""
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
            "Calls and reused count all samples; reused calls were answered from a cache or by a sample that asks the "
            "same. Tokens and seconds are means per answered sample, as if each call had been made. Prompt tokens "
            "include visual ones. Seconds are as the model reports them; calls side by side include waiting.",
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
        return "The wall time of this run was not recorded."
    seconds = sum(session.seconds for session in sessions)
    parts = f" in {len(sessions)} parts" if len(sessions) > 1 else ""
    num_asked = sum(session.num_asked for session in sessions)
    return f"Wall time {seconds:,.2f} s{parts}, {count_nouns(num_asked, 'sample')} asked: {speed:.2f} samples/s."


def _mean_sum(calls: Sequence[Sequence[Completion]], read: Callable[[Completion], float | None]) -> float | None:
    """The mean over samples of the sum over their calls; samples with a call that does not report it are left out."""
    sums: list[float] = []
    for per_sample in calls:
        values = [read(call) for call in per_sample]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            sums.append(sum(known))
    return mean_of(sums) if any(calls) else None
