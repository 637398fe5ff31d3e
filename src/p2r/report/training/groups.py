"""Groups of a training run: one question, and what each rollout made of it.

The perceiver's rollouts look at different places, so each is shown on an image of its own. The reasoner's all see the
same evidence, which is shown once. A log holds no images: they are found again through the recipe's data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2r.benchmarks.training_rows import load_source
from p2r.boxes import hits
from p2r.config import ActiveRole, DataSettings
from p2r.errors import P2RError
from p2r.images.load import FileImage
from p2r.report.evaluation.gallery import draw_evenly
from p2r.report.evaluation.sections import asks_same
from p2r.report.kit.embed import Embedded, embed
from p2r.report.kit.evidence_view import (
    BoxView,
    EvidenceView,
    ImageDetail,
    RunTrace,
    load_evidence,
    view_box,
    view_evidence,
    view_run_boxes,
)
from p2r.report.kit.trace_view import OptionView, ReplyView, leave_out_middle, view_options, view_reply
from p2r.report.training.curves import name_term
from p2r.runs.training import TrainingRun
from p2r.runs.training_log import QuotedGroup, QuotedRollout
from p2r.types import ImageSource, Sample, Trace

MAX_GROUPS = 120
"""Most groups shown, drawn evenly from all steps. With its images a group takes about 50 kB."""
GROUP_DETAIL = ImageDetail(560, 360, False, 74)
MAX_CHARS = 1200
"""Longer replies lose their middle."""
FILTERS: Mapping[str, str] = {
    "asked": "All",
    "mixed": "Right and wrong",
    "right": "All right",
    "wrong": "All wrong",
    "missed": "No box hits",
    "failed": "With failures",
}


@dataclass(frozen=True, slots=True)
class RolloutView:
    """One rollout.

    boxes: of the perceiver; () for the reasoner, whose rollouts share them.
    masked: why it does not take part in training; "" when it does.
    reply: the answer that it led to; None when no reasoner was asked.
    """

    number: int
    verdict: str
    text: str
    boxes: tuple[BoxView, ...]
    boxes_text: str
    reward_text: str
    advantage_text: str
    masked: str
    terms_text: str
    reply: ReplyView | None


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group.

    image: shown under the perceiver's boxes. evidence: what the reasoner saw. problem: why there is neither.
    """

    number: int
    sample_id: str
    run: str
    phase: str
    step: int
    role: ActiveRole
    question: str
    options: tuple[OptionView, ...]
    target: str
    flags: tuple[str, ...]
    rollouts: tuple[RolloutView, ...]
    gold: tuple[BoxView, ...]
    image: Embedded | None
    evidence: EvidenceView | None
    problem: str

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.run, f"{self.phase}, step {self.step}")))


def view_groups(
    runs: Sequence[TrainingRun],
    names: Sequence[str],
    *,
    data: DataSettings | None = None,
    max_groups: int = MAX_GROUPS,
    on_done: Callable[[int, int], None] | None = None,
) -> tuple[list[GroupView], list[str]]:
    """Groups drawn evenly from the steps of all runs, and sentences about images that were not found.

    Args:
        data: where the rows are now, in place of where the recipes say.
        on_done: called with how many groups of how many are done.
    """
    share = max_groups // len(runs)
    chosen = [(index, group) for index, run in enumerate(runs) for group in draw_evenly(run.groups, share)]
    needed: dict[DataSettings, set[str]] = {}
    for index, group in chosen:
        needed.setdefault(data or runs[index].data_of(group), set()).add(group.sample_id)
    found = {settings: find_samples(settings, ids) for settings, ids in needed.items()}
    views: list[GroupView] = []
    for number, (index, group) in enumerate(chosen, start=1):
        samples, _ = found[data or runs[index].data_of(group)]
        name = names[index] if len(runs) > 1 else ""
        views.append(_view_group(number, name, group, samples.get(group.sample_id)))
        if on_done is not None:
            on_done(number, len(chosen))
    return views, [problem for _, problem in found.values() if problem]


def find_samples(data: DataSettings, ids: set[str]) -> tuple[dict[str, Sample], str]:
    """Samples by id, and why some are missing."""
    try:
        source = load_source(data)
    except P2RError as error:
        return {}, f"The images were not found: {error.message}"
    found: dict[str, Sample] = {}
    for sample in source:
        if sample.id in ids:
            found[sample.id] = sample
        if len(found) == len(ids):
            break
    missing = len(ids) - len(found)
    return found, f"{missing} of {len(ids)} questions are not in {source.source}." if missing else ""


def _view_group(number: int, run: str, group: QuotedGroup, sample: Sample | None) -> GroupView:
    trace = next((rollout.trace for rollout in group.rollouts if rollout.trace is not None), None)
    if sample is not None and trace is not None and not asks_same(sample, trace):
        sample = None
    image, evidence, problem = _view_images(group, trace, sample)
    rollouts = tuple(_view_rollout(k, group, rollout) for k, rollout in enumerate(group.rollouts, start=1))
    gold = tuple(view_box(box, "", "", None) for box in sample.gold_boxes) if sample else ()
    return GroupView(
        number=number,
        sample_id=group.sample_id,
        run=run,
        phase=group.phase,
        step=group.step,
        role=group.role,
        question=sample.question if sample else trace.question if trace else group.sample_id,
        options=view_options(trace) if trace else (),
        target=(sample.target if sample else trace.target if trace else "") or "",
        flags=tuple(f"0:{name}" for name in _list_flags(group, sample)),
        rollouts=rollouts,
        gold=gold,
        image=image,
        evidence=evidence,
        problem=problem,
    )


def _view_images(
    group: QuotedGroup, trace: Trace | None, sample: Sample | None
) -> tuple[Embedded | None, EvidenceView | None, str]:
    """The bare image for a perceiver's group, the evidence for a reasoner's; or why there is neither."""
    source: ImageSource | None = sample.image if sample else None
    if source is None and trace is not None and Path(trace.image).is_file():
        source = FileImage(trace.image)
    if source is None:
        return None, None, f"the image {trace.image if trace else group.sample_id!r} was not found"
    try:
        if group.role == "perceiver":
            image = embed(source.load(), max_side_px=GROUP_DETAIL.image_px, quality=GROUP_DETAIL.quality)
            return image, None, ""
        if trace is None:
            return None, None, "none of its rollouts could be judged"
        loaded = load_evidence(source, [RunTrace(0, "", trace)], None)
    except P2RError as error:
        return None, None, error.message
    return None, view_evidence(loaded, sample.gold_boxes if sample else (), detail=GROUP_DETAIL), ""


def _view_rollout(number: int, group: QuotedGroup, rollout: QuotedRollout) -> RolloutView:
    trace = rollout.trace
    was_asked = trace is not None and (trace.reasoning is not None or trace.failure is not None)
    reply = view_reply(trace, max_chars=MAX_CHARS) if trace is not None and was_asked else None
    boxes = view_run_boxes(trace, 0) if trace is not None and group.role == "perceiver" else ()
    if rollout.reward is None:
        verdict = "failed"
    else:
        verdict = reply.verdict if reply else "unjudged"
    return RolloutView(
        number=number,
        verdict=verdict,
        text=leave_out_middle(rollout.text, MAX_CHARS),
        boxes=boxes,
        boxes_text=", ".join(box.label or "no label" for box in boxes) or "no box",
        reward_text="masked" if rollout.reward is None else f"{rollout.reward:.3g}",
        advantage_text="masked" if rollout.advantage is None else f"{rollout.advantage:+.2f}",
        masked=_explain_mask(rollout),
        terms_text=", ".join(f"{name_term(name)} {value:.3g}" for name, value in sorted(rollout.terms.items())),
        reply=reply,
    )


def _explain_mask(rollout: QuotedRollout) -> str:
    """Say why a rollout takes no part in training; "" if it does."""
    if rollout.reward is None:
        failure = rollout.trace.failure if rollout.trace else None  # older runs have it only there
        return f"masked: {rollout.failure or (failure.message if failure else 'it was not judged')}"
    return "masked: fewer than two rollouts of its group could be judged" if rollout.advantage is None else ""


def _list_flags(group: QuotedGroup, sample: Sample | None) -> list[str]:
    """The filters that a group falls under."""
    verdicts = [
        rollout.trace.verdict.correct
        for rollout in group.rollouts
        if rollout.trace is not None and rollout.trace.verdict is not None
    ]
    looked = [rollout.trace.boxes for rollout in group.rollouts if rollout.trace is not None]
    gold = sample.gold_boxes if sample else ()
    flags = {
        "asked": True,
        "mixed": len(set(verdicts)) == 2,
        "right": bool(verdicts) and all(verdicts),
        "wrong": bool(verdicts) and not any(verdicts),
        "missed": bool(gold) and bool(looked) and not any(hits(boxes, gold) for boxes in looked),
        "failed": any(rollout.reward is None for rollout in group.rollouts),
    }
    return [name for name, holds in flags.items() if holds]
