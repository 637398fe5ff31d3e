"""What is not the model's doing is told apart: a server that is gone, slow, locked or wrongly named; and files."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2r.cli.app import app
from p2r.doctor.examine import CHECKS, examine
from p2r.doctor.findings import Examination
from p2r.errors import ConfigError, EndpointError
from p2r.models.load import load_model
from p2r.models.server.measured import MeasuredProfile
from tests.fakes.endpoint_server import Answer, Call, completion, refusal, serve
from tests.fakes.examined_server import Behavior, Model, examined
from tests.fakes.processes import heed_ctrl_c

Respond = Callable[[Call], Answer]
KEY = "sk-of-the-user"


def fail_after(num: int, answer: Answer) -> Respond:
    """Answer so many requests as a healthy server does, and then thus."""
    model, number = Model(Behavior()), itertools.count()
    return lambda call: model.answer(call) if next(number) < num else answer


def look(respond: Respond, api_key: str = "", timeout_s: float = 300) -> Examination:
    with serve(respond, models=["m"]) as server:
        return examine(server.url, api_key=api_key, timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("answer", "says", "so"),
    [
        (refusal(404, "Not Found"), "has no chat completions (404): Not Found", "most URLs end in /v1"),
        (refusal(400, f"no {KEY}"), "refused the request (400): no ***", ""),
        (refusal(429, "slow down"), "is asked too often (429): slow down", "a key that allows more requests"),
        (refusal(500, "oops"), "failed (500): oops", "the server's own log says why"),
        (Answer(hang_up=True), "closed the connection without a reply", "the server's own log says why"),
    ],
    ids=["404", "400", "429", "500", "gone"],
)
def test_a_server_that_is_gone_is_told_once_and_accused_of_nothing_else(answer: Answer, says: str, so: str) -> None:
    found = look(fail_after(8, answer), api_key=KEY)
    assert [each.subject for each in found.findings] == ["tokens", "formats", "server", "not examined"]
    [lost, rest] = found.findings[2:]
    assert lost.state == "bad" and lost.says.startswith("It replies no more: http") and lost.says.endswith(says)
    assert so in lost.so and rest.says == f"{', '.join(name for name, _ in CHECKS[2:])}."
    assert not found.is_fit and found.profile.image_formats == ("png", "bmp", "webp", "jpeg")


@pytest.mark.parametrize("num", range(9, 49, 8))
def test_wherever_it_ends_only_the_end_is_told(num: int) -> None:
    found = look(fail_after(num, refusal(400, "no")))
    assert [each.subject for each in found.findings if each.state == "bad"] == ["server"]


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_server_that_is_gone_before_a_format_is_read_ends_it(status: int) -> None:
    with pytest.raises(EndpointError, match=rf"\({status}\): no"):
        look(fail_after(3, refusal(status, "no")))


def test_a_fault_that_passes_changes_nothing() -> None:
    model, number = Model(Behavior()), itertools.count()
    busy = Answer(429, json.dumps({"error": {"message": "busy"}}), headers=(("retry-after", "0"),))
    assert look(lambda call: busy if next(number) % 5 == 4 else model.answer(call)).is_fit


def test_a_format_that_breaks_the_server_is_a_format_that_it_does_not_read() -> None:
    model = Model(Behavior())

    def respond(call: Call) -> Answer:
        return refusal(500, "Internal Server Error") if "image/bmp" in str(call.body) else model.answer(call)

    found = look(respond)
    assert found.is_fit and found.profile.image_formats == ("png", "webp", "jpeg")


def test_a_slow_server_is_asked_once_more_and_no_longer() -> None:
    model, number, gate = Model(Behavior()), itertools.count(), threading.Event()

    def respond(call: Call) -> Answer:
        return model.answer(call) if next(number) < 8 else Answer(gate=gate)

    try:
        with serve(respond, models=["m"]) as server:
            found = examine(server.url, timeout_s=0.5)
            num_asked = len(server.chats)
            gate.set()
    finally:
        gate.set()
    [lost] = [each for each in found.findings if each.state == "bad"]
    assert lost.says.endswith("did not reply within 0.5 seconds")
    assert lost.so == "raise `timeout_s`, or look at the server's load"
    assert num_asked == 8 + 2


def test_a_context_that_images_do_not_fit_is_called_so() -> None:
    model = Model(Behavior())

    def respond(call: Call) -> Answer:
        if str(call.body).count("base64") > 3:
            return refusal(400, "This model's maximum context length is 512 tokens. Your prompt is too long")
        return model.answer(call)

    [images] = [each for each in look(respond).findings if each.subject == "images"]
    assert images.state == "bad" and images.says.startswith("It takes 3 images in a prompt: the prompt does not fit")
    assert "raise the server's context" in images.so and "limit-mm-per-prompt" not in images.so


def test_large_images_that_fail_limit_the_profile() -> None:
    model = Model(Behavior(most=4096))

    def respond(call: Call) -> Answer:
        answer = model.answer(call)
        tokens = json.loads(answer.body)["usage"]["prompt_tokens"]
        return refusal(400, "too large") if tokens > 900 else answer

    found = look(respond)
    [largest] = [each for each in found.findings if each.subject == "largest image"]
    assert largest.says.startswith("A square of 896 pixels is seen as sent; a larger one failed: http")
    assert found.is_fit and found.profile.max_pixels == 896 * 896


def test_refused_settings_are_told() -> None:
    model = Model(Behavior())

    def respond(call: Call) -> Answer:
        if "temperature" in call.body:
            return refusal(400, "Unsupported value: 'temperature' does not support 0, only the default (1)")
        if any(each["role"] == "system" for each in call.body["messages"]):  # type: ignore[attr-defined]
            return refusal(400, "System role not supported")
        return model.answer(call)

    found = look(respond)
    settings = [each.says for each in found.findings if each.subject == "settings"]
    assert settings == [
        "It draws its replies at its own temperature, not greedily as they were asked for; the same question may get "
        "another answer.",
        "It has no role for the system; its words stand before the question.",
    ]


def test_an_unknown_name_is_told_with_those_that_there_are() -> None:
    with (
        serve(refusal(404, "The model `x` does not exist."), models=["m"]) as server,
        pytest.raises(EndpointError, match="has no model 'x'") as told,
    ):
        examine(f"{server.url}#x")
    assert told.value.hint == "it has m"


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_wanted_is_asked_for_where_models_are_listed_too(status: int) -> None:
    refused = refusal(status, f"bad key {KEY}")
    with serve(refused, models=["m"]) as server:
        server.answer = lambda call: refused  # type: ignore[method-assign]
        for spec in (server.url, f"{server.url}#m"):
            with pytest.raises(EndpointError, match=rf"refused the API key \({status}\): bad key \*\*\*") as told:
                examine(spec, api_key=KEY)
            assert told.value.hint == "set OPENAI_API_KEY to a key of this server"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(body="<html>Welcome</html>"), "is not JSON: '<html>Welcome</html>'"),
        (completion("", prompt_tokens=None, finish_reason="length"), "cut the reply off before its first word"),
    ],
    ids=["page", "cut off"],
)
def test_what_is_no_model_ends_it_at_once(answer: Answer, says: str) -> None:
    with serve(answer, models=["m"]) as server, pytest.raises(EndpointError, match=says):
        examine(server.url)


@pytest.mark.parametrize("ending", ["", "#m"])
def test_https_where_there_is_none_is_told(ending: str) -> None:
    with examined() as server, pytest.raises(EndpointError, match="does not speak TLS") as told:
        examine(server.url.replace("http:", "https:") + ending)
    assert told.value.hint == "write http:// in place of https://"


@pytest.mark.parametrize("name", ["mine.json", "mine.profile"])
def test_a_file_of_any_name_is_a_profile_and_is_written_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    MeasuredProfile(url="u", model="m", date="d", family="qwen2_5_vl").save(path)
    assert load_model("http://127.0.0.1:9/v1#m", profile=str(path)).profile.budget.factor == 28
    with examined() as server:
        done = CliRunner().invoke(app, ["doctor", server.url, "--out", str(path)])
    assert done.exit_code == 0, done.stderr
    assert load_model("http://127.0.0.1:9/v1#m", profile=str(path)).profile.budget.factor == 32


def test_a_file_of_someone_else_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with examined() as server:
        done = CliRunner().invoke(app, ["doctor", server.url, "--out", str(tmp_path / "notes.txt")])
        assert not server.calls
    assert done.exit_code == 1 and "notes.txt exists and is no profile of `p2r doctor`" in " ".join(done.stderr.split())
    assert "name another file: --out" in done.stderr and (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(ConfigError, match="it was not written by `p2r doctor`"):
        load_model("http://127.0.0.1:9/v1#m", profile=str(tmp_path / "notes.txt"))


def test_options_of_other_commands_are_named_as_flags() -> None:
    with examined(Behavior(formats=("JPEG",), is_random_together=True)) as server:
        done = CliRunner().invoke(app, ["doctor", server.url])
    assert "State --transport jpeg." in done.stdout
    assert "--num-at-once 1 repeats a run to the word." in done.stdout


def test_ctrl_c_ends_it_and_writes_nothing(tmp_path: Path) -> None:
    asked, gate = threading.Event(), threading.Event()

    def respond(call: Call) -> Answer:
        asked.set()
        return Answer(gate=gate)

    with serve(respond, models=["m"]) as server:
        command = [sys.executable, "-m", "p2r", "doctor", server.url, "--out", str(tmp_path / "mine.json")]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
        )
        assert asked.wait(120)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        gate.set()
    assert process.returncode == 130 and "Traceback" not in said, said
    assert not list(tmp_path.iterdir())
