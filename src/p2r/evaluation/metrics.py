"""Figures of a run: what share was right, how sure that is, and whether the boxes were where the evidence is.

Paper: section 4.4 for hit rate and IoU. Departures: the paper does not say how IoU is averaged over several gold
boxes; here it is the mean over the gold boxes of the best IoU, then the mean over samples. `seen_rate` is not in the
paper: the margin around a crop forgives a box that is a little off, so a hit says less about what the reasoner saw
than the crops do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2r.boxes import hits, mean_best_iou, target_inside_crop
from p2r.evaluation.statistics import Interval, wilson
from p2r.types import Frozen, Sample, Trace


class Summary(Frozen):
    """A run in figures; None where nothing is known.

    num_judged: traces with a verdict; accuracy and its 95% interval are shares of these.
    num_failed: traces with a failure: neither right nor wrong.
    chance: mean accuracy of blind guessing on these samples, None unless every one states it.
    hit_rate: share of samples with gold boxes in which the centre of some box lies in some gold box.
    mean_iou: mean over samples of the mean over gold boxes of the best IoU.
    seen_rate: share of samples whose every gold box lies wholly inside some crop.
    mean_boxes: boxes per sample.
    seconds_per_sample: wall time of the run over all samples, walks side by side.
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
    seconds_per_sample: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """One way of answering a list of samples.

    name, caption: for tables: what it is called, and what it does.
    looks: whether boxes are part of it; without them there is nothing to say about hits.
    traces: one per sample, in the order of the samples.
    wall_s: seconds from the first question to the last answer, None when not measured.
    """

    name: str
    traces: tuple[Trace, ...]
    caption: str = ""
    looks: bool = True
    wall_s: float | None = None


def summarise(samples: Sequence[Sample], run: Run) -> Summary:
    """Count a run.

    Raises:
        ValueError: the traces are not those of the samples, in their order.
    """
    if [sample.id for sample in samples] != [trace.sample_id for trace in run.traces]:
        raise ValueError(f"the traces of {run.name!r} do not belong to these samples")
    verdicts = [trace.verdict for trace in run.traces if trace.verdict is not None]
    num_correct = sum(verdict.correct for verdict in verdicts)
    chances = [sample.chance for sample in samples if sample.chance is not None]
    looked = [
        (sample, trace)
        for sample, trace in zip(samples, run.traces, strict=True)
        if run.looks and trace.perception is not None
    ]
    findable = [(sample, trace) for sample, trace in looked if sample.gold_boxes]
    return Summary(
        num_samples=len(samples),
        num_judged=len(verdicts),
        num_correct=num_correct,
        num_failed=sum(trace.failure is not None for trace in run.traces),
        accuracy=num_correct / len(verdicts) if verdicts else None,
        interval=wilson(num_correct, len(verdicts)),
        chance=_mean(chances) if len(chances) == len(samples) else None,
        hit_rate=_mean([hits(trace.boxes, sample.gold_boxes) for sample, trace in findable]),
        mean_iou=_mean([mean_best_iou(trace.boxes, sample.gold_boxes) for sample, trace in findable]),
        seen_rate=_mean([saw_all_evidence(sample, trace) for sample, trace in findable]),
        mean_boxes=_mean([len(trace.boxes) for _, trace in looked]),
        seconds_per_sample=run.wall_s / len(samples) if run.wall_s is not None and samples else None,
    )


def saw_all_evidence(sample: Sample, trace: Trace) -> bool:
    """Whether every gold box lies wholly inside some crop, so that the reasoner saw all of it at full resolution."""
    record = trace.evidence
    return record is not None and all(
        target_inside_crop(gold, record.crops, record.image_wh) for gold in sample.gold_boxes
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
