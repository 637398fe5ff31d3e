"""The model in the box: a standard checkpoint that does what its card says, here and through stock transformers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("torch")

from p2r import load_model
from p2r.benchmarks.needles import Needles
from p2r.evaluation.metrics import summarize
from p2r.evaluation.scoring import score_run
from p2r.judges import judge_for
from p2r.models.nano import CHECKPOINT
from p2r.pipeline import walk
from p2r.prompts import load_prompt_set
from p2r.roles import (
    EvidenceReasoner,
    ModelPerceiver,
    NoPerceiver,
    OraclePerceiver,
    Perceiver,
    PlainReasoner,
    Reasoner,
)
from p2r.runs.evaluation import RunSettings, make_run
from p2r.types import Trace

RECIPE = Path(__file__).parents[2] / "recipes" / "nano"
SAMPLES = list(Needles(seed=123, num_samples=48))


@pytest.fixture(scope="module")
def runs() -> dict[str, tuple[Trace, ...]]:
    model, prompts = load_model("nano", batch_size=48), load_prompt_set()
    ways: dict[str, tuple[Perceiver, Reasoner]] = {
        "direct": (NoPerceiver(), PlainReasoner(model, prompts)),
        "own": (ModelPerceiver(model, prompts), EvidenceReasoner(model, prompts)),
        "oracle": (OraclePerceiver(), EvidenceReasoner(model, prompts)),
    }

    async def ask(perceiver: Perceiver, reasoner: Reasoner) -> list[Trace]:
        return await asyncio.gather(*(walk(sample, perceiver, reasoner, judge_for(sample)) for sample in SAMPLES))

    return {name: tuple(asyncio.run(ask(*way))) for name, way in ways.items()}


def test_the_checkpoint_is_at_most_16_megabytes() -> None:
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) <= 16_000_000


def test_one_look_is_a_guess_and_the_right_crops_are_read(runs: dict[str, tuple[Trace, ...]]) -> None:
    modes = {"direct": "direct", "own": "p2r", "oracle": "oracle"}
    scored = (score_run(make_run(SAMPLES, runs[name], RunSettings(mode=mode))) for name, mode in modes.items())
    direct, own, oracle = map(summarize, scored)
    assert direct.num_failed == own.num_failed == oracle.num_failed == 0
    assert direct.chance is not None and direct.interval.low < direct.chance + 0.1
    assert oracle.accuracy is not None and oracle.accuracy >= 0.9
    assert own.interval.low > direct.chance
    assert own.hit_rate is not None and own.hit_rate > 0.6
    assert own.accuracy is not None and own.accuracy > 0.75


def test_stock_transformers_gives_the_same_replies(runs: dict[str, tuple[Trace, ...]]) -> None:
    from recipes.nano.evaluate import compare_with_stock

    agreement = compare_with_stock(str(CHECKPOINT), SAMPLES[:12], runs["own"][:12])
    assert agreement.both >= 11
