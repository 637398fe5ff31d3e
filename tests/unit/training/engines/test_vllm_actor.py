"""A policy that vLLM samples, with a stand-in for vLLM. tests/integration/test_train_vllm.py asks the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, wait
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from p2r.dialogue import Decoding, Prompt
from p2r.errors import ConfigError, ModelError
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Abandoned
from p2r.models.vllm.interface import RequestOutput
from p2r.training.engines import vllm as module
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.generate import Generated, Wanted
from p2r.training.engines.local.policy import Policy, load_policy
from p2r.training.engines.vllm import VllmActor, find_place, read_output
from tests.fakes import stand_in_vllm
from tests.fakes.tiny_training import make_recipe

DRAWN = Decoding(max_new_tokens=32, temperature=0.7, top_p=0.9)
GREEDY = Decoding(max_new_tokens=8)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return load_policy(make_recipe(tmp_path_factory.mktemp("run")).model)


@pytest.fixture
def vllm(tmp_path: Path) -> Iterator[ModuleType]:
    with stand_in_vllm.installed(tmp_path) as found:
        yield found


@pytest.fixture
def make(
    policy: Policy, vllm: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., VllmActor]]:
    """Makes an actor of a policy whose version is `updates`, and which notes what is written."""
    monkeypatch.setattr(module, "MEMORY", tmp_path / "no memory")
    made: list[VllmActor] = []

    def start(updates: list[int] | None = None, engine_args: Mapping[str, Any] | None = None) -> VllmActor:
        def write(folder: Path) -> None:
            folder.mkdir(parents=True)
            vllm.done.append(f"written {folder.name}")

        updates = [] if updates is None else updates
        actor = VllmActor(policy, engine_args or {}, version=lambda: len(updates), write=write, folder=tmp_path)
        made.append(actor)
        return actor

    yield start
    for actor in made:
        actor.close()


def noise(width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def want(actor: VllmActor, *images: Image.Image, seeds: tuple[int, ...] = (11, 50)) -> Wanted:
    return Wanted(actor.encode(Prompt("perceiver", "Be brief.", "Where is it?", images, "set")), seeds)


def draw(actor: VllmActor, wanted: list[Wanted], *, decoding: Decoding = DRAWN) -> list[tuple[int, list[Generated]]]:
    return list(actor.sample(wanted, decoding, 2, lambda: False))


def test_vllm_is_given_the_pixels_and_tokens_that_the_policy_learns_from(
    vllm: ModuleType, policy: Policy, make: Callable[..., VllmActor]
) -> None:
    actor, images = make(), (noise(96, 64, 1), noise(64, 128, 2))
    with actor.awake():
        wanted = want(actor, *images)
        replies = draw(actor, [wanted])
    ((request, sampling, _),) = vllm.asked
    assert [given.tobytes() for given in request["multi_modal_data"]["image"]] == [each.tobytes() for each in images]
    image_token, end = policy.checkpoint.image_token_id, policy.encoder.end_token_ids
    assert request["prompt_token_ids"].count(image_token) == 2
    assert wanted.prompt.token_ids.count(image_token) == 6 + 8
    assert [token for token in request["prompt_token_ids"] if token != image_token] == [
        token for token in wanted.prompt.token_ids if token != image_token
    ]
    assert (sampling.n, sampling.seed, sampling.temperature, sampling.top_p) == (2, 11, 0.7, 0.9)
    assert (sampling.max_tokens, sampling.logprobs, sampling.logit_bias) == (32, 0, {image_token: -100.0})
    assert (sampling.ignore_eos, sampling.stop_token_ids) == (True, [*end])
    assert replies == [(0, [Generated((7, end[0]), True, (-0.5, -0.25))] * 2)]


def test_the_engine_tells_log_probs_of_what_it_draws_from_and_takes_its_share_of_the_memory(
    vllm: ModuleType, make: Callable[..., VllmActor]
) -> None:
    make(engine_args={"gpu_memory_utilization": 0.3})
    make()
    assert [args.gpu_memory_utilization for args in vllm.started] == [0.3, 0.4]
    for args in vllm.started:
        assert (args.logprobs_mode, args.enable_sleep_mode, args.dtype) == ("processed_logprobs", False, "float32")
        place, _, name = args.worker_extension_cls.rpartition(".")
        assert hasattr(getattr(__import__(place, fromlist=[name]), name), "read_weights")
    with pytest.raises(ConfigError, match="the engine argument dtype is set by p2r"):
        make(engine_args={"dtype": "float16"})


def test_weights_are_read_before_sampling_and_let_go_after_it(
    vllm: ModuleType, tmp_path: Path, make: Callable[..., VllmActor]
) -> None:
    updates = [1, 1, 1]
    actor, place = make(updates), tmp_path / "weights-for-vllm"
    place.mkdir()
    (place / "left by a killed run").touch()
    with actor.awake():
        assert not [*place.iterdir()]
        vllm.done.append("sampling")
    assert vllm.done == [
        "written weights-for-vllm",
        "sleep 2",
        "wake ['weights']",
        ("read_weights", str(place)),
        "version 3",
        "wake ['kv_cache']",
        "sampling",
        "sleep 2",
    ]
    assert not place.exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_of_several_processes_gives_an_engine_the_weights(policy: Policy, tmp_path: Path, rank: int) -> None:
    done: list[str] = []

    class Together(World):
        def wait(self) -> None:
            done.append("wait")

    class Engine:
        loop, max_tokens, is_dead = asyncio.new_event_loop(), 512, False

        def read_weights(self, folder: Path, version: str) -> None:
            done.append(f"read {folder.name} as {version}")

        def sleep(self) -> None:
            done.append("sleep")

        def close(self) -> None:
            done.append("close")

    place = tmp_path / "weights-for-vllm"
    place.mkdir()
    actor = VllmActor(
        policy,
        {},
        version=lambda: 3,
        write=lambda folder: done.append(f"written {folder.exists()}"),
        folder=tmp_path,
        start=lambda _: Engine(),
        is_here=False,
        world=Together(rank, 2),
    )
    with actor.awake():
        done.append("sampling")
    actor.close()
    steps = ["read weights-for-vllm as 3", "wait"]
    assert done == [f"written {rank == 1}", *(steps[::-1] if rank else steps), "sampling", "sleep", "close"]
    assert place.exists() is (rank == 1)


def test_a_rollout_with_other_weights_than_the_policys_is_an_error(make: Callable[..., VllmActor]) -> None:
    updates = list[int]()
    actor = make(updates)
    with actor.awake():
        wanted = [want(actor, noise(64, 64, 1))]
        draw(actor, wanted)
        updates.append(1)
        with pytest.raises(ModelError) as caught:
            draw(actor, wanted)
    assert caught.value.message == "a rollout was drawn with weights of version 0, and the policy has 1"
    with actor.awake():
        draw(actor, wanted)
    with pytest.raises(AssertionError, match="vLLM is asked while it sleeps"):
        draw(actor, wanted)


def test_what_a_dead_engine_has_not_answered_is_asked_again_with_the_same_seeds(
    vllm: ModuleType, make: Callable[..., VllmActor]
) -> None:
    vllm.deaths.append(3)  # the weights and two replies
    updates = [1, 1]
    actor = make(updates)
    with actor.awake():
        wanted = [want(actor, noise(64, 64, row), seeds=(row, row)) for row in range(5)]
        replies = draw(actor, wanted)
    assert sorted(place for place, _ in replies) == [0, 1, 2, 3, 4]
    assert len(vllm.started) == 2
    assert vllm.done.count("version 2") == 2
    seeds = [sampling.seed for _, sampling, _ in vllm.asked]
    assert sorted({*seeds}) == [0, 1, 2, 3, 4]
    assert len(seeds) > 5


@pytest.mark.parametrize("when", [FIRST_COMPLETED, ALL_COMPLETED])
def test_deaths_with_replies_between_them_are_put_up_with(
    vllm: ModuleType, make: Callable[..., VllmActor], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A reply counts also where it is seen together with the death."""
    monkeypatch.setattr(module, "wait", lambda asked, timeout, _: wait(asked, timeout, when))
    vllm.deaths.extend([2] * 5)  # the weights and one reply each
    actor = make()
    with actor.awake():
        replies = draw(actor, [want(actor, noise(64, 64, row), seeds=(row, row)) for row in range(6)])
    assert sorted(place for place, _ in replies) == [0, 1, 2, 3, 4, 5]
    assert len(vllm.started) == 6 > 1 + module.MOST_DEATHS


def test_an_engine_that_has_died_in_its_sleep_is_started_again(
    vllm: ModuleType, make: Callable[..., VllmActor]
) -> None:
    vllm.deaths.append(1)
    actor = make()
    for _ in range(2):
        with actor.awake():
            pass
    assert len(vllm.started) == 2
    assert vllm.done[-2:] == ["wake ['kv_cache']", "sleep 2"]


def test_an_engine_that_always_dies_is_given_up(vllm: ModuleType, make: Callable[..., VllmActor]) -> None:
    vllm.deaths.extend([1] * 9)
    actor = make()
    with pytest.raises(ModelError, match="EngineCore encountered an issue"), actor.awake():
        draw(actor, [want(actor, noise(64, 64, 1))])
    assert len(vllm.started) == 1 + module.MOST_DEATHS


def test_weights_that_vllm_cannot_read_are_an_error(
    vllm: ModuleType, make: Callable[..., VllmActor], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ValueError("no such weight: lm_head")

    actor = make()
    monkeypatch.setattr(vllm.AsyncLLMEngine, "collective_rpc", fail)
    with pytest.raises(ModelError, match="vLLM cannot change its weights: no such weight: lm_head"), actor.awake():
        pass
    monkeypatch.delattr(vllm.AsyncLLMEngine, "update_weight_version")
    with pytest.raises(ModelError, match="does not say with which weights") as caught, actor.awake():
        pass
    assert caught.value.hint == "install vLLM 0.32, or a later one"
    assert len(vllm.started) == 1


def test_a_call_that_a_dead_engine_never_answers_is_left(
    vllm: ModuleType, make: Callable[..., VllmActor], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: SimpleNamespace, *_: object, **__: object) -> None:
        self.die()
        await asyncio.Future()

    actor = make()
    monkeypatch.setattr(vllm.AsyncLLMEngine, "collective_rpc", never)
    with pytest.raises(ModelError, match="vLLM cannot change its weights: its processes have ended"), actor.awake():
        pass
    assert len(vllm.started) == 2


def test_prompts_that_do_not_fit_fail_by_themselves(make: Callable[..., VllmActor]) -> None:
    actor = make(engine_args={"max_model_len": 64})
    with pytest.raises(ModelError, match="tokens, and vLLM takes fewer than 64"):
        want(actor, noise(256, 256, 1))
    with pytest.raises(ModelError, match="a prompt holds 9 images; vLLM takes 8"):
        want(actor, *[noise(32, 32, 1)] * 9)


def test_nothing_is_sampled_that_nobody_wants(vllm: ModuleType, make: Callable[..., VllmActor]) -> None:
    actor = make()
    with actor.awake(), pytest.raises(Abandoned):
        list(actor.sample([want(actor, noise(64, 64, 1))], DRAWN, 2, lambda: True))


def test_a_prompt_that_was_read_otherwise_and_a_reply_that_was_given_up_are_errors() -> None:
    prompt = EncodedPrompt((1, 5, 5, 2), (), (), ())

    def output(tokens: list[int], reason: str = "stop") -> RequestOutput:
        reply = SimpleNamespace(token_ids=[7], finish_reason=reason, logprobs=None, weight_versions=None)
        return cast(RequestOutput, SimpleNamespace(prompt_token_ids=tokens, outputs=[reply]))

    with pytest.raises(ModelError, match="has read a prompt of 3 tokens as one of 4: it has changed its images"):
        read_output(output([1, 5, 2]), prompt, "0")
    with pytest.raises(ModelError, match="gave up on a reply of the policy: abort"):
        read_output(output([1, 5, 5, 2], "abort"), prompt, "0")
    with pytest.raises(ModelError, match="with weights of version unknown, and the policy has 0"):
        read_output(output([1, 5, 5, 2]), prompt, "0")


def test_weights_are_handed_over_in_memory_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMORY", tmp_path)
    monkeypatch.setattr(module, "disk_usage", lambda _: SimpleNamespace(free=1200))
    place = find_place(tmp_path / "run", 1000)
    assert place.parent == tmp_path
    assert place == find_place(tmp_path / "run", 1000) != find_place(tmp_path / "other", 1000)
    assert find_place(tmp_path / "run", 1200) == tmp_path / "run" / "weights-for-vllm"
