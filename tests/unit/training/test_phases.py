"""What a phase opens is made with its own settings."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import numpy
import pytest

pytest.importorskip("torch")

import torch

from p2r.training import phases
from p2r.training.engines.local.distributed import World
from tests.fakes.training import make_recipe


@asynccontextmanager
async def open_nothing(*_: object) -> AsyncGenerator[None, None]:
    yield None


@pytest.fixture
def nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "take_snapshot", lambda *_, **__: None)
    monkeypatch.setattr(phases, "split_model", lambda *_: None)
    monkeypatch.setattr(phases, "Optimizer", lambda weights, settings, world: settings)
    monkeypatch.setattr(phases, "_open_partner", open_nothing)


@pytest.mark.usefixtures("nothing_is_opened")
async def test_what_is_random_in_a_loaded_policy_depends_on_the_seed_and_the_phase_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New adapters are."""
    drawn: list[tuple[float, float, float]] = []

    def load(*_: object, **__: object) -> SimpleNamespace:
        drawn.append((float(torch.rand(())), random.random(), float(numpy.random.rand())))
        return SimpleNamespace(model=None, trainable={}, device=None, dtype=None)

    monkeypatch.setattr(phases, "load_policy", load)
    schedule = "schedule=[{role='perceiver'}, {role='perceiver'}]"
    for seed in (3, 3, 8):
        recipe = make_recipe([schedule, f"seed={seed}"])
        for phase in recipe.phases():
            torch.rand(7), random.random()  # what happened before
            async with phases.open_phase(recipe, phase, "nano", None, World()):  # type: ignore[arg-type]
                pass
    assert drawn[:2] == drawn[2:4]
    assert len(set(drawn)) == 4


@pytest.mark.usefixtures("nothing_is_opened")
async def test_a_phase_opens_its_own_source_optimizer_and_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(model: object, source: str, *, world: World) -> SimpleNamespace:
        loaded.append(source)
        return SimpleNamespace(model=None, trainable={}, device=None, dtype=None)

    monkeypatch.setattr(phases, "load_policy", load)
    own = "{role='perceiver', optimizer={grad_clip=0.5, betas=[0.8, 0.9]}, rollout={prompts='paper'}}"
    recipe = make_recipe([f"schedule=[{own}, {{role='perceiver'}}]"])
    opened: list[phases.PhaseState] = []
    for phase in recipe.phases():
        async with phases.open_phase(recipe, phase, f"from {phase.name}", None, World()) as state:  # type: ignore[arg-type]
            opened.append(state)
    assert loaded == ["from 0-perceiver", "from 1-perceiver"]
    assert [state.optimizer for state in opened] == [phase.optimizer for phase in recipe.phases()]
    assert [phase.optimizer.grad_clip for phase in recipe.phases()] == [0.5, 1.0]
    assert [state.prompts.name for state in opened] == ["paper", "release"]
