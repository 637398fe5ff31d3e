"""A model behind another server: what is handed on, and what its failures become."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from p2r.dialogue import ModelProfile
from p2r.models.profiles import PROFILES
from p2r.models.server.model import EndpointModel
from p2r.serving.settings import PATIENCE_S, Access, Limits
from p2r.serving.upstream import Upstream
from tests.fakes import endpoint_server
from tests.fakes.endpoint_server import Answer, Call, ChatServer, completion, refusal
from tests.fakes.served import BOX, Served, ask_about_image, data_url, read_events, show, user
from tests.fakes.served import serve as serve_model

KEY = "sk-upstream-secret"


@contextmanager
def serve(url: str, *, timeout_s: float = 20, limits: Limits | None = None, key: str = "") -> Iterator[Served]:
    """Serve the model `m` of the server at `url`."""
    profile: ModelProfile = PROFILES["qwen3_vl"]
    model = EndpointModel(
        url,
        "m",
        profile,
        api_key=KEY,
        timeout_s=timeout_s,
        retry_wait_s=0.0,
        patience_s=PATIENCE_S,
        image_check="never",
    )
    access = Access(keys=(key,) if key else ())
    with serve_model(
        model, upstream=Upstream(url, "m", KEY, timeout_s=timeout_s), limits=limits, access=access
    ) as served:
        yield served


def look_or_answer(call: Call) -> Answer:
    is_look = "bbox_2d" in json.dumps(call.body)
    return completion(BOX if is_look else "<answer>a star</answer>", prompt_tokens=50)


@contextmanager
def both(
    *answers: Answer | Callable[[Call], Answer], timeout_s: float = 20, limits: Limits | None = None, key: str = ""
) -> Iterator[tuple[Served, ChatServer]]:
    with (
        endpoint_server.serve(*answers) as upstream,
        serve(upstream.url, timeout_s=timeout_s, limits=limits, key=key) as served,
    ):
        yield served, upstream


def test_a_walk_asks_the_upstream_twice_and_adds_up_what_it_counts() -> None:
    with both(look_or_answer) as (served, upstream):
        body: Any = served.chat(ask_about_image()).body
    assert body["choices"][0]["message"]["content"] == "a star"
    assert body["usage"] == {"prompt_tokens": 100, "completion_tokens": 6, "total_tokens": 106}
    assert len(upstream.chats) == 2
    assert {call.headers["authorization"] for call in upstream.chats} == {f"Bearer {KEY}"}


FIELDS = {
    "temperature": 0.3,
    "logprobs": True,
    "top_logprobs": 2,
    "response_format": {"type": "json_object"},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "n": 2,
    "guided_regex": "a+",
}


@pytest.mark.parametrize("name", ["m", "p2r/m"])
def test_a_chat_without_an_image_is_handed_on_as_it_is(name: str) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        user("Hi"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "1", "content": "3"},
    ]
    with both(completion("hello", prompt_tokens=5), key="sk-client") as (served, upstream):
        body = {"model": name, "messages": messages, **FIELDS}
        reply = served.ask("/v1/chat/completions", body, {"Authorization": "Bearer sk-client"})
    (call,) = upstream.chats
    assert call.body == {"model": "m", "messages": messages, **FIELDS}
    assert reply.body == json.loads(completion("hello", prompt_tokens=5).body)
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert "sk-client" not in str(call.headers)


def test_the_model_itself_is_handed_images_as_they_are() -> None:
    with both(completion("a boat")) as (served, upstream):
        message = user("What is it?", show(data_url()), show(data_url(kind="JPEG")))
        assert served.chat(message, model="m").status == 200
    assert upstream.chats[0].body["messages"] == [message]


@pytest.mark.parametrize(
    "part",
    [
        show("http://169.254.169.254/latest/meta-data"),
        show("file:///etc/passwd"),
        {"type": "image_url", "image_url": "http://10.0.0.1/a.png"},
        {"type": "video_url", "video_url": {"url": "http://10.0.0.1/a.mp4"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"image_url": "http://10.0.0.1/a.png"},
        {"type": "text", "text": "hi", "image_url": "http://10.0.0.1/a.png"},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ],
)
@pytest.mark.parametrize("role", ["user", "tool"])
def test_nobody_makes_the_upstream_fetch_what_only_it_can_reach(part: dict[str, object], role: str) -> None:
    with both(completion("hello")) as (served, upstream):
        reply = served.chat(user("Hi"), {"role": role, "content": [part]}, model="m")
    assert (reply.status, reply.error["param"]) == (400, "messages")
    assert upstream.chats == []


def test_limits_hold_for_what_is_handed_on() -> None:
    with both(completion("hello"), limits=Limits(prompt_chars=20, new_tokens=50)) as (served, upstream):
        assert served.chat(user("a" * 21), model="m").error["code"] == "prompt_too_long"
        assert served.chat({"role": "user", "content": "a" * 21}, model="m").error["code"] == "prompt_too_long"
        assert served.chat(user("a"), model="m", max_tokens=51).error["param"] == "max_tokens"
        assert served.ask("/v1/chat/completions", {"model": "m"}).error["param"] == "messages"
    assert upstream.chats == []


BUSY = Answer(429, '{"error": {"message": "slow down"}}', (("retry-after", "0"), ("x-p", "1")))
LEAKY = "at /opt/models/secret/x.py line 3, see http://10.1.2.3:8000/v1"


@pytest.mark.parametrize(
    ("answer", "status", "code", "num_asked"),
    [
        (BUSY, 429, "upstream_busy", (4, 3)),
        (Answer(429, "{}", (("retry-after", "50"),)), 429, "upstream_busy", (1, 1)),  # a place is not held so long
        (Answer(503, "{}", (("retry-after", "50"),)), 503, "upstream_not_ready", (1, 1)),
        (Answer(429, "{}", (("retry-after", "nan"),)), 429, "upstream_busy", (1, 1)),
        (refusal(500, f"CUDA error {LEAKY}"), 502, "upstream_failed", (6, 3)),  # in every format of images
        (refusal(503, "loading"), 503, "upstream_not_ready", (4, 3)),
        (refusal(401, f"bad key {KEY}"), 502, "upstream_failed", (1, 1)),
        (refusal(404, "no such path"), 502, "upstream_failed", (1, 1)),
        (refusal(400, f"odd request {LEAKY}"), 400, "upstream_refused", (1, 1)),
        (refusal(400, "This model's maximum context length is 4096 tokens"), 400, "context_length_exceeded", (1, 1)),
        (Answer(200, "<html>"), 502, "upstream_malformed", (1, 1)),
        (Answer(200, "{}"), 502, "upstream_malformed", (1, 1)),
        (Answer(200, '{"choices": []}'), 502, "upstream_malformed", (1, 1)),
        (Answer(hang_up=True), 502, "upstream_unreachable", (4, 3)),
    ],
)
@pytest.mark.parametrize("is_walk", [True, False])
def test_failures_of_the_upstream_become_errors_in_openai_s_form(
    answer: Answer, status: int, code: str, num_asked: tuple[int, int], is_walk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2r.serving.upstream.RETRY_WAIT_S", 0.001)
    with both(answer) as (served, upstream):
        reply = served.chat(ask_about_image(), model="p2r/m" if is_walk else "m")
    assert (reply.status, reply.error["code"]) == (status, code), reply.text
    assert set(reply.error) == {"message", "type", "param", "code"}
    for secret in (KEY, "/opt/", "10.1.2.3", upstream.url, "127.0.0.1"):
        assert secret not in reply.text
    assert len(upstream.chats) == num_asked[0 if is_walk else 1]
    if status in (429, 503):
        assert int(reply.headers["retry-after"]) == (
            50 if ("retry-after", "50") in answer.headers else 5 if status == 503 else 1
        )


@pytest.mark.parametrize("name", ["m", "p2r/m"])
def test_an_upstream_that_is_not_there_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2r.serving.upstream.RETRY_WAIT_S", 0.001)
    with endpoint_server.serve(completion()) as gone:
        url = gone.url
    with serve(url) as served:
        reply = served.chat(ask_about_image(), model=name)
    assert (reply.status, reply.error["code"]) == (502, "upstream_unreachable")


@pytest.mark.parametrize("name", ["m", "p2r/m"])
def test_an_upstream_that_is_slow_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2r.serving.upstream.RETRY_WAIT_S", 0.001)
    gate = threading.Event()
    with both(Answer(gate=gate), timeout_s=0.1) as (served, _):
        reply = served.chat(ask_about_image(), model=name)
        gate.set()
    assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("name", ["m", "p2r/m"])
def test_a_fault_that_passes_is_tried_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2r.serving.upstream.RETRY_WAIT_S", 0.001)
    with both(BUSY, Answer(hang_up=True), look_or_answer) as (served, _):
        assert served.chat(ask_about_image(), model=name).status == 200


class Streaming:
    """A server that streams what it is told, and sees its client leave."""

    def __init__(self, *lines: str, breaks: bool = False) -> None:
        self.lines, self.breaks = lines, breaks
        self.asked, self.gate, self.left = threading.Event(), threading.Event(), threading.Event()
        self.num_sent = 0

    @contextmanager
    def serve(self) -> Iterator[str]:
        told = self

        class One(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                told.asked.set()
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                try:
                    for line in told.lines:
                        self.chunk(line)
                        told.num_sent += 1
                    if told.breaks:
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return
                    while not told.gate.is_set():
                        self.chunk(": wait\n\n")
                        time.sleep(0.01)
                    self.chunk("")
                except OSError:
                    told.left.set()

            def chunk(self, text: str) -> None:
                self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
                self.wfile.flush()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), One)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            self.gate.set()
            server.shutdown()
            server.server_close()


def event(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n"


def test_a_stream_is_handed_on_as_it_comes() -> None:
    told = Streaming(event("one "), event("two"), "data: [DONE]\n\n")
    with told.serve() as url, serve(url) as served:
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
        body = json.dumps({"model": "p2r/m", "messages": [user("Hi")], "stream": True})
        connection.request("POST", "/v1/chat/completions", body)
        response = connection.getresponse()
        first = response.readline()  # while the upstream is still at it
        assert first == event("one ").partition("\n")[0].encode() + b"\n"
        told.gate.set()
        rest = response.read().decode()
    events: Any = read_events(first.decode() + rest)
    assert [each["choices"][0]["delta"]["content"] for each in events] == ["one ", "two"]
    assert "data: [DONE]\n\n" in rest


def test_an_upstream_is_left_when_the_client_leaves_a_stream() -> None:
    told = Streaming(event("one "))
    with told.serve() as url, serve(url) as served:
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
        body = json.dumps({"model": "m", "messages": [user("Hi")], "stream": True})
        connection.request("POST", "/v1/chat/completions", body)
        connection.getresponse().readline()
        assert connection.sock is None or connection.sock.close() is None
        connection.close()
        assert told.left.wait(20)


def test_an_upstream_is_left_when_the_client_of_a_walk_leaves() -> None:
    told = Streaming()  # it never answers
    with told.serve() as url, serve(url) as served:
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
        body = json.dumps({"model": "p2r/m", "messages": [ask_about_image()]})
        connection.request("POST", "/v1/chat/completions", body)
        assert told.asked.wait(20)
        assert not told.left.is_set()
        connection.close()
        assert told.left.wait(20)


def test_a_stream_that_breaks_off_ends_with_an_error() -> None:
    told = Streaming(event("one "), breaks=True)
    with told.serve() as url, serve(url) as served:
        reply = served.chat(user("Hi"), model="m", stream=True)
    events: Any = read_events(reply.text)
    assert events[0]["choices"][0]["delta"]["content"] == "one "
    assert events[-1]["error"]["code"] == "upstream_unreachable"
    assert "[DONE]" not in reply.text


def test_a_stream_that_is_refused_has_a_status() -> None:
    with both(refusal(400, "odd")) as (served, _):
        reply = served.chat(user("Hi"), model="m", stream=True)
    assert (reply.status, reply.error["code"]) == (400, "upstream_refused")
