"""A policy that a server of vLLM samples, with a stand-in for it. tests/integration/test_vllm_rollouts.py has vLLM."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from p2r.config import RolloutSettings
from p2r.errors import ConfigError, EndpointError, ModelError, TrainingError
from p2r.training import server as launching
from p2r.training.engines import vllm as module
from p2r.training.engines import vllm_server, vllm_wire
from p2r.training.engines.local.policy import Policy
from p2r.training.engines.vllm import VllmActor
from p2r.training.engines.vllm_server import VllmServer
from p2r.training.engines.vllm_wire import GENERATE, ServedReply, VllmClient, make_options
from tests.fakes import stand_in_vllm, stand_in_vllm_server
from tests.fakes.web_server import Page, serve_pages
from tests.unit.training.engines.test_vllm_actor import draw, noise, policy, want
from tests.unit.training.test_partner import url

__all__ = ["policy", "url"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launching, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(vllm_server, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(launching, "HEALTH_EVERY_S", 0.2)
    monkeypatch.setattr(module, "MEMORY", tmp_path / "no memory")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """The folder of the stand-in."""
    with stand_in_vllm.installed(tmp_path):
        yield tmp_path / "site"


Make = Callable[..., VllmActor]


@pytest.fixture
def make(policy: Policy, site: Path, url: str, tmp_path: Path) -> Iterator[Make]:
    """Makes an actor of a policy whose version is `updates`, and a launched server or one of the user's."""
    made: list[VllmActor] = []

    def start(updates: list[int], **changes: object) -> VllmActor:
        launch = shlex.join([sys.executable, stand_in_vllm_server.__file__, str(site), "{checkpoint}", "{port}"])
        settings = {"engine": "vllm", "url": url, "launch": launch, "launch_timeout_s": 60.0, **changes}
        actor = VllmActor(
            policy,
            {"enforce_eager": True},
            version=lambda: len(updates),
            write=lambda folder: folder.mkdir(parents=True),
            folder=tmp_path,
            start=partial(VllmServer, settings=RolloutSettings.model_validate(settings), folder=tmp_path, owner="me"),
        )
        made.append(actor)
        return actor

    yield start
    for actor in made:
        actor.close()


def name_weights(url: str, version: str) -> None:
    """Let the server say this version."""
    body = json.dumps({"new_version": version}).encode()
    urllib.request.urlopen(f"{url.removesuffix('/v1')}/update_weight_version", body)


def look(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/done") as response:
        return json.load(response)


@pytest.fixture
def serve(site: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a server as a user would."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, dev_mode: str = "1") -> subprocess.Popen[bytes]:
        monkeypatch.setenv(stand_in_vllm_server.DEV, dev_mode)
        port = url.rpartition(":")[2].removesuffix("/v1")
        command = [sys.executable, stand_in_vllm_server.__file__, str(site), "nano", port, *arguments]
        running.append(subprocess.Popen(command))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                look(url)
                break
            except OSError:
                time.sleep(0.05)
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_a_launched_server_draws_with_the_weights_pixels_and_tokens_of_the_policy(
    make: Make, url: str, tmp_path: Path, policy: Policy
) -> None:
    actor, images = make([1, 1]), (noise(96, 64, 1), noise(64, 128, 2))
    with actor.awake():
        replies = draw(actor, [want(actor, *images)])
        found = look(url)
    end = policy.encoder.end_token_ids[0]
    assert [(reply.token_ids, reply.ended, reply.logprobs) for reply in replies[0][1]] == [
        ((7, end), True, (-0.5, -0.25))
    ] * 2
    assert found["pixels"] == [image.tobytes().hex() for image in images]
    place = str(tmp_path / "weights-for-vllm")
    assert found["done"] == ["/pause", ["read_weights", place], "version me/2", "/resume"]
    given = found["arguments"]
    assert given[:3] == ["--enable-scale-out", "--dtype", "float32"] and "--enforce-eager" in given
    assert given[given.index("--worker-extension-cls") + 1] == "p2r.models.vllm.worker.WeightReader"
    assert given[given.index("--logprobs-mode") + 1] == "processed_logprobs"
    assert "--gpu-memory-utilization" not in given and "--model" not in given
    assert not Path(place).exists() and (tmp_path / "rollout.json").exists()
    actor.close()
    assert not (tmp_path / "rollout.json").exists()
    with pytest.raises(OSError, match="refused"):
        look(url)


def test_weights_of_another_trainer_are_not_taken_for_the_own(make: Make, url: str) -> None:
    actor = make([1])
    with actor.awake():
        wanted = [want(actor, noise(64, 64, 1))]
        name_weights(url, "you/1")
        with pytest.raises(ModelError) as caught:
            draw(actor, wanted)
    assert caught.value.message == f"another run has given its weights to {url.removesuffix('/v1')}"
    assert "for one run at a time" in caught.value.hint


def test_weights_of_another_trainer_are_named_as_the_cause_of_a_failure(
    make: Make, url: str, site: Path, serve: Callable[..., subprocess.Popen[bytes]]
) -> None:
    (site / "failures.json").write_text(json.dumps({GENERATE: 3}))
    serve("--enable-scale-out")
    actor = make([], launch=None)
    with pytest.raises(ModelError, match="another run has given its weights"), actor.awake():
        wanted = [want(actor, noise(64, 64, 1))]
        name_weights(url, "you/1")
        draw(actor, wanted)


def test_a_prompt_that_always_fails_is_given_up(make: Make, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_server, "MOST_ATTEMPTS", 2)
    (site / "failures.json").write_text(json.dumps({GENERATE: 1000}))
    actor = make([])
    with pytest.raises(EndpointError, match=r"failed \(500\): not now"), actor.awake():
        draw(actor, [want(actor, noise(64, 64, 1))])


def test_a_launched_server_that_dies_is_launched_again_with_the_present_weights(
    make: Make, site: Path, url: str, tmp_path: Path
) -> None:
    (site / "deaths").write_text("3 0")  # after the weights and two replies; then before it has the weights
    actor = make([1])
    with actor.awake():
        wanted = [want(actor, noise(64, 64, row), seeds=(row, row)) for row in range(5)]
        replies = draw(actor, wanted)
        found = look(url)
    assert sorted(place for place, _ in replies) == [0, 1, 2, 3, 4]
    assert found["done"][-2:] == ["version me/1", "/resume"]
    assert {*found["seeds"]} <= {0, 1, 2, 3, 4}
    assert (tmp_path / "rollout.log").read_text().count("EngineCore encountered an issue") == 2


@pytest.mark.parametrize("deaths", ["h0", "h1"])
def test_a_question_that_a_dead_server_leaves_open_is_asked_again(make: Make, site: Path, deaths: str) -> None:
    (site / "deaths").write_text(deaths)  # the weights, or the first reply
    actor = make([1])
    with actor.awake():
        assert len(draw(actor, [want(actor, noise(64, 64, row)) for row in range(3)])) == 3


@pytest.mark.parametrize("deaths", ["s0", "s1", "k0", "k1", "0 s0", "0 k0"])
def test_a_server_that_is_of_no_use_and_does_not_end_is_ended_and_launched_again(
    make: Make, site: Path, deaths: str, caplog: pytest.LogCaptureFixture
) -> None:
    (site / "deaths").write_text(deaths)  # with the weights, with the first reply, or with the weights after a death
    actor = make([1])
    with actor.awake():
        assert len(draw(actor, [want(actor, noise(64, 64, row)) for row in range(3)])) == 3
    said = "does not answer any more" if deaths[0] in "sk" else "ended with code -9"
    assert f"the server of rollout.launch {said}: " in caplog.text


@pytest.mark.parametrize("deaths", ["h0", "s0", "k0", "h1", "s1", "k1"])
def test_a_server_of_the_users_that_is_of_no_use_ends_the_run(
    make: Make, site: Path, serve: Callable[..., subprocess.Popen[bytes]], deaths: str
) -> None:
    (site / "deaths").write_text(deaths)
    serve("--enable-scale-out")
    actor = make([], launch=None)
    with pytest.raises(EndpointError, match=r"rollout\.url: ") as caught, actor.awake():
        draw(actor, [want(actor, noise(64, 64, 1))])
    assert "then `resume=True`" in caught.value.hint


def test_a_server_that_was_not_let_go_on_after_it_had_the_weights_is_asked_again(
    make: Make, site: Path, url: str
) -> None:
    (site / "failures.json").write_text('{"/resume": 3}')  # as often as the client tries
    actor = make([])
    with actor.awake():
        assert look(url)["done"][-1] == "/resume"


def test_a_server_that_is_launched_again_is_not_given_up_before_it_has_been_given_the_weights(
    make: Make, site: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = make([])
    server: Any = actor._engine
    launched, client, gate = server._server, server._client, asyncio.Event()

    async def prepare() -> None:
        await gate.wait()
        await server._restore()

    async def ask_version() -> str:
        version = await VllmClient.ask_version(client)
        if version == "default":
            server.loop.call_soon(gate.set)  # seen at least once
        return version

    monkeypatch.setattr(launched, "_prepare", prepare)
    monkeypatch.setattr(client, "ask_version", ask_version)
    (site / "failures.json").write_text('{"/pause": 3}')
    os.kill(json.loads((tmp_path / "rollout.json").read_text())["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while launched.num_starts < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with actor.awake():
        draw(actor, [want(actor, noise(64, 64, 1))])
    assert gate.is_set()


def test_a_server_that_was_let_go_of_cannot_be_asked(make: Make) -> None:
    actor = make([])
    actor.close()
    with pytest.raises(ModelError, match="was let go of"):
        actor._engine.sleep()


def test_a_launched_server_that_always_dies_is_given_up(make: Make, site: Path, tmp_path: Path) -> None:
    (site / "deaths").write_text("0 0 0 0 0")
    actor = make([])
    with pytest.raises(TrainingError, match="it is given up after 4 launches") as caught, actor.awake():
        pass
    assert str(tmp_path / "rollout.log") in caught.value.hint


def test_a_launched_server_that_died_between_two_steps_is_launched_again(make: Make, site: Path) -> None:
    (site / "deaths").write_text("1")
    actor = make([])
    with actor.awake():
        pass
    with actor.awake():
        draw(actor, [want(actor, noise(64, 64, 1))])


def test_a_launched_server_that_dies_while_nobody_samples_is_not_given_old_weights(
    make: Make, url: str, tmp_path: Path
) -> None:
    actor = make([])
    with actor.awake():
        pass
    os.kill(json.loads((tmp_path / "rollout.json").read_text())["pid"], signal.SIGKILL)
    server: Any = actor._engine
    deadline = time.monotonic() + 60
    while (server._num_starts, server._server.up.is_set()) != (2, True):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert look(url)["done"] == []
    with actor.awake():
        draw(actor, [want(actor, noise(64, 64, 1))])


def test_a_server_of_the_users_is_used_and_left(
    make: Make, url: str, serve: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = serve("--enable-scale-out")
    with closing(make([], launch=None)) as actor, actor.awake():
        draw(actor, [want(actor, noise(64, 64, 1))])
    assert process.poll() is None
    with pytest.raises(ConfigError, match=r"something answers at .* before rollout\.launch was run"):
        make([])


def test_a_dead_server_of_the_users_is_named(
    make: Make, url: str, site: Path, serve: Callable[..., subprocess.Popen[bytes]]
) -> None:
    (site / "deaths").write_text("1")
    serve("--enable-scale-out")
    actor = make([], launch=None)
    with pytest.raises(EndpointError, match=r"rollout\.url: .*(cannot reach|has ended)") as caught, actor.awake():
        draw(actor, [want(actor, noise(64, 64, 1))])
    assert "then `resume=True`" in caught.value.hint


def test_a_server_that_is_not_set_up_for_rollouts_is_refused_with_the_command_that_is(
    make: Make, site: Path, url: str, serve: Callable[..., subprocess.Popen[bytes]]
) -> None:
    with pytest.raises(EndpointError, match=r"rollout\.url: .*cannot reach") as caught:
        make([], launch=None)
    given = f"--port {url.rpartition(':')[2].removesuffix('/v1')} --enable-scale-out --dtype float32"
    assert f"VLLM_SERVER_DEV_MODE=1 vllm serve CHECKPOINT {given}" in caught.value.hint
    process = serve()
    with pytest.raises(ConfigError, match="does not reply to token ids") as caught:
        make([], launch=None)
    assert "VLLM_SERVER_DEV_MODE=1 vllm serve" in caught.value.hint
    process.kill()
    process.wait()
    process = serve("--enable-scale-out", dev_mode="0")
    with pytest.raises(ConfigError, match=r"cannot be given weights: .*/collective_rpc failed \(404\): Not Found"):
        make([], launch=None)
    process.kill()
    process.wait()
    (site / "about.json").write_text('{"logprobs_mode": "raw_logprobs"}')
    serve("--enable-scale-out")
    with pytest.raises(ConfigError, match="has logprobs_mode raw_logprobs, and rollouts need processed_logprobs"):
        make([], launch=None)


@pytest.mark.parametrize("url", ["localhost:8001", "http://localhost:80a1", "http://localhost:99999", "http://"])
@pytest.mark.parametrize("launch", [None, "true"])
def test_what_is_no_url_says_so(make: Make, url: str, launch: str | None) -> None:
    with pytest.raises(ConfigError, match="is not the URL of a server"):
        make([], url=url, launch=launch)


@pytest.mark.parametrize("is_launched", [True, False])
def test_a_server_that_cannot_read_the_folder_of_the_weights_says_so(
    make: Make, serve: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, is_launched: bool
) -> None:
    if not is_launched:
        serve("--enable-scale-out")
    actor = make([], launch_timeout_s=3600.0, **({} if is_launched else {"launch": None}))  # it is not waited for
    monkeypatch.setattr(actor, "_write", lambda _: None)
    with pytest.raises(ModelError, match="no folder weights-for-vllm") as caught, actor.awake():
        pass
    assert "does it see the folder" in caught.value.hint


def connect(url: str, place: Path, timeout_s: float) -> VllmServer:
    """The server as a process sees it that is not the first."""
    settings = RolloutSettings(engine="vllm", url=url, launch="never", launch_timeout_s=timeout_s)
    args = {"model": "nano", "dtype": "float32", "logprobs_mode": "processed_logprobs"}
    return VllmServer(args, settings, place, owner="me", is_first=False)


def test_a_process_that_is_not_the_first_waits_for_the_weights(make: Make, url: str, tmp_path: Path) -> None:
    actor = make([1])
    with closing(connect(url, tmp_path, 0.2)) as second:
        assert second.max_tokens == 4096
        with pytest.raises(EndpointError, match=r"the first process has not given .* weights of version me/1"):
            second.read_weights(tmp_path, "1")
        with actor.awake():
            second.read_weights(tmp_path, "1")


def test_a_process_that_is_not_the_first_asks_again_once_a_new_server_has_the_weights(
    make: Make, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = make([1])
    with closing(connect(url, tmp_path, 60)) as second, actor.awake(), monkeypatch.context() as patch:
        second.read_weights(tmp_path, "1")
        name_weights(url, "default")  # as if it had just been launched
        patch.setattr(actor, "_engine", second)
        replies = ThreadPoolExecutor(1).submit(draw, actor, [want(actor, noise(64, 64, 1))])
        while not look(url)["seeds"]:
            time.sleep(0.01)
        name_weights(url, "me/1")
        assert [place for place, _ in replies.result()] == [0]
        assert look(url)["seeds"] == [11, 11]


@pytest.mark.parametrize(
    ("reason", "versions", "has_none"),
    [
        ("stop", ["me/1"], False),
        ("stop", ["default"], True),
        ("stop", ["default", "me/1"], True),
        ("abort", [], True),
        ("abort", ["me/1"], True),
    ],
)
def test_a_reply_that_is_not_of_the_own_weights_is_asked_for_again(
    reason: str, versions: list[str], has_none: bool
) -> None:
    spans = [{"version": version} for version in versions]
    told = {"token_ids": [], "finish_reason": reason, "logprobs": {"content": []}, "weight_versions": spans}
    assert ServedReply.model_validate(told).has_no_weights is has_none


@pytest.mark.parametrize("said", [b"[]", b"{}", b'"x"'])
async def test_a_server_that_knows_no_versions_has_none(said: bytes) -> None:
    with serve_pages({"/weight_info": Page(said, "application/json")}) as server:
        assert await VllmClient(server.url).ask_version() == ""


async def test_a_reply_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    client: Any = VllmClient("http://localhost:8000")
    monkeypatch.setattr(client._openai, "post", lambda *_, **__: asyncio.sleep(600))
    monkeypatch.setattr(launching, "is_well", lambda *_: True)
    monkeypatch.setattr(vllm_wire, "LONGEST_REPLY_S", 0)
    with pytest.raises(EndpointError, match="has not replied to /pause within 0 seconds"):
        await client.post("/pause")
    monkeypatch.setattr(launching, "MOST_SILENT", 1)
    monkeypatch.setattr(launching, "is_well", lambda *_: None)
    monkeypatch.setattr(vllm_wire, "LONGEST_REPLY_S", 600)
    with pytest.raises(EndpointError, match="has ended without a reply"):
        await client.post("/pause")


def test_arguments_of_the_engine_are_written_as_those_of_the_command() -> None:
    args = {
        "model": "nano",
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "max_model_len": 9,
        "limit": {"a": 1},
    }
    assert make_options(args) == [
        *("--enable-scale-out", "--enforce-eager", "--no-enable-prefix-caching", "--max-model-len", "9"),
        *("--limit", '{"a": 1}'),
    ]
