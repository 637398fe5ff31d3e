"""Attacks by connections that send nothing, or slowly, or what is no HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from p2r.serving.connection import TimedProtocol
from p2r.serving.settings import Limits
from tests.fakes.served import Served, scripted, serve, user
from tests.unit.serving.test_line import Held, wait_for

CHAT = "/v1/chat/completions"
HEAD = "Host: localhost\r\n"
HEALTH = f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(TimedProtocol, "longest_head_s", 1.0)
    with serve(scripted(), limits=Limits(body_timeout_s=1.0, body_bytes=1000)) as served:
        yield served


def connect(served: Served) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 20)


def send(served: Served, text: str) -> str:
    """Send a text, and return what comes until the server hangs up, which it must."""
    with connect(served) as raw:
        raw.sendall(text.encode("latin-1"))
        said = b""
        while data := raw.recv(65536):
            said += data
    return said.decode()


def ask_on(raw: socket.socket) -> None:
    """Ask, and read the reply, over a connection that stays open."""
    raw.sendall(HEALTH.encode())
    said = b""
    while b'"ok"}' not in said:
        data = raw.recv(65536)
        assert data, said
        said += data


@pytest.mark.parametrize(
    ("text", "replies"),
    [
        ("", 0),
        ("GET /healthz HT", 0),
        (f"GET /healthz HTTP/1.1\r\n{HEAD}", 0),
        (f"{HEALTH}GET /he", 1),
        (f"POST {CHAT} HTTP/1.1\r\n{HEAD}Content-Length: 20\r\n\r\n{{", 1),
    ],
)
def test_a_connection_without_a_whole_request_is_cut(text: str, replies: int, served: Served) -> None:
    assert send(served, text).count("HTTP/1.1 ") == replies


def test_a_connection_that_drips_is_cut(served: Served) -> None:
    with connect(served) as raw:
        raw.sendall(f"GET /healthz HTTP/1.1\r\n{HEAD}".encode())
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < 20:
                raw.sendall(b"X: y\r\n")
                time.sleep(0.02)


def test_a_connection_too_many_is_cut_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedProtocol, "most_open", 2)
    with serve(scripted()) as served, connect(served) as first:
        with connect(served):
            ask_on(first)
            assert send(served, "") == ""
            ask_on(first)
        wait_for(lambda: send(served, f"GET /healthz HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n") != "")


def test_a_request_is_not_cut_while_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedProtocol, "longest_head_s", 0.1)
    model = Held()
    body = json.dumps({"model": "m", "messages": [user("hi")]})
    with serve(model) as served:
        wait = threading.Timer(0.5, model.let.set)
        wait.start()
        reply = send(served, f"POST {CHAT} HTTP/1.1\r\n{HEAD}Content-Length: {len(body)}\r\n\r\n{body}")
        wait_for(lambda: served.application.line.num_inside == 0)
    assert reply.startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "text",
    [
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET /healthz HTTP/1.1\r\n\r\n",
        f"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n{HEAD}\r\n",
        f"POST {CHAT} HTTP/1.1\r\n{HEAD}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        f"POST {CHAT} HTTP/1.1\r\n{HEAD}Content-Length: -3\r\n\r\nabcd",
        f"POST {CHAT} HTTP/1.1\r\n{HEAD}Content-Length: {'9' * 5000}\r\n\r\nabcd",
        f"POST {CHAT} HTTP/1.1\r\n{HEAD}Transfer-Encoding: gzip\r\n\r\nabcd",
        f"POST {CHAT} HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\nzzz\r\n",
    ],
)
def test_what_is_no_request_is_refused(text: str) -> None:
    with serve(scripted()) as served:
        assert send(served, text).startswith("HTTP/1.1 400 ")
        wait_for(lambda: served.application.line.num_inside == 0)


def test_two_lengths_of_a_body_are_no_way_to_smuggle_a_request(served: Served) -> None:
    """The chunks say where the body ends, and what follows it is not taken for more than one request."""
    body = json.dumps({"model": "m", "messages": [user("hi")]})
    chunked = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    reply = send(
        served, f"POST {CHAT} HTTP/1.1\r\n{HEAD}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"
    )
    assert reply.count("HTTP/1.1 200 ") == reply.count("HTTP/1.1 ") == 1
