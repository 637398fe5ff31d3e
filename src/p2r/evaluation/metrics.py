"""A run in one line: what share was right, how sure that is, where it looked, and what it cost.

Paper: section 4.4 for hit rate and IoU. Departures: the paper does not say how IoU is averaged over several gold
boxes; here it is the mean over the gold boxes of the best IoU, then the mean over samples. `seen_rate` is not in the
paper: the margin around a crop forgives a box that is a little off, so a hit says less about what the reasoner saw
than the crops do.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2r.boxes import hits, mean_best_iou, target_inside_crop
from p2r.evaluation.compare import name_runs
from p2r.evaluation.cost import Cost, find_speed, measure_cost
from p2r.evaluation.scorecard import score_columns
from p2r.evaluation.scoring import ScoredRow, ScoredRun
from p2r.evaluation.tables import MISSING, Table, show_interval, show_number, show_share
from p2r.modes import LOOKING
from p2r.statistics import Interval, mean_of
from p2r.types import Box, Frozen, Trace


class Summary(Frozen):
    """The metrics of a run; None where nothing is known.

    num_samples: samples that were asked.
    num_judged: answers with a verdict; accuracy and its 95% interval are shares of these.
    num_failed: samples that failed, neither right nor wrong.
    accuracy: by the benchmark's own aggregation; `num_correct` of `num_judged` where that is a plain share.
    chance: mean accuracy of blind guessing on these samples; None unless every sample states its own.
    hit_rate: share of samples with gold boxes where the center of some box is in some gold box.
    mean_iou: mean over samples of the mean over gold boxes of the best IoU.
    seen_rate: share of samples with every gold box wholly inside some crop.
    mean_boxes: boxes per sample.
    samples_per_second: by the wall clock, with walks side by side.
    """

    num_samples: int
    num_judged: int
    num_correct: int
    num_failed: int
    accuracy: float | None
    interval: Interval
    chance: float | None
    hit_rate: float | None
    mean_iou: float | None
    seen_rate: float | None
    mean_boxes: float | None
    cost: Cost
    samples_per_second: float | None


def summarize(run: ScoredRun) -> Summary:
    """Measure a run by its default scorer. In modes that do not look, the metrics of boxes are None."""
    whole = next(iter(score_columns(run).values()))
    looked = list_looked(run)
    findable = [row for row in looked if row.facts.gold_boxes]
    return Summary(
        num_samples=len(run.rows),
        num_judged=len(whole.rows),
        num_correct=whole.num_correct,
        num_failed=sum(row.trace.failure is not None for row in run.rows),
        accuracy=whole.score,
        interval=whole.interval or Interval(low=0.0, high=1.0),
        chance=whole.chance,
        hit_rate=mean_of([hits(row.trace.boxes, row.facts.gold_boxes) for row in findable]),
        mean_iou=mean_of([mean_best_iou(row.trace.boxes, row.facts.gold_boxes) for row in findable]),
        seen_rate=mean_of([saw_all_evidence(row.trace, row.facts.gold_boxes) for row in findable]),
        mean_boxes=mean_of([len(row.trace.boxes) for row in looked]),
        cost=measure_cost(run.rows),
        samples_per_second=find_speed(run),
    )


def list_looked(run: ScoredRun) -> list[ScoredRow]:
    """The samples that have a perception; none in modes that do not look."""
    looks = run.settings.mode in LOOKING
    return [row for row in run.rows if looks and row.trace.perception is not None]


def saw_all_evidence(trace: Trace, gold_boxes: Sequence[Box]) -> bool:
    """Tell whether every gold box is wholly inside some crop, so that the reasoner saw all of it at full resolution."""
    record = trace.evidence
    return record is not None and all(target_inside_crop(gold, record.crops, record.image_wh) for gold in gold_boxes)


def tabulate_summaries(runs: Sequence[ScoredRun], *, names: Sequence[str] = ()) -> Table:
    """A row for each run: accuracy, where it looked, and what an answer cost."""
    body: list[tuple[str, ...]] = []
    for run, name in zip(runs, names or name_runs(runs), strict=True):
        summary = summarize(run)
        cost, judged = summary.cost, summary.num_judged
        body.append(
            (
                name,
                str(judged),
                str(summary.num_correct),
                str(summary.num_failed),
                show_share(summary.chance),
                show_share(summary.accuracy),
                show_interval(summary.interval) if judged else MISSING,
                show_share(summary.hit_rate),
                show_share(summary.seen_rate),
                show_number(summary.mean_iou),
                show_number(summary.mean_boxes),
                show_number(cost.num_calls / cost.num_samples if cost.num_samples else None, 1),
                show_number(cost.tokens, 0),
                show_number(summary.samples_per_second),
            )
        )
    return Table(
        title="Runs, with what an answer cost",
        columns=(
            "run", "n", "right", "failed", "chance", "accuracy", "95% interval", "hit rate", "in crops", "IoU", "boxes",
            "calls", "tokens", "samples/s",
        ),
        rows=tuple(body),
        notes=(
            "n counts judged answers; failed ones are neither right nor wrong. Hit rate: the center of some box is in "
            "some gold box. In crops: every gold box is wholly in some crop. IoU: the best per gold box. Boxes, calls "
            "and tokens (read and written) are per sample; samples/s is by the wall clock.",
        ),
    )  # fmt: skip
