"""The probe asks the policy in two modes and reports each under its name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from p2r.training.engines.local.distributed import World
from p2r.training.watch import probe
from p2r.types import Box
from tests.fakes.training import BOX, PROMPTS, RIGHT, WRONG, BatchScript, make_phase, make_sample


async def test_each_mode_is_reported_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(prompt: object) -> str:
        role, images = prompt.role, prompt.images  # type: ignore[attr-defined]
        return BOX if role == "perceiver" else RIGHT if len(images) > 1 else WRONG

    policy = SimpleNamespace(profile=None, encoder=None, engine=None)
    state = SimpleNamespace(policy=policy, world=World(), prompts=PROMPTS, phase=make_phase())
    monkeypatch.setattr(probe, "LocalModel", lambda *_, **__: BatchScript(say))
    gold = (Box(x1=0, y1=0, x2=1000, y2=1000),)
    samples = [make_sample("s1", gold_boxes=gold), make_sample("s2")]
    row = await probe.measure_probe(state, samples, step=3, batch_size=2)  # type: ignore[arg-type]
    assert (row.phase, row.step, row.num_samples, row.num_failed, row.num_findable) == ("0-perceiver", 3, 2, 0, 1)
    assert (row.accuracy_p2r, row.accuracy_direct, row.mean_boxes) == (1.0, 0.0, 1.0)
