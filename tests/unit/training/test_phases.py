"""What a phase opens is made with its own settings."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

pytest.importorskip("torch")

import torch

from p2r.config import RolloutSettings
from p2r.dialogue import Decoding
from p2r.errors import ConfigError
from p2r.models.checkpoint import open_checkpoint
from p2r.models.nano import CHECKPOINT
from p2r.training import phases
from p2r.training.engines.local.distributed import Item, World
from p2r.training.partner import Unasked
from p2r.training.plan.memory import count_weights, estimate_memory
from p2r.training.starts import Start
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
        return SimpleNamespace(model=None, trainable={}, device=None, dtype=None, profile=None)

    monkeypatch.setattr(phases, "load_policy", load)
    schedule = "schedule=[{role='perceiver'}, {role='perceiver'}]"
    for seed in (3, 3, 8):
        recipe = make_recipe([schedule, f"seed={seed}"])
        for phase in recipe.phases():
            torch.rand(7), random.random()  # what happened before
            async with phases.open_phase(recipe, phase, Start("nano"), None, World()):  # type: ignore[arg-type]
                pass
    assert drawn[:2] == drawn[2:4]
    assert len(set(drawn)) == 4


@pytest.mark.usefixtures("nothing_is_opened")
async def test_a_phase_opens_its_own_source_optimizer_and_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(model: object, source: str, *, resting: str | None, world: World) -> SimpleNamespace:
        loaded.append(source)
        return SimpleNamespace(model=None, trainable={}, device=None, dtype=None, profile=None)

    monkeypatch.setattr(phases, "load_policy", load)
    own = "{role='perceiver', optimizer={grad_clip=0.5, betas=[0.8, 0.9]}, rollout={prompts='paper'}}"
    recipe = make_recipe([f"schedule=[{own}, {{role='perceiver'}}]"])
    opened: list[phases.PhaseState] = []
    for phase in recipe.phases():
        async with phases.open_phase(recipe, phase, Start(f"from {phase.name}"), None, World()) as state:  # type: ignore[arg-type]
            opened.append(state)
    assert loaded == ["from 0-perceiver", "from 1-perceiver"]
    assert [state.optimizer for state in opened] == [phase.optimizer for phase in recipe.phases()]
    assert [phase.optimizer.grad_clip for phase in recipe.phases()] == [0.5, 1.0]
    assert [state.prompts.name for state in opened] == ["paper", "release"]


ENDPOINT = 'partner={kind="endpoint", url="http://localhost:1/v1#frozen"}'
LAUNCHED = 'partner={kind="endpoint", url="http://localhost:1/v1", launch="serve {checkpoint}"}'
ANSWERER = 'schedule=[{role="answerer"}]'
REASONER = 'schedule=[{role="reasoner"}]'
NO_KL = "loss.kl_coef=0"
FORM_ALONE = 'reward={set="paper", terms={format=1}}'


@pytest.mark.parametrize(
    ("changes", "is_held", "is_asked"),
    [
        ([], True, True),
        ([NO_KL], True, True),
        ([REASONER, NO_KL], True, True),
        ([ENDPOINT], True, False),
        ([ENDPOINT, NO_KL], False, False),
        ([ENDPOINT, REASONER, NO_KL], False, False),
        ([LAUNCHED, REASONER, NO_KL, "loss.resting_kl_coef=0.1"], True, False),
        ([ANSWERER], True, False),
        ([ANSWERER, NO_KL], False, False),
        ([FORM_ALONE, NO_KL], False, False),
        ([ANSWERER, NO_KL, "reward.judge=partner"], True, True),
        ([ANSWERER, NO_KL, "reward.judge=partner", ENDPOINT], False, False),
        # Nobody launches a server for a verdict that is not rewarded: the copy gives it.
        ([ANSWERER, NO_KL, 'reward={judge="partner", terms={format=1}}', ENDPOINT], True, True),
        # The rows are chosen by right answers, whatever is rewarded later.
        ([FORM_ALONE, NO_KL, 'data.difficulty={keep="medium"}'], True, True),
    ],
)
@pytest.mark.usefixtures("nothing_is_opened")
async def test_the_frozen_copy_is_held_where_it_is_needed_and_gathered_where_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, changes: list[str], is_held: bool, is_asked: bool
) -> None:
    frozen = SimpleNamespace(partner="the copy", engine=SimpleNamespace(model="frozen"))
    policy = SimpleNamespace(model="learns", trainable={}, device=None, dtype=None, profile=None)
    given: list[object] = []

    @asynccontextmanager
    async def open_partner(settings: object, local: object, *_: object) -> AsyncGenerator[None, None]:
        given.append(local)
        yield None

    monkeypatch.setattr(phases, "load_policy", lambda *_, **__: policy)
    monkeypatch.setattr(phases, "take_snapshot", lambda *_, **__: frozen)
    monkeypatch.setattr(phases, "_open_partner", open_partner)
    monkeypatch.setattr(phases, "open_evidence", lambda *_: nullcontext())
    monkeypatch.setattr(phases, "fingerprint_weights", lambda _: "")

    def gather(*models: object) -> AbstractContextManager[None]:
        given.append(models)
        return nullcontext()

    monkeypatch.setattr(phases, "whole_weights", gather)
    policy.frozen_checkpoint = SimpleNamespace(folder=None)
    run = SimpleNamespace(process_folder=lambda *_: None)
    recipe = make_recipe(changes)
    phase = recipe.phases()[0]
    async with phases.open_phase(recipe, phase, Start("nano"), run, World()) as state:  # type: ignore[arg-type]
        assert (state.snapshot is not None) is is_held
        with state.ready_to_sample():
            pass
    local, gathered = given
    assert (local == "the copy") is is_asked and isinstance(local, Unasked) is not is_asked
    assert gathered == (("learns", "frozen") if is_asked else ("learns",))
    checkpoint = open_checkpoint(CHECKPOINT)
    role = phase.roles[0]
    for num_processes in (1, 2):
        parts = estimate_memory(checkpoint, recipe, phase, role, 9, 9, in_bfloat16=True, num_processes=num_processes)
        names = [part.name for part in parts]
        assert any(name.startswith("frozen copy") for name in names) is is_held
        assert any("the other role" in name for name in names) is is_asked


def find_parts(changes: list[str], *, frozen_tokens: int = 9, num_processes: int = 1) -> dict[str, int]:
    recipe = make_recipe(changes)
    parts = estimate_memory(
        open_checkpoint(CHECKPOINT),
        recipe,
        recipe.phases()[0],
        "perceiver",
        9,
        frozen_tokens,
        in_bfloat16=True,
        num_processes=num_processes,
    )
    return {part.name: part.num_bytes for part in parts}


def test_a_long_prompt_of_the_resting_role_takes_the_most_memory_of_an_update() -> None:
    changes = ["rollout.max_new_tokens={perceiver=4, reasoner=4}", "partner.max_new_tokens=100"]
    without, short, long = (
        find_parts([*changes, *more], frozen_tokens=tokens)
        for more, tokens in (([], 900), (["loss.resting_kl_coef=0.1"], 100), (["loss.resting_kl_coef=0.1"], 900))
    )
    # Four replies of 4 tokens after 9, beside 100 after 100 or 900.
    activations = "update: activations"
    assert short[activations] * 25 == without[activations] * 200 and long[activations] == short[activations] * 5
    assert short["update: logits"] == long["update: logits"] == without["update: logits"] * 100 / 16


@pytest.mark.parametrize("num_processes", [1, 2])
def test_the_adapter_of_the_role_at_rest_takes_memory_beside_the_one_that_learns(num_processes: int) -> None:
    lora = ["model.lora.rank=4"]
    num_bytes = 2 * count_weights(open_checkpoint(CHECKPOINT), make_recipe(lora).model.lora).adapters
    one = find_parts(lora, num_processes=num_processes)
    two = find_parts([*lora, "model.lora.per_role=true"], num_processes=num_processes)
    assert two["policy"] - one["policy"] == pytest.approx(num_bytes / num_processes, abs=1)
    assert two["gradients"] == one["gradients"] and two["Adam's states"] == one["Adam's states"]


def test_a_frozen_role_that_nobody_should_ask_does_not_answer() -> None:
    with pytest.raises(AssertionError, match="does not need it"):
        Unasked(open_checkpoint(CHECKPOINT).profile()).complete_all([], Decoding(max_new_tokens=1), lambda: False)


class Sampler:
    """In place of a `VllmActor`: keeps what it is started with and what is done with it."""

    def __init__(self, *given: object, **settings: object) -> None:
        self.given, self.settings, self.done = given, settings, list[str]()

    @contextmanager
    def awake(self) -> Generator[None, None, None]:
        self.done.append("awake")
        yield
        self.done.append("asleep")

    def close(self) -> None:
        self.done.append("closed")


def load_anything(*_: object, **__: object) -> SimpleNamespace:
    return SimpleNamespace(model=None, trainable={}, device=None, dtype=None, profile=None)


@pytest.mark.usefixtures("nothing_is_opened")
async def test_vllm_samples_for_a_phase_that_says_so_while_rollouts_are_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(phases, "load_policy", load_anything)
    monkeypatch.setattr(phases, "VllmActor", Sampler)
    monkeypatch.setattr(phases, "whole_weights", lambda *_: nullcontext())
    schedule = "schedule=[{role='perceiver', rollout={engine='vllm'}}, {role='perceiver'}]"
    recipe = make_recipe([schedule, "engine.enforce_eager=true"])
    run = SimpleNamespace(folder=tmp_path)
    first, second = recipe.phases()
    async with phases.open_phase(recipe, first, Start("nano"), run, World()) as state:  # type: ignore[arg-type]
        sampler = state.sampler
        assert isinstance(sampler, Sampler)
        assert sampler.given[1] == {"enforce_eager": True}
        assert sampler.settings["folder"] == tmp_path
        with state.ready_to_sample():
            sampler.done.append("sampling")
    assert sampler.done == ["awake", "sampling", "asleep", "closed"]
    async with phases.open_phase(recipe, second, Start("nano"), run, World()) as state:  # type: ignore[arg-type]
        assert state.sampler is None


def test_an_engine_of_vllm_samples_for_one_process_alone() -> None:
    phase = SimpleNamespace(rollout=RolloutSettings(engine="vllm"))
    state = SimpleNamespace(world=World(rank=0, size=2), phase=phase)
    with pytest.raises(ConfigError, match="and training runs in 2 processes") as caught:
        phases.start_sampler(state, {}, None)  # type: ignore[arg-type]
    assert "rollout.url and rollout.launch" in caught.value.hint


class Ranks(World):
    """A process of several, with what it shares and waits for."""

    def gather(self, own: Sequence[Item]) -> list[Item]:
        return [*own, *own]

    def wait(self) -> None:
        WAITS.append("waited")


WAITS: list[str] = []


@pytest.mark.parametrize(
    ("url", "launch", "is_here"),
    [
        ("http://localhost:8001", None, True),
        ("http://127.0.0.1:8001", None, True),
        ("http://node-7:8001", None, False),
        ("http://node-7:8001", "serve", True),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_one_server_samples_for_all_processes_which_wait_for_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rank: int, url: str, launch: str | None, is_here: bool
) -> None:
    def start(*given: object, **settings: object) -> Sampler:
        WAITS.append("started")
        return Sampler(*given, **settings)

    WAITS.clear()
    monkeypatch.setattr(phases, "VllmActor", start)
    rollout = RolloutSettings(engine="vllm", url=url, launch=launch)
    state = SimpleNamespace(world=Ranks(rank, 2), phase=SimpleNamespace(rollout=rollout), policy=None)
    sampler: Any = phases.start_sampler(state, {}, tmp_path)  # type: ignore[arg-type]
    assert list(reversed(WAITS) if rank else WAITS) == ["started", "waited"]
    assert (sampler.settings["is_here"], sampler.settings["world"]) == (is_here, state.world)
    server = sampler.settings["start"]
    assert server.func is phases.VllmServer
    assert (server.keywords["settings"], server.keywords["is_first"]) == (rollout, rank == 0)


async def test_rollouts_of_a_server_need_no_whole_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[object] = []

    def gather(*models: object) -> AbstractContextManager[None]:
        gathered.append(models)
        return nullcontext()

    monkeypatch.setattr(phases, "whole_weights", gather)
    policy, frozen = SimpleNamespace(model="learns"), SimpleNamespace(engine=SimpleNamespace(model="frozen"))
    parts: Any = (None, policy, frozen, None, World(), None, None, None, None, None)
    with phases.PhaseState(*parts, asks_snapshot=True, sampler=Sampler()).ready_to_sample():  # type: ignore[arg-type]
        assert gathered == [("frozen",)]
