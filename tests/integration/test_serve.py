"""`p2r serve` as a program: real clients, signals, and many requests at once."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from p2r import P2R
from p2r.benchmarks.needles import Needles
from p2r.models.load import load_model
from p2r.serving.settings import Access
from tests.fakes import endpoint_server
from tests.fakes.endpoint_server import Answer, Call, completion
from tests.fakes.served import ANSWER, BOX, ask_about_image, data_url, serve, show, user

NEEDLES = Needles(seed=5, num_samples=4)


@contextmanager
def run_server(*arguments: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the command; gives its URL and the process, which is killed at the end where it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "p2r", "serve", "--port", "0", *arguments],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"at (http://\S+)/v1", line)
        assert found, (line, process.communicate(timeout=20))
        yield found[1], process
    finally:
        process.kill()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def nano() -> Iterator[str]:
    model = load_model("nano")
    with serve(model, access=Access(keys=("sk-test",))) as served:
        yield f"{served.url}/v1"


def test_the_openai_sdk_gets_the_answers_that_p2r_gives(nano: str) -> None:
    client, offline = OpenAI(base_url=nano, api_key="sk-test"), P2R("nano")
    assert [model.id for model in client.models.list()][:2] == ["m", "p2r/m"]
    for sample in NEEDLES:
        image = sample.image.load()
        body: Any = {"p2r": {"options": sample.options, "answer_form": sample.answer_form}}
        message: Any = user(sample.question, show(data_url(image)))
        reply = client.chat.completions.create(model="p2r/m", messages=[message], extra_body=body)
        trace = offline.ask_sample(sample)
        assert trace.answer is not None and trace.reasoning is not None and trace.perception is not None
        assert reply.choices[0].message.content == (trace.answer.letter or trace.answer.text)
        look: Any = (reply.model_extra or {})["p2r"]
        assert look["stages"]["answer"]["reply"] == trace.reasoning.text
        assert [box["per_mille"] for box in look["boxes"]] == [list(box.xyxy) for box in trace.boxes]
        assert [tuple(box["pixels"]) for box in look["boxes"]] == list(trace.boxes_px)
        assert reply.usage is not None
        calls = (trace.perception.completion, trace.reasoning)
        assert reply.usage.prompt_tokens == sum(call.usage.prompt_tokens or 0 for call in calls if call)


def test_the_openai_sdk_streams(nano: str) -> None:
    sample = NEEDLES[0]
    with OpenAI(base_url=nano, api_key="sk-test") as client:
        message: Any = user(sample.question, show(data_url(sample.image.load())))
        stream = client.chat.completions.create(
            model="p2r/m", messages=[message], stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        whole = client.chat.completions.create(model="p2r/m", messages=[message])
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    thoughts: list[str] = [thought for delta in deltas if (thought := getattr(delta, "reasoning_content", None))]
    assert "".join(thoughts) == getattr(whole.choices[0].message, "reasoning_content", None)
    assert len(thoughts) > 3  # as they were generated
    assert chunks[-1].usage == whole.usage


def test_the_openai_sdk_raises_its_own_errors(nano: str) -> None:
    message: Any = user("Hi")
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=nano, api_key="sk-wrong").chat.completions.create(model="m", messages=[message])
    client = OpenAI(base_url=nano, api_key="sk-test")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="none", messages=[message])
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="m", messages=[message], logprobs=True)
    assert (raised.value.param, raised.value.code) == ("logprobs", "unsupported_parameter")


def test_p2r_itself_can_ask_it(nano: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """p2r is a client like any other: the model itself, behind p2r's server, answers as it does here."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    served, offline = P2R(load_model(f"{nano}#m", profile="nano")), P2R("nano")
    for sample in NEEDLES:
        there, here = served.ask_sample(sample), offline.ask_sample(sample)
        assert there.reasoning is not None and here.reasoning is not None
        assert (there.boxes, there.reasoning.text) == (here.boxes, here.reasoning.text)


def test_curl_asks_it(tmp_path: Path) -> None:
    script = tmp_path / "replies.json"
    script.write_text(json.dumps({"perceiver": BOX, "reasoner": ANSWER}))
    (tmp_path / "request.json").write_text(json.dumps({"model": "p2r/scripted", "messages": [ask_about_image()]}))
    with run_server("--model", f"scripted:{script}", P2R_SERVE_KEYS="sk-1") as (url, process):
        command = ["curl", "-sS", f"{url}/v1/chat/completions", "-H", "Authorization: Bearer sk-1"]
        command += ["-H", "Content-Type: application/json", "-d", f"@{tmp_path}/request.json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        reply = json.loads(done.stdout)
        assert reply["choices"][0]["message"]["content"] == "a star"
        assert process.stdout is not None  # what came with its first line is not told again by `communicate`
        out, page = process.stdout.readline(), process.stdout.readline()
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert page == f"page: {url}/\n"
    assert out.startswith("models: scripted, p2r/scripted, scripted:p2r, ")
    assert "POST /v1/chat/completions 200" in err
    assert "sk-1" not in err and str(tmp_path) not in err


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_runs_finish_and_refuses_the_rest(sign: signal.Signals) -> None:
    gate = threading.Event()

    def answer(call: Call) -> Answer:
        return Answer(body=completion("<answer>a star</answer>").body, gate=gate)

    with endpoint_server.serve(answer) as upstream:
        arguments = (
            "--upstream",
            upstream.url,
            "--model",
            "m",
            "--num-at-once",
            "1",
            "--image-check",
            "never",
            "--frame",
            "unit",
        )
        with run_server(*arguments) as (url, process), ThreadPoolExecutor(4) as pool:
            client = OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)

            def ask() -> str:
                message: Any = ask_about_image()
                try:
                    reply = client.chat.completions.create(model="p2r/m", messages=[message])
                except openai.APIStatusError as error:
                    return f"{error.status_code} {error.code}"
                return reply.choices[0].message.content or ""

            running = pool.submit(ask)
            while not upstream.chats:
                time.sleep(0.01)
            waiting = pool.submit(ask)
            while "p2r_requests_waiting 1.0" not in client._client.get(f"{url}/metrics").text:
                time.sleep(0.01)
            process.send_signal(sign)
            assert waiting.result(30) == "503 shutting_down"
            with pytest.raises(openai.APIConnectionError):
                while True:  # it closes its door a moment after it has told those who wait
                    OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0).models.list()
            assert not running.done()
            gate.set()
            assert running.result(30) == "a star"
            _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + sign
    assert "Traceback" not in err
    assert ("asked to end by SIGTERM" if sign == signal.SIGTERM else "interrupted") in err


def test_a_port_that_is_taken_is_told() -> None:
    with endpoint_server.serve(completion()) as taken:
        port = taken.url.split(":")[2].partition("/")[0]
        command = [
            sys.executable,
            "-m",
            "p2r",
            "serve",
            "--upstream",
            taken.url,
            "--model",
            "m",
            "--frame",
            "unit",
            "--port",
            port,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"error: the server cannot listen at 127.0.0.1, port {port}" in done.stderr
    assert "--port" in done.stderr


def test_hundreds_of_requests_at_once_are_all_answered_in_bounded_memory() -> None:
    """The five minutes of benchmarks/speed_serve.py in small."""
    is_look = "Locate the key visual evidence"

    num_asked = 0

    def answer(call: Call) -> Answer:
        nonlocal num_asked
        num_asked += 1
        upstream.calls.clear()  # their images would fill the memory that is measured
        return completion(BOX if is_look in json.dumps(call.body) else ANSWER, prompt_tokens=9)

    async def ask_all(url: str, num_requests: int) -> list[str]:
        slots = asyncio.Semaphore(32)
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:

            async def ask(number: int) -> str:
                message: Any = ask_about_image(f"What is on sail {number}?")
                async with slots:
                    reply = await client.chat.completions.create(model="p2r/m", messages=[message])
                return reply.choices[0].message.content or ""

            return await asyncio.gather(*map(ask, range(num_requests)))

    with endpoint_server.serve(answer) as upstream:
        model = load_model(f"{upstream.url}#m", image_check="never", profile="nano")
        with serve(model) as served:
            asyncio.run(ask_all(served.url, 40))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert set(asyncio.run(ask_all(served.url, 300))) == {"a star"}
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kilobytes
            assert served.application.line.num_inside == 0
            assert 'status="200"} 340.0' in served.ask("/metrics").text
    assert num_asked == 680
