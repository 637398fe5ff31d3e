"""The model in the box: a standard checkpoint that does what its card says, here and through stock transformers."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import p2r
from p2r.benchmarks import Benchmark, Facts
from p2r.benchmarks.needles import Needles
from p2r.evaluation.metrics import summarize
from p2r.evaluation.scoring import ScoredRun
from p2r.models.nano import CHECKPOINT
from p2r.modes import Mode

SAMPLES = list(Needles(seed=123, num_samples=48))
MODES: tuple[Mode, ...] = ("direct", "p2r", "oracle")


@pytest.fixture(scope="module")
def runs() -> dict[Mode, ScoredRun]:
    model = p2r.load_model("nano", batch_size=48)
    benchmark = Benchmark(SAMPLES, Facts("needles"))
    return {mode: p2r.evaluate(benchmark, model, mode=mode, num_at_once=48) for mode in MODES}


def test_the_checkpoint_is_at_most_16_megabytes() -> None:
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) <= 16_000_000


def test_one_look_is_a_guess_and_the_right_crops_are_read(runs: dict[Mode, ScoredRun]) -> None:
    direct, own, oracle = (summarize(runs[mode]) for mode in MODES)
    assert direct.num_failed == own.num_failed == oracle.num_failed == 0
    assert direct.chance is not None and direct.interval.low < direct.chance + 0.1
    assert oracle.accuracy is not None and oracle.accuracy >= 0.85
    assert own.interval.low > direct.chance
    assert own.hit_rate is not None and own.hit_rate > 0.6
    assert own.accuracy is not None and own.accuracy > 0.75


def test_stock_transformers_gives_the_same_replies(runs: dict[Mode, ScoredRun]) -> None:
    from recipes.nano.evaluate import compare_with_stock

    agreement = compare_with_stock(CHECKPOINT, SAMPLES[:12], [runs["p2r"].traces[sample.id] for sample in SAMPLES[:12]])
    assert agreement.both >= 11
