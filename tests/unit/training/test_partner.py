"""The frozen role: the same batches every time, nothing asked twice, a server that is started and ended."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from p2r.config import PartnerSettings
from p2r.dialogue import Decoding, Prompt
from p2r.errors import ConfigError, EndpointError, ModelError, TrainingError
from p2r.evidence import gather
from p2r.images.budget import FullImage
from p2r.models.nano import CHECKPOINT
from p2r.models.scripted import ScriptedModel
from p2r.training import keeper
from p2r.training import server as server_module
from p2r.training.lockstep import FreePartner, LockstepPartner
from p2r.training.memo import Memo, MemoReasoner, evidence_key
from p2r.training.partner import open_partner
from p2r.types import Box, Completion
from tests.fakes import stand_in_vllm
from tests.fakes.training import BatchScript, CountingImage, dead, make_sample

GREEDY = Decoding(max_new_tokens=9)


def prompt(text: str) -> Prompt:
    return Prompt("reasoner", "", text, (), "x")


async def ask_in_random_order(seed: int, *, fails: str = "") -> tuple[list[list[str]], list[str]]:
    """Twelve walks that dawdle for random times, and ask once or twice."""
    draw = random.Random(seed)
    model = BatchScript(lambda asked: dead(asked) if asked.text == fails else asked.text.upper())
    partner = LockstepPartner(model, num_at_once=5)

    def make(number: int) -> Callable[[], asyncio.Future[str]]:
        async def walk() -> str:
            await asyncio.sleep(draw.random() / 100)
            try:
                first = await partner.complete(prompt(f"walk {number}"), GREEDY)
            except EndpointError:
                return "failed"
            await asyncio.sleep(draw.random() / 100)
            if number % 3:
                return first.text
            return (await partner.complete(prompt(f"again {number}"), GREEDY)).text

        return lambda: asyncio.ensure_future(walk())

    return model.batches, await partner.run([make(number) for number in range(12)])


async def test_batches_depend_on_the_walks_and_not_on_who_comes_first() -> None:
    batches, results = await ask_in_random_order(1)
    assert (await ask_in_random_order(2)) == (batches, results)
    assert batches[0] == [f"walk {number}" for number in range(5)]
    assert batches[1] == ["again 0", "again 3"]
    assert results[:4] == ["AGAIN 0", "WALK 1", "WALK 2", "AGAIN 3"]


async def test_a_prompt_that_fails_reaches_its_own_walk_alone() -> None:
    batches, results = await ask_in_random_order(3, fails="walk 1")
    assert results[1] == "failed"
    assert "failed" not in [*results[:1], *results[2:]]
    assert len(batches) > 2


async def test_walks_that_ask_nothing_and_bugs_do_not_hang() -> None:
    partner = LockstepPartner(BatchScript(lambda asked: "yes"))

    async def quiet() -> str:
        return "quiet"

    async def ask() -> str:
        return (await partner.complete(prompt("?"), GREEDY)).text

    async def bug() -> str:
        raise ZeroDivisionError

    assert await partner.run([quiet, ask, quiet]) == ["quiet", "yes", "quiet"]
    assert await partner.run([]) == []
    with pytest.raises(ZeroDivisionError):
        await partner.run([ask, bug])


async def test_a_server_gets_only_so_many_walks_at_once() -> None:
    running: list[int] = []
    most: list[int] = []

    async def walk() -> int:
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0)
        running.pop()
        return 1

    assert await FreePartner(ScriptedModel({}), num_at_once=3).run([walk] * 10) == [1] * 10
    assert max(most) == 3


def boxes(*corners: tuple[float, float, float, float], label: str = "") -> tuple[Box, ...]:
    return tuple(Box(x1=x1, y1=y1, x2=x2, y2=y2, label=label) for x1, y1, x2, y2 in corners)


def test_evidence_is_the_same_when_its_pixels_are() -> None:
    first, second = (100.0, 100.0, 200.0, 200.0), (300.0, 300.0, 400.0, 400.0)
    key = evidence_key((1000, 1000), boxes(first, second))
    assert evidence_key((1000, 1000), boxes(first, second, label="sail")) == key
    assert evidence_key((1000, 1000), boxes(second, first)) != key
    assert evidence_key((1000, 1000), boxes(first)) != key
    assert evidence_key((100, 100), boxes((100, 100, 209, 209))) == evidence_key(
        (100, 100), boxes((100, 100, 201, 201))
    )
    nothing = evidence_key((1000, 1000), ())
    assert evidence_key((1000, 1000), boxes((1200, 1200, 1300, 1300))) == nothing == ()


async def test_the_memo_answers_what_was_answered_and_forgets_failures() -> None:
    class Reasoner:
        fingerprint = "r"
        num_asked = 0

        async def __call__(self, sample: object, evidence: object) -> Completion:
            self.num_asked += 1
            if self.num_asked == 1:
                raise EndpointError("busy")
            return Completion(text="A", finish_reason="stop", model="m")

    inner, memo = Reasoner(), Memo()
    reasoner = MemoReasoner(inner, memo)
    full_image = FullImage(Image.new("RGB", (100, 100)))
    evidence, sample = gather(full_image, boxes((100, 100, 400, 400))), make_sample()
    with pytest.raises(EndpointError):
        await reasoner(sample, evidence)
    first = await reasoner(sample, evidence)
    assert (await reasoner(sample, evidence)).reused == "cache"
    assert inner.num_asked == 2
    await reasoner(make_sample(question="What else?"), evidence)
    await reasoner(make_sample(image=CountingImage("other.png")), evidence)
    assert inner.num_asked == 4
    assert (memo.num_asked, memo.num_reused, len(memo)) == (3, 1, 3)
    restored = Memo()
    restored.load(json.loads(json.dumps(memo.dump())))
    assert (await MemoReasoner(inner, restored)(sample, evidence)).text == first.text
    assert (inner.num_asked, restored.num_asked, restored.num_reused) == (4, 3, 2)


async def test_the_memo_does_not_keep_what_a_server_drew_at_its_own_temperature() -> None:
    reply = Completion(text="A", finish_reason="stop", model="m")
    replies = [
        reply.model_copy(update={"reworded": ("temperature",)}),
        reply.model_copy(update={"earlier": (reply.model_copy(update={"reworded": ("seed", "temperature")}),)}),
        reply.model_copy(update={"reworded": ("seed",)}),
    ]

    class Reasoner:
        fingerprint = "r"

        async def __call__(self, sample: object, evidence: object) -> Completion:
            return replies.pop(0)

    memo = Memo()
    reasoner = MemoReasoner(Reasoner(), memo)
    evidence, sample = gather(FullImage(Image.new("RGB", (100, 100))), ()), make_sample()
    assert [(await reasoner(sample, evidence)).reused for _ in range(4)] == ["", "", "", "cache"]
    assert (memo.num_asked, memo.num_reused, len(memo)) == (3, 1, 1)


SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"data": [{"id": "frozen"}]}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
print("serving", sys.argv[1], flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


@pytest.fixture
def url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def settings(url: str, script: Path, text: str, timeout_s: float = 300) -> PartnerSettings:
    script.write_text(text)
    launch = f"{sys.executable} {script} {{checkpoint}} {{port}}"
    return PartnerSettings(kind="endpoint", url=url, launch=launch, launch_timeout_s=timeout_s)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LOOK_EVERY_S", 0.05)


async def test_a_server_is_started_with_the_checkpoint_and_ended(tmp_path: Path, url: str) -> None:
    partner = settings(url, tmp_path / "server.py", SERVER)
    async with open_partner(partner, BatchScript(dead), CHECKPOINT, tmp_path) as opened:
        assert opened.model.name == "frozen"
        assert opened.model.profile.family == "qwen3_vl"
        with pytest.raises(ConfigError, match="something answers at"):
            async with open_partner(partner, BatchScript(dead), CHECKPOINT, tmp_path / "another run"):
                pass
        assert (tmp_path / "partner.json").exists()
    assert not (tmp_path / "partner.json").exists()
    assert (tmp_path / "partner.log").read_text().splitlines()[0] == f"serving {CHECKPOINT}"
    with pytest.raises(EndpointError, match="cannot reach"):
        async with open_partner(partner.model_copy(update={"launch": None}), BatchScript(dead), CHECKPOINT, tmp_path):
            pass


async def test_a_model_that_the_server_does_not_have_is_refused(tmp_path: Path, url: str) -> None:
    partner = settings(f"{url}#other", tmp_path / "server.py", SERVER)
    with pytest.raises(EndpointError, match="has no model 'other'") as caught:
        async with open_partner(partner, BatchScript(dead), CHECKPOINT, tmp_path):
            pass
    assert "frozen" in caught.value.hint


async def test_a_server_that_dies_at_once_says_why(tmp_path: Path, url: str) -> None:
    partner = settings(url, tmp_path / "server.py", "raise SystemExit('no such GPU')")
    with pytest.raises(EndpointError, match="ended with code 1: no such GPU"):
        async with open_partner(partner, BatchScript(dead), CHECKPOINT, tmp_path):
            pass


async def test_a_server_that_says_nothing_has_not_said_what_an_earlier_one_said(tmp_path: Path, url: str) -> None:
    for text, said in (("raise SystemExit('no such GPU')", "no such GPU"), ("", "it wrote nothing")):
        with pytest.raises(EndpointError, match=f"ended with code [01]: {said}\n"):
            async with open_partner(
                settings(url, tmp_path / "server.py", text), BatchScript(dead), CHECKPOINT, tmp_path
            ):
                pass


async def test_what_is_no_url_says_so(tmp_path: Path) -> None:
    for launch in (None, "true"):
        partner = PartnerSettings(kind="endpoint", url="http://localhost:80a1", launch=launch)
        with pytest.raises(ConfigError, match="is not the URL of a server"):
            async with open_partner(partner, BatchScript(dead), CHECKPOINT, tmp_path):
                pass


async def test_a_server_that_never_answers_is_given_up_and_ended(tmp_path: Path, url: str) -> None:
    partner = settings(url, tmp_path / "server.py", "import time; print('loading', flush=True); time.sleep(600)", 0.5)
    with pytest.raises(EndpointError, match=r"not healthy within 0\.5 seconds") as caught:
        async with open_partner(partner, BatchScript(dead), CHECKPOINT, tmp_path):
            pass
    assert "launch_timeout_s" in caught.value.hint


@pytest.mark.parametrize(
    ("launch", "why"), [("serve 'it", "no closing quotation"), ("", "it is empty"), (" ", "it is empty")]
)
async def test_what_is_no_command_says_so(tmp_path: Path, url: str, launch: str, why: str) -> None:
    partner = PartnerSettings(kind="endpoint", url=url, launch=launch)
    with pytest.raises(ConfigError, match=rf"partner\.launch is not a command: {why}"):
        async with open_partner(partner, BatchScript(dead), CHECKPOINT, tmp_path):
            pass


async def test_a_server_has_stopped_when_nobody_is_there_or_it_is_silent_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "HEALTH_EVERY_S", -1)
    monkeypatch.setattr(server_module, "MOST_SILENT", 3)
    pulse = server_module.Pulse("http://localhost:8000/v1")
    found: list[bool | None] = []
    for well in (False, True, False, None, False, None, None, True, None, None, None):
        monkeypatch.setattr(server_module, "is_well", lambda url, _, well=well: well if url[-4:] == "8000" else True)
        await pulse.look()
        found.append(pulse.has_stopped)
    assert found == [False] * 10 + [True]
    pulse = server_module.Pulse("http://localhost:8000/v1")
    monkeypatch.setattr(server_module, "is_well", lambda *_: False)
    await pulse.look()
    assert not pulse.has_stopped
    await pulse.look()
    assert pulse.has_stopped
    monkeypatch.setattr(server_module, "HEALTH_EVERY_S", 600)
    monkeypatch.setattr(server_module, "is_well", lambda *_: True)
    await pulse.look()
    assert pulse.has_stopped  # it has just been asked


async def test_a_server_that_was_launched_since_has_not_lived(tmp_path: Path, url: str) -> None:
    server = server_module.Server("true", url, CHECKPOINT, tmp_path, timeout_s=1)
    server.num_starts = 2
    assert not server.has_lived_since(2)
    server.up.set()
    assert server.has_lived_since(2) and not server.has_lived_since(1)


@pytest.mark.parametrize("error", [ModelError("refused"), EndpointError("not yet")])
async def test_a_server_that_is_not_prepared_again_says_why(tmp_path: Path, url: str, error: ModelError) -> None:
    async def prepare() -> None:
        if server.num_starts > 1:
            server._timeout_s = 0
            raise error

    launch = settings(url, tmp_path / "server.py", SERVER).launch or ""
    server = server_module.Server(launch, url, CHECKPOINT, tmp_path, timeout_s=60, prepare=prepare)
    async with server.running():
        os.kill(json.loads((tmp_path / "partner.json").read_text())["pid"], signal.SIGKILL)
        with pytest.raises(TrainingError, match=rf"ended with code 137: .*; then .*{error.message}"):
            await server.guard(asyncio.sleep(600))


async def test_a_command_that_is_not_there_says_so(tmp_path: Path, url: str) -> None:
    partner = PartnerSettings(kind="endpoint", url=url, launch="no-such-program --port {port}")
    with pytest.raises(ConfigError, match="no-such-program"):
        async with open_partner(partner, BatchScript(dead), CHECKPOINT, tmp_path):
            pass


MORTAL = """
import http.server, json, os, pathlib, sys
starts = pathlib.Path(sys.argv[0]).with_suffix(".starts")
starts.write_text((starts.read_text() if starts.exists() else "") + "x")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({"data": [{"id": "frozen"}]})
    def do_POST(self):
        if len(starts.read_text()) <= MOST_DEATHS:
            print("out of GPU memory", flush=True)
            os._exit(7)
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "yes"}
        self.reply({"id": "1", "object": "chat.completion", "created": 0, "model": "frozen",
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
    def reply(self, content):
        body = json.dumps(content).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


async def ask_a_mortal(folder: Path, url: str, num_deaths: int) -> list[str]:
    text = MORTAL.replace("MOST_DEATHS", str(num_deaths))
    async with open_partner(
        settings(url, folder / "server.py", text), BatchScript(dead), CHECKPOINT, folder
    ) as partner:

        async def ask() -> str:
            return (await partner.model.complete(prompt("is it?"), GREEDY)).text

        return await partner.run([ask, ask])


async def test_a_server_that_dies_is_launched_again_and_what_it_left_is_asked_again(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask_a_mortal(tmp_path, url, 1) == ["yes", "yes"]
    assert (tmp_path / "server.starts").read_text() == "xx"
    assert "ended with code 7: " in caplog.text and "out of GPU memory; launching it again, see" in caplog.text


async def test_a_server_that_dies_twice_stops_the_run_with_its_code_and_its_last_words(
    tmp_path: Path, url: str
) -> None:
    with pytest.raises(
        TrainingError, match=r"ended with code 7: .*out of GPU memory; it is given up after 2 launches"
    ) as caught:
        await ask_a_mortal(tmp_path, url, 2)
    assert str(tmp_path / "partner.log") in caught.value.hint
    assert (tmp_path / "server.starts").read_text() == "xx"


def is_gone(pid: int, deadline_s: float = 30) -> bool:
    end = time.monotonic() + deadline_s
    while (started := keeper.started_at(pid)) and time.monotonic() < end:
        time.sleep(0.02)
    return not started


TRAINER = """
import asyncio, sys
from pathlib import Path
from p2r.training.server import Server
async def main():
    server = Server(sys.argv[1], sys.argv[2], Path("x"), Path(sys.argv[3]), timeout_s=60)
    async with server.running():
        print("up", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


def start_trainer(folder: Path, url: str) -> tuple[subprocess.Popen[str], int, int]:
    """A process with a launched server; and the numbers of the server and of its keeper."""
    launch = settings(url, folder / "server.py", SERVER).launch
    command = [sys.executable, "-c", TRAINER, str(launch), url, str(folder)]
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None and trainer.stdout.readline() == "up\n"
    record = json.loads((folder / "partner.json").read_text())
    return trainer, record["pid"], record["group"]


def test_a_killed_trainer_leaves_no_server(tmp_path: Path, url: str) -> None:
    trainer, server, group = start_trainer(tmp_path, url)
    trainer.kill()
    trainer.wait()
    assert is_gone(server) and is_gone(group)
    assert not (tmp_path / "partner.json").exists()


async def test_a_server_that_lost_its_keeper_is_ended_by_the_next_run_of_the_folder(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, server, group = start_trainer(tmp_path, url)
    os.kill(group, signal.SIGKILL)
    trainer.kill()
    trainer.wait()
    assert keeper.started_at(server)
    partner = settings(url, tmp_path / "server.py", SERVER)
    async with open_partner(partner, BatchScript(dead), CHECKPOINT, tmp_path) as opened:
        assert opened.model.name == "frozen"
        assert json.loads((tmp_path / "partner.json").read_text())["pid"] != server
    assert is_gone(server)
    assert "had launched was still there: ended" in caplog.text


def test_a_record_of_another_process_ends_nothing(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    record = tmp_path / "partner.json"
    try:
        for facts in ({"pid": sleeper.pid, "group": sleeper.pid, "started": "long ago"}, {}):
            record.write_text(json.dumps(facts))
            assert not keeper.end_recorded(record)
            assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


async def test_vllm_loads_the_frozen_checkpoint_and_ends_with_the_phase(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with stand_in_vllm.installed(tmp_path) as vllm:
        settings, local = PartnerSettings(kind="vllm", concurrency=3), BatchScript(lambda asked: "local")
        opened = open_partner(settings, local, CHECKPOINT, tmp_path, engine={"enforce_eager": True}, dtype="float32")
        async with opened as partner:
            reply = await partner.model.complete(stand_in_vllm.ask("What?"), GREEDY)
            assert not vllm.ended
        (args,) = vllm.started
        assert (reply.text, reply.model) == ("Yes, a star.", "frozen")
        assert (args.model, args.dtype, args.enforce_eager) == (str(CHECKPOINT), "float32", True)
        assert args.gpu_memory_utilization < 0.5
        assert len(vllm.ended) == 1


async def test_arguments_of_the_engine_go_over_the_own_share_of_memory(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with stand_in_vllm.installed(tmp_path) as vllm:
        local, engine = BatchScript(lambda asked: "local"), {"gpu_memory_utilization": 0.7}
        async with open_partner(PartnerSettings(kind="vllm"), local, CHECKPOINT, tmp_path, engine=engine):
            assert vllm.started[0].gpu_memory_utilization == 0.7


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
async def test_without_vllm_a_partner_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="vLLM is not installed") as caught:
        async with open_partner(PartnerSettings(kind="vllm"), BatchScript(lambda _: ""), CHECKPOINT, tmp_path):
            pass
    assert "pip install vllm" in caught.value.hint
