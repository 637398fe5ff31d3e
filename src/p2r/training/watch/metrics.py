"""The metrics of a step (paper: Figures 6, 9 and 10), as `p2r.runs.training_log.Step` holds them.

A resumed run repeats all of them to the last bit, except for `timing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from p2r.boxes import hits
from p2r.config import ActiveRole
from p2r.runs.training_log import QuotedGroup, QuotedRollout, Step
from p2r.statistics import mean_of
from p2r.training.advantages import Compared
from p2r.training.engines.local.distributed import World
from p2r.training.groups import Rollout, RolloutStats
from p2r.training.update import Learner, UpdateReport
from p2r.training.watch.flops import count_update_flops, peak_flops
from p2r.training.watch.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """The facts about a rollout that metrics are made from, small enough to be gathered from all processes.

    hit: whether a box hit; None where the data has no boxes.
    """

    role: ActiveRole
    reward: float | None
    correct: bool | None
    num_tokens: int
    ended: bool
    terms: tuple[tuple[str, float], ...]
    num_boxes: int | None
    box_area: float | None
    hit: bool | None


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """The facts about a group that metrics are made from."""

    sample_id: str
    is_dropped: bool
    is_dead: bool
    rollouts: tuple[RolloutFacts, ...]


def describe_groups(compared: Sequence[Compared]) -> list[GroupFacts]:
    """Collect the facts about each group that metrics are made from."""
    return [
        GroupFacts(
            each.group.sample.id,
            each.is_dropped,
            each.is_dead,
            tuple(_describe(each, rollout) for rollout in each.group.rollouts),
        )
        for each in compared
    ]


def measure_step(
    phase: str,
    step: int,
    groups: Sequence[GroupFacts],
    stats: RolloutStats,
    report: UpdateReport | None,
    rate: float,
    timing: Mapping[str, float],
) -> Step:
    """The metrics of a step.

    Args:
        step: counted from 1.
        groups, stats: of all processes.
        report: None when nothing could be learned.
        rate: the learning rate.
        timing: of `time_step`.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    judged = [rollout for rollout in rollouts if rollout.reward is not None]
    boxed = [rollout for rollout in rollouts if rollout.num_boxes is not None]
    gap = None if report is None else report.sampler
    names = sorted({name for rollout in judged for name, _ in rollout.terms})
    return Step(
        phase=phase,
        step=step,
        reward=mean_of(rollout.reward for rollout in judged),
        accuracy=mean_of(rollout.correct for rollout in judged),
        drawn_reward=_divide(stats.drawn_reward, stats.num_drawn_rewards),
        drawn_accuracy=_divide(stats.num_drawn_correct, stats.num_drawn_verdicts),
        num_rows=stats.num_rows,
        num_groups=len(groups),
        num_failed_rows=stats.num_failed_rows,
        num_rollouts=len(rollouts),
        num_unjudged=len(rollouts) - len(judged),
        num_truncated=sum(not rollout.ended for rollout in rollouts),
        num_generated_tokens=sum(rollout.num_tokens for rollout in rollouts),
        num_learned_tokens=0,
        num_trained_tokens=0 if report is None else report.num_trained_tokens,
        mean_length=mean_of([rollout.num_tokens for rollout in rollouts]),
        max_length=max((rollout.num_tokens for rollout in rollouts), default=0),
        dead_groups=mean_of([group.is_dead for group in groups]),
        dropped_groups=mean_of([group.is_dropped for group in groups]),
        drawn_dead_groups=_divide(stats.num_drawn_dead, stats.num_drawn_groups),
        unique_evidence=stats.unique_share if boxed else None,
        unique_replies=stats.unique_share,
        num_box_replies=stats.frames.num_replies,
        num_other_frame=stats.frames.others.total(),
        num_partner_calls=stats.num_partner_calls,
        num_reused=stats.num_reused,
        num_judge_calls=stats.num_judge_calls,
        num_judge_reused=stats.num_judge_reused,
        failures=dict(stats.causes.most_common()),
        mean_boxes=mean_of(rollout.num_boxes for rollout in boxed),
        one_box=mean_of([rollout.num_boxes == 1 for rollout in boxed]),
        mean_box_area=mean_of(rollout.box_area for rollout in boxed),
        hit_rate=mean_of(rollout.hit for rollout in boxed),
        lr=rate,
        terms={name: mean_of(dict(rollout.terms).get(name) for rollout in judged) for name in names},
        loss=None if report is None else report.loss,
        policy=None if report is None else report.policy,
        kl=None if report is None else report.kl,
        entropy=None if report is None else report.entropy,
        clip_share=None if report is None else report.clip_share,
        ratio=None if report is None else report.ratio,
        resting_kl=None if report is None else report.resting_kl,
        grad_norm=None if report is None else report.grad_norm,
        sampler_diff=None if gap is None else gap.diff,
        sampler_diff_max=None if gap is None else gap.diff_max,
        sampler_ratio=None if gap is None else gap.ratio,
        sampler_kl=None if gap is None else gap.kl,
        timing=timing,
    )


def _divide(total: float, num: int) -> float | None:
    return total / num if num else None


def quote_group(phase: str, step: int, compared: Compared) -> QuotedGroup:
    """A group word by word, for the report. step: counted from 1."""
    return QuotedGroup(
        phase=phase,
        step=step,
        sample_id=compared.group.sample.id,
        role=compared.group.role,
        rollouts=tuple(
            QuotedRollout(
                text=rollout.text,
                reward=rollout.reward,
                advantage=advantage,
                terms=rollout.terms,
                failure=rollout.failure,
                trace=rollout.trace,
            )
            for rollout, advantage in zip(compared.group.rollouts, compared.advantages, strict=True)
        ),
    )


def sum_stats(stats: RolloutStats, world: World) -> RolloutStats:
    """The counts of all processes; the seconds are those of this one."""
    names = [field.name for field in fields(RolloutStats) if field.name not in ("seconds", "frames", "causes")]
    sums = world.add_up([float(getattr(stats, name)) for name in names])
    summed = RolloutStats(seconds=stats.seconds)
    for name, value in zip(names, sums, strict=True):
        setattr(summed, name, type(getattr(stats, name))(value))
    for frames in world.gather([stats.frames]):
        summed.frames.add(frames)
    summed.causes.update(world.gather(list(stats.causes.elements())))
    return summed


def time_step(learner: Learner, watch: Stopwatch, stats: RolloutStats, report: UpdateReport | None) -> dict[str, float]:
    """Seconds of a step by part, tokens per second, and the share of the GPUs' arithmetic that the update used (`mfu`).

    Parts of the rollout are named rollout_*.
    """
    timing = {name: round(seconds, 4) for name, seconds in watch.seconds.items()}
    timing |= {f"rollout_{name}": round(seconds, 4) for name, seconds in stats.seconds.items()}
    timing["seconds"] = round(watch.total, 4)
    timing["generated_tokens_per_second"] = round(stats.num_tokens / max(watch.seconds["rollout"], 1e-9), 1)
    peak = peak_flops()
    if report is None:
        return timing
    num_updates = learner.phase.optimizer.updates_per_batch
    learning = watch.total - watch.seconds["rollout"]
    timing["trained_tokens_per_second"] = round(report.num_trained_tokens / max(learning, 1e-9), 1)
    if peak is not None:
        done = count_update_flops(
            learner.policy,
            num_tokens=report.num_packed_tokens,
            num_predictors=report.num_predictors,
            num_patches=report.num_patches,
            num_updates=num_updates,
            has_reference=learner.phase.loss.kl_coef > 0,
        )
        timing["mfu"] = round(done / (learning * peak * learner.world.size), 4)
    return timing


def _describe(compared: Compared, rollout: Rollout) -> RolloutFacts:
    trace, gold = rollout.trace, compared.group.sample.gold_boxes
    looked = trace is not None and trace.perception is not None and compared.group.role == "perceiver"
    boxes = trace.boxes if trace is not None and looked else ()
    return RolloutFacts(
        role=compared.group.role,
        reward=rollout.reward,
        correct=rollout.is_correct,
        num_tokens=len(rollout.token_ids),
        ended=rollout.ended,
        terms=tuple(sorted(rollout.terms.items())),
        num_boxes=len(boxes) if looked else None,
        box_area=mean_of([box.area for box in boxes]),
        hit=hits(boxes, gold) if looked and gold else None,
    )
