"""What a phase opens is made with its own settings."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from p2r.training import phases
from p2r.training.engines.local.distributed import World
from tests.fakes.training import make_recipe


async def test_a_phase_opens_its_own_source_optimizer_and_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(model: object, source: str, *, world: World) -> SimpleNamespace:
        loaded.append(source)
        return SimpleNamespace(model=None, trainable={})

    @asynccontextmanager
    async def open_nothing(*_: object) -> AsyncGenerator[None, None]:
        yield None

    monkeypatch.setattr(phases, "load_policy", load)
    monkeypatch.setattr(phases, "take_snapshot", lambda *_, **__: None)
    monkeypatch.setattr(phases, "split_model", lambda *_: None)
    monkeypatch.setattr(phases, "Optimizer", lambda weights, settings, world: settings)
    monkeypatch.setattr(phases, "_open_partner", open_nothing)
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
