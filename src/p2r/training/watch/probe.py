"""The probe: questions that are not trained on, asked every so often in the modes `p2r` and `direct`.

Paper: Figures 6, 9 and 10. The probe decodes greedily, as `p2r eval` does; its batches depend on the samples alone, so
that a resumed run measures the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from p2r.boxes import hits, mean_best_iou
from p2r.evaluation.metrics import saw_all_evidence
from p2r.judges import judge_for
from p2r.models.local.model import LocalModel
from p2r.modes import Mode, make_roles
from p2r.pipeline import walk
from p2r.runs.training_log import Probe
from p2r.statistics import bound_mean, mean_of
from p2r.training.engines.local.distributed import whole_weights
from p2r.training.engines.local.policy import open_resting
from p2r.training.lockstep import LockstepPartner
from p2r.training.phases import PhaseState
from p2r.training.stopping import StopRequest
from p2r.types import Sample, Trace

PROBE_MODES: tuple[Mode, ...] = ("p2r", "direct")

Value = tuple[Sample, float]


async def measure_probe(
    state: PhaseState, samples: Sequence[Sample], stop: StopRequest, *, step: int, batch_size: int
) -> Probe:
    """Ask the policy, as it is now, the questions of the probe.

    No process waits for another before all of its own questions are answered, so that one that fails holds up none.

    Args:
        samples: the samples of all processes; each process asks its share.
        stop: ends the probe in all processes when one of them is asked to stop or fails.
        step: how many steps of the phase are done.
        batch_size: prompts that are answered together.

    Raises:
        StopRequested: one was asked to stop.
        P2RError: one failed.
    """
    world = state.world
    with whole_weights(state.policy.model):
        traces = await stop.run_together(_ask(state, world.share(samples), batch_size), world)
    p2r, direct = (world.gather(own) for own in traces)
    return describe_probe(state.phase.name, step, samples, p2r, direct)


async def _ask(state: PhaseState, samples: Sequence[Sample], batch_size: int) -> list[list[Trace]]:
    """The traces of this process's samples in each mode."""
    policy = state.policy
    model = LocalModel("policy", policy.profile, policy.encoder, policy.engine, batch_size=batch_size)
    partner = LockstepPartner(model)
    resting = open_resting(policy, batch_size=batch_size)
    other = partner.model if resting is None else partner.beside(resting)
    looks, answers = (partner.model, other) if state.phase.role == "perceiver" else (other, partner.model)
    traces: list[list[Trace]] = []
    for mode in PROBE_MODES:
        perceiver, reasoner = make_roles(mode, answers, state.prompts, perceiver_model=looks)
        walks = [partial(walk, sample, perceiver, reasoner, judge_for(sample)) for sample in samples]
        traces.append(await partner.run(walks))
    return traces


def describe_probe(
    phase: str, step: int, samples: Sequence[Sample], p2r: Sequence[Trace], direct: Sequence[Trace]
) -> Probe:
    """Compute the metrics over all samples, with 95% intervals over samples.

    Args:
        p2r, direct: the trace of each sample in these modes.
    """
    looked = list(zip(samples, p2r, strict=True))
    boxed = [(sample, trace.boxes) for sample, trace in looked if trace.perception is not None]
    findable = [(sample, trace) for sample, trace in looked if sample.gold_boxes and trace.perception is not None]
    measured: dict[str, list[Value]] = {
        "accuracy_p2r": _list_verdicts(looked),
        "accuracy_direct": _list_verdicts(list(zip(samples, direct, strict=True))),
        "hit_rate": [(sample, hits(trace.boxes, sample.gold_boxes)) for sample, trace in findable],
        "mean_iou": [(sample, mean_best_iou(trace.boxes, sample.gold_boxes)) for sample, trace in findable],
        "seen_rate": [(sample, saw_all_evidence(trace, sample.gold_boxes)) for sample, trace in findable],
        "mean_boxes": [(sample, len(boxes)) for sample, boxes in boxed],
        "one_box": [(sample, len(boxes) == 1) for sample, boxes in boxed],
        "mean_box_area": [(sample, box.area) for sample, boxes in boxed for box in boxes],
    }
    means = {name: mean_of([value for _, value in values]) for name, values in measured.items()}
    return Probe(
        phase=phase,
        step=step,
        num_samples=len(samples),
        num_failed=sum(trace.failure is not None for trace in (*p2r, *direct)),
        num_findable=len(findable),
        accuracy_p2r=means["accuracy_p2r"],
        accuracy_direct=means["accuracy_direct"],
        hit_rate=means["hit_rate"],
        mean_iou=means["mean_iou"],
        seen_rate=means["seen_rate"],
        mean_boxes=means["mean_boxes"],
        one_box=means["one_box"],
        mean_box_area=means["mean_box_area"],
        intervals={name: _bound(values) for name, values in measured.items()},
    )


def _list_verdicts(asked: Sequence[tuple[Sample, Trace]]) -> list[Value]:
    return [(sample, trace.verdict.correct) for sample, trace in asked if trace.verdict is not None]


def _bound(values: Sequence[Value]) -> tuple[float, float] | None:
    """Return the interval of a mean; None without values. Values above 1, such as counts, are scaled to 0..1 first."""
    if not values:
        return None
    most = max(1.0, *(value for _, value in values))
    interval = bound_mean([value / most for _, value in values], [sample.cluster or sample.id for sample, _ in values])
    return interval.low * most, interval.high * most
