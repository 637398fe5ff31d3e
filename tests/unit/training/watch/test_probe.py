"""The probe asks the policy in two modes and reports each under its name."""

from __future__ import annotations

import asyncio
import signal
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from p2r.errors import ModelError, P2RError  # noqa: E402
from p2r.runs.training_log import Probe  # noqa: E402
from p2r.training.engines.local.distributed import World  # noqa: E402
from p2r.training.stopping import StopRequest, StopRequested  # noqa: E402
from p2r.training.watch import probe  # noqa: E402
from p2r.types import Box  # noqa: E402
from tests.fakes.crew import run_crew  # noqa: E402
from tests.fakes.training import BOX, PROMPTS, RIGHT, WRONG, BatchScript, make_phase, make_sample  # noqa: E402


async def test_each_mode_is_reported_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(prompt: object) -> str:
        role, images = prompt.role, prompt.images  # type: ignore[attr-defined]
        return BOX if role == "perceiver" else RIGHT if len(images) > 1 else WRONG

    policy = SimpleNamespace(profile=None, encoder=None, engine=None, model=torch.nn.Module(), resting=None)
    state = SimpleNamespace(policy=policy, world=World(), prompts=PROMPTS, phase=make_phase())
    monkeypatch.setattr(probe, "LocalModel", lambda *_, **__: BatchScript(say))
    gold = (Box(x1=0, y1=0, x2=1000, y2=1000),)
    samples = [make_sample("s1", gold_boxes=gold), make_sample("s2")]
    row = await probe.measure_probe(state, samples, StopRequest(print), step=3, batch_size=2)  # type: ignore[arg-type]
    assert (row.phase, row.step, row.num_samples, row.num_failed, row.num_findable) == ("0-perceiver", 3, 2, 0, 1)
    assert (row.accuracy_p2r, row.accuracy_direct, row.mean_boxes) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(("role", "boxes", "direct"), [("perceiver", 0.0, 0.0), ("reasoner", 1.0, 1.0)])
async def test_with_an_adapter_for_each_role_the_one_at_rest_has_its_own_part(
    monkeypatch: pytest.MonkeyPatch, role: str, boxes: float, direct: float
) -> None:
    """Who learns names no box and answers right without evidence; who rests names one and is always wrong."""

    def learns(prompt: object) -> str:
        return "[]" if prompt.role == "perceiver" else WRONG if len(prompt.images) > 1 else RIGHT  # type: ignore[attr-defined]

    def rests(prompt: object) -> str:
        return BOX if prompt.role == "perceiver" else WRONG  # type: ignore[attr-defined]

    policy = SimpleNamespace(profile=None, encoder=None, engine=None, model=torch.nn.Module())
    phase = make_phase().model_copy(update={"role": role})
    state = SimpleNamespace(policy=policy, world=World(), prompts=PROMPTS, phase=phase)
    monkeypatch.setattr(probe, "LocalModel", lambda *_, **__: BatchScript(learns))
    monkeypatch.setattr(probe, "open_resting", lambda *_, **__: BatchScript(rests))
    row = await probe.measure_probe(state, [make_sample()], StopRequest(print), step=3, batch_size=2)  # type: ignore[arg-type]
    assert (row.mean_boxes, row.accuracy_direct, row.num_failed) == (boxes, direct, 0)


@pytest.mark.parametrize("num_answered", [0, 1, 2])
def test_a_process_that_fails_in_a_probe_ends_it_in_all(monkeypatch: pytest.MonkeyPatch, num_answered: int) -> None:
    """Whichever call fails: the first of a mode, one within it, or one of the second mode."""

    class Failing(BatchScript):
        num_calls = 0

        def complete_all(self, *given: object) -> list[object]:
            self.num_calls += 1
            if self.num_calls > num_answered:
                raise ModelError("the device is gone")
            return super().complete_all(*given)  # type: ignore[arg-type, return-value]

    def make(name: str, *_: object, batch_size: int) -> BatchScript:
        kind = Failing if batch_size == 1 else BatchScript
        return kind(lambda prompt: BOX if prompt.role == "perceiver" else RIGHT)

    async def probe_in(world: World) -> str:
        policy = SimpleNamespace(profile=None, encoder=None, engine=None, model=torch.nn.Module(), resting=None)
        state = SimpleNamespace(policy=policy, world=world, prompts=PROMPTS, phase=make_phase())
        samples = [make_sample("s1"), make_sample("s2")]
        try:
            await probe.measure_probe(state, samples, StopRequest(print), step=3, batch_size=1 + world.rank)  # type: ignore[arg-type]
        except P2RError as error:
            return f"{type(error).__name__}: {error.message}"
        return "fine"

    monkeypatch.setattr(probe, "LocalModel", make)
    said = run_crew(2, lambda world: asyncio.run(probe_in(world)))
    assert said == ["ModelError: the device is gone", "TrainingError: another process of the run has stopped"]


def test_the_probe_of_two_processes_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(prompt: object) -> str:
        role, images = prompt.role, prompt.images  # type: ignore[attr-defined]
        return BOX if role == "perceiver" else RIGHT if len(images) > 1 else WRONG

    async def probe_in(world: World) -> Probe:
        policy = SimpleNamespace(profile=None, encoder=None, engine=None, model=torch.nn.Module(), resting=None)
        state = SimpleNamespace(policy=policy, world=world, prompts=PROMPTS, phase=make_phase())
        samples = [make_sample(f"s{number}") for number in range(3)]
        return await probe.measure_probe(state, samples, StopRequest(print), step=3, batch_size=2)  # type: ignore[arg-type]

    monkeypatch.setattr(probe, "LocalModel", lambda *_, **__: BatchScript(say))
    alone, *pair = [asyncio.run(probe_in(World())), *run_crew(2, lambda world: asyncio.run(probe_in(world)))]
    assert pair == [alone, alone] and alone.num_samples == 3


def test_a_probe_is_left_at_once_by_all_when_one_process_is_asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [BatchScript(lambda _: RIGHT) for _ in range(2)]

    async def probe_in(world: World) -> str:
        policy = SimpleNamespace(profile=None, encoder=None, engine=None, model=torch.nn.Module(), resting=None)
        state = SimpleNamespace(policy=policy, world=world, prompts=PROMPTS, phase=make_phase())
        stop = StopRequest(lambda _: None)
        if world.is_first:
            stop.make(signal.SIGTERM)
        try:
            await probe.measure_probe(
                state, [make_sample("s1"), make_sample("s2")], stop, step=3, batch_size=world.rank
            )  # type: ignore[arg-type]
        except StopRequested:
            return "stopped"
        return "fine"

    monkeypatch.setattr(probe, "LocalModel", lambda *_, batch_size: models[batch_size])
    assert run_crew(2, lambda world: asyncio.run(probe_in(world))) == ["stopped", "stopped"]
    assert models[0].num_calls == 0 and models[1].num_calls > 0
