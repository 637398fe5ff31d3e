"""Folders of training runs, written as `p2r train` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from p2r.benchmarks import load_benchmark
from p2r.config import ActiveRole
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training import METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE, TrainingRun, read_training_run
from p2r.runs.training_log import LogRow, Probe, QuotedGroup, QuotedRollout, Step
from p2r.training.groups import RolloutStats
from p2r.training.watch.metrics import measure_step
from p2r.training.watch.probe import describe_probe
from p2r.types import Answer, Box, Completion, Failure, Perception, Sample, Trace, Verdict
from tests.fakes.training import make_recipe

SAMPLE = load_benchmark("needles", seed=1_000_000, num_samples=3)[2]
SCHEDULE = 'schedule=[{role="perceiver", steps=3}, {role="reasoner", steps=2}]'

SFT_SCHEDULE = 'schedule=[{role="perceiver", method="sft", steps=2, data={source="rows.jsonl"}}, {role="perceiver"}]'


def make_sft_step(step: int, *, loss: float, num_failed_rows: int = 0) -> Step:
    """A step as `take_sft_step` describes it."""
    return Step(
        phase="0-sft",
        step=step,
        num_rows=4,
        num_failed_rows=num_failed_rows,
        num_learned_tokens=20,
        lr=1e-3,
        loss=loss,
        timing={"prepare": 0.5, "update": 1.0, "seconds": 1.5, "trained_tokens_per_second": 90.0},
    )


def make_step(phase: str, step: int, **changes: float) -> Step:
    timing = {"rollout": 1.5, "rollout_sample": 1.0, "backward": 0.5, "seconds": 2.0}
    measured = measure_step(phase, step, [], RolloutStats(), None, 1e-6, timing)
    return measured.model_copy(update={"reward": 0.5, **changes})


def make_probe(phase: str, step: int, accuracy: float = 0.5) -> Probe:
    metrics = dict.fromkeys(describe_probe(phase, step, [], [], []).intervals, accuracy)
    intervals = {name: (value - 0.1, value + 0.1) for name, value in metrics.items()}
    return Probe(phase=phase, step=step, num_samples=10, intervals=intervals, **metrics)


def make_trace(letter: str, *boxes: Box, sample: Sample = SAMPLE) -> Trace:
    return Trace(
        sample_id=sample.id,
        image=sample.image.uri,
        question=sample.question,
        perception=Perception(source="model:policy", boxes=boxes),
        reasoning=Completion(text=f"<answer>{letter}</answer>", finish_reason="stop", model="frozen"),
        answer=Answer(text=letter, span=(8, 9)),
        verdict=Verdict(correct=letter == "A", score=float(letter == "A"), judge="text"),
    )


def make_group(phase: str, step: int, role: ActiveRole, traces: Sequence[Trace | None]) -> QuotedGroup:
    judged = [None if trace is None or trace.verdict is None else trace.verdict.score for trace in traces]
    rollouts = [
        QuotedRollout(
            text="<script>alert(1)</script>",
            reward=reward,
            advantage=None if reward is None else 0.25,
            terms={"correct": 1.0},
            trace=trace,
        )
        for trace, reward in zip(traces, judged, strict=True)
    ]
    sample_id = next((trace.sample_id for trace in traces if trace), SAMPLE.id)
    return QuotedGroup(phase=phase, step=step, sample_id=sample_id, role=role, rollouts=tuple(rollouts))


def write_run(
    folder: Path,
    steps: Sequence[LogRow] = (),
    probes: Sequence[LogRow] = (),
    groups: Sequence[LogRow] = (),
    changes: Sequence[str] = (),
) -> TrainingRun:
    folder.mkdir(parents=True)
    (folder / RECIPE_FILE).write_text(make_recipe([SCHEDULE, *changes]).model_dump_json())
    for file, rows in ((METRICS_FILE, steps), (PROBES_FILE, probes), (ROLLOUTS_FILE, groups)):
        (folder / file).write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return read_training_run(folder)


def make_run(folder: Path) -> TrainingRun:
    """Three perceiver steps and one of two reasoner steps, with a group of each kind."""
    steps = [*(make_step("0-perceiver", step, reward=step / 10) for step in (1, 2, 3)), make_step("1-reasoner", 1)]
    probes = [make_probe("0-perceiver", 0, 0.4), make_probe("0-perceiver", 3, 0.7), make_probe("1-reasoner", 0, 0.7)]
    gold, away = SAMPLE.gold_boxes[0], Box(x1=0, y1=0, x2=5, y2=5, label="nothing")
    failed = make_trace("B").model_copy(
        update={
            "verdict": None,
            "failure": Failure(stage="reason", kind="EndpointError", message="the server has gone"),
        }
    )
    groups = [
        make_group("0-perceiver", 1, "perceiver", [make_trace("A", gold), make_trace("B", away), failed, None]),
        make_group("1-reasoner", 1, "reasoner", [make_trace("A", gold), make_trace("A", gold)]),
    ]
    write_run(folder, steps, probes, groups)
    (folder / "0-perceiver").mkdir()
    return read_training_run(folder)
