"""Faults of the connection itself: each is named, with the hint that fits, and asked again only where that can help."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2r.dialogue import Decoding, Prompt
from p2r.errors import ConfigError, EndpointError
from p2r.models.load import load_model
from p2r.models.server.model import ATTEMPTS, EndpointModel
from tests.fakes.endpoint_server import completion, serve
from tests.fakes.raw_server import serve_bytes

LOOK_UP = 1
"""The connection by which a server is asked what it serves."""
HELLO = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def fail(url: str) -> EndpointError:
    model = EndpointModel.connect(f"{url}#qwen3-vl", api_key="", retry_wait_s=0.001)
    with pytest.raises(EndpointError) as caught:
        asyncio.run(model.complete(Prompt("perceiver", "", "Where?", (), "test"), Decoding(max_new_tokens=4)))
    return caught.value


def test_tls_to_a_plain_port_is_told_at_once() -> None:
    with serve_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        error = fail(server.url("https"))
        assert server.num_connections == LOOK_UP + 1
    assert error.message == f"{server.url('https')} does not speak TLS"
    assert error.hint == "write http:// in place of https://"


def test_http_to_a_tls_port_is_told_at_once(tmp_path: Path) -> None:
    with serve_bytes(HELLO + b"content-length: 2\r\n\r\n{}", tls_folder=tmp_path) as server:
        error = fail(server.url("http"))
        assert server.num_connections == LOOK_UP + 2, "the request, and the question whether it speaks TLS"
        with pytest.raises(EndpointError, match="speaks TLS"):
            load_model(server.url("http"))
    assert error.message == f"{server.url('http')} speaks TLS"
    assert error.hint == "write https:// in place of http://"


def test_a_web_server_that_names_the_fault_itself_is_believed() -> None:
    body = b"<html><body>The plain HTTP request was sent to HTTPS port</body></html>"
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\n"
    with serve_bytes(head + b"content-length: %d\r\n\r\n" % len(body) + body) as server:
        error = fail(server.url("http"))
    assert error.message.startswith(f"{server.url('http')} speaks TLS: ")
    assert error.hint == "write https:// in place of http://"


def test_a_certificate_that_is_not_trusted_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_bytes(HELLO + b"content-length: 2\r\n\r\n{}", tls_folder=tmp_path) as server:
        error = fail(server.url("https"))
        assert server.num_connections == LOOK_UP + 1
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert "not a chat completion" in fail(server.url("https")).message, "the hint helps"
    assert "certificate that is not trusted here: self-signed certificate" in error.message
    assert "SSL_CERT_FILE" in error.hint


@pytest.mark.parametrize(
    "reply", [HELLO + b"content-length: 100\r\n\r\n{", HELLO + b"transfer-encoding: chunked\r\n\r\n5\r\n{"]
)
def test_half_a_reply_is_told_and_asked_again(reply: bytes) -> None:
    with serve_bytes(reply) as server:
        error = fail(server.url("http"))
        assert server.num_connections == LOOK_UP + ATTEMPTS
    assert error.message == f"{server.url('http')} broke its reply off"
    assert "proxy" in error.hint


def test_a_connection_without_a_reply_is_told_and_asked_again() -> None:
    with serve_bytes(b"") as server:
        error = fail(server.url("http"))
        assert server.num_connections == LOOK_UP + ATTEMPTS + 1, "once it is asked whether it speaks TLS"
    assert error.message == f"{server.url('http')} closed the connection without a reply"
    assert "log" in error.hint


def test_what_speaks_no_http_is_told_at_once() -> None:
    with serve_bytes(b"SSH-2.0-OpenSSH_9.0\r\n\r\n") as server:
        error = fail(server.url("http"))
        assert server.num_connections == LOOK_UP + 1
    assert error.message == f"{server.url('http')} does not speak HTTP"


def test_a_host_that_is_not_there_is_told() -> None:
    error = fail("http://no-such-host.invalid/v1")
    assert error.message == "there is no host 'no-such-host.invalid'"


@pytest.mark.parametrize("scheme", ["HTTP", "Http"])
def test_the_scheme_may_be_written_in_capitals(scheme: str) -> None:
    with serve(completion("fine"), models=["one"]) as server:
        model = load_model(scheme + server.url.removeprefix("http"))
        assert isinstance(model, EndpointModel)
        assert model.url == server.url


@pytest.mark.parametrize("port", ["99999", "0", "port"])
def test_a_port_that_cannot_be_one_is_refused(port: str) -> None:
    with pytest.raises(ConfigError, match="not the URL of a server"):
        load_model(f"http://127.0.0.1:{port}/v1#m")


def test_the_password_of_a_url_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    with serve(completion("<answer>A", prompt_tokens=1), models=["first", "second"]) as server:
        secret = server.url.replace("http://", "http://user:hunter2@")
        model = EndpointModel.connect(f"{secret}#first", api_key="")
        prompt = Prompt("reasoner", "", "What?", (), "test")
        assert asyncio.run(model.complete(prompt, Decoding(max_new_tokens=4, seed=1))).text == "<answer>A"
        assert server.chats[0].headers["authorization"].startswith(("Basic ", "Bearer "))
        with pytest.raises(EndpointError) as caught:
            load_model(secret)
    shown = " ".join([model.url, repr(model), str(caught.value), repr(caught.value), caplog.text])
    assert "hunter2" not in shown and "user" not in shown
    assert "http://***@127.0.0.1" in str(caught.value)
