"""Attacks from outside: other web pages, made-up host names, missing keys, and what replies and logs give away."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterator

import pytest

from p2r.dialogue import Decoding, Prompt
from p2r.errors import EndpointError, ModelError
from p2r.models.scripted import ScriptedModel
from p2r.serving import gate
from p2r.serving.settings import Access, Limits
from p2r.types import Completion
from tests.fakes.served import Served, ask_about_image, serve

KEY = "sk-a-long-secret-word"
SECRET = "/home/somebody/secret/model.safetensors"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    access = Access(keys=("sk-other", KEY), hosts=("My-machine.example:8400",), origins=("https://app.example",))
    with serve(access=access) as served:
        yield served


def with_key(key: str = KEY, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **{name.replace("_", "-"): value for name, value in headers.items()}}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        with_key(""),
        with_key(KEY[:-1]),
        with_key(f"{KEY}x"),
        with_key(KEY.upper()),
        with_key(f"sk-other,{KEY}"),
        with_key("\xff"),
    ],
)
def test_nothing_is_told_without_a_key(headers: dict[str, str], served: Served) -> None:
    for path in ("/v1/models", "/metrics", "/openapi.json", "/nowhere"):
        assert served.ask(path, headers=headers).status == 401
    reply = served.ask("/v1/chat/completions", {}, headers)
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert KEY not in reply.text


def test_each_key_opens(served: Served) -> None:
    assert [served.ask("/v1/models", headers=with_key(key)).status for key in (KEY, "sk-other")] == [200, 200]
    assert served.ask("/v1/models", headers={"Authorization": f"bearer  {KEY} "}).status == 200


def test_a_key_may_have_any_letters() -> None:
    import http.client

    with serve(access=Access(keys=("schl\u00fcssel-\u4e2d",))) as served:
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
        connection.putrequest("GET", "/v1/models")
        connection.putheader("Authorization", b"Bearer " + "schl\u00fcssel-\u4e2d".encode())
        connection.endheaders()
        assert connection.getresponse().status == 200
        assert served.ask("/v1/models", headers=with_key("schl\xfcssel-x")).status == 401


def test_health_can_be_asked_for_without_a_body(served: Served) -> None:
    import http.client

    for path, status in (("/healthz", 200), ("/readyz", 200), ("/v1/models", 401)):
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
        connection.request("HEAD", path)
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (status, b"")


def test_health_needs_no_key(served: Served) -> None:
    assert [served.ask(path).status for path in ("/healthz", "/readyz")] == [200, 200]


def test_keys_are_compared_in_constant_time_and_all_of_them(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return right(one, other)

    right = hmac.compare_digest
    monkeypatch.setattr(gate.hmac, "compare_digest", compare)
    served.ask("/v1/models", headers=with_key("sk-other"))
    assert len(compared) == 2
    assert {len(part) for pair in compared for part in pair} == {32}


FORGED = ("evil.example@localhost", "localhost/evil.example", "localhost:1:2", "localhost:x", "[localhost]", "::1]")


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", "[", "127.1", *FORGED]
)
def test_a_name_that_was_made_to_lead_here_is_refused(host: str, served: Served) -> None:
    for path in ("/v1/models", "/healthz"):
        reply = served.ask(path, headers=with_key(Host=host))
        assert (reply.status, reply.error["code"]) == (403, "unknown_host")
        assert repr(host) in str(reply.error["message"]) and "--allow-host" in reply.text


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8400", "127.0.0.1", "[::1]:8400", "192.168.1.5", "My-Machine.example:1"]
)
def test_its_own_names_are_known(host: str, served: Served) -> None:
    assert served.ask("/v1/models", headers=with_key(Host=host)).status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:1",
        "https://app.example.evil.example",
        "http://app.example",
        "",
    ],
)
def test_other_web_pages_may_not_ask(origin: str, served: Served) -> None:
    reply = served.ask("/v1/chat/completions", {}, with_key(Origin=origin, Content_Type="text/plain"))
    assert (reply.status, reply.error["code"]) == (403, "unknown_origin")
    assert repr(origin) in str(reply.error["message"]) and "--allow-origin" in reply.text
    assert "access-control-allow-origin" not in reply.headers


def test_a_page_of_its_own_and_one_that_is_allowed_may_ask(served: Served) -> None:
    own = served.ask("/v1/models", headers=with_key(Origin=served.url))
    assert (own.status, own.headers.get("access-control-allow-origin")) == (200, None)
    other = served.ask("/v1/models", headers=with_key(Origin="https://app.example"))
    assert (other.status, other.headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert other.headers["vary"] == "Origin"


def test_a_browser_is_told_beforehand_whether_its_page_may_ask(served: Served) -> None:
    import http.client

    def ask_before(origin: str, **named: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST", **named}
        connection.request("OPTIONS", "/v1/chat/completions", headers=headers)
        return connection.getresponse()

    allowed = ask_before("https://app.example")
    assert (allowed.status, allowed.headers["access-control-allow-headers"]) == (204, "authorization, content-type")
    names = "authorization,content-type,x-stainless-lang"  # as OpenAI's client for browsers sends
    named = ask_before("https://app.example", **{"Access-Control-Request-Headers": names})
    assert (named.status, named.headers["access-control-allow-headers"]) == (204, names)
    assert ask_before("https://evil.example").status == 403


class Failing(ScriptedModel):
    """A model that fails in the way it is told."""

    def __init__(self, error: Exception) -> None:
        super().__init__({"perceiver": "[]"})
        self.error = error

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ModelError(f"the weights in {SECRET} cannot be loaded", hint=f"look at {SECRET}"), 500, "model_failed"),
        (EndpointError(f"http://10.0.0.7:8000/v1 failed: {SECRET}", hint=f"read {SECRET}"), 502, "upstream_malformed"),
        (RuntimeError(f"a bug at {SECRET} with {KEY}"), 500, "internal_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_neither_replies_nor_logs_tell_of_paths_keys_or_traces(
    error: Exception, status: int, code: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(Failing(error), access=Access(keys=(KEY,))) as served:
        body = {"model": "p2r/m", "messages": [ask_about_image("a private question")], "stream": stream}
        reply = served.ask("/v1/chat/completions", body, with_key())
    assert (reply.status, reply.error["code"]) == (status, code)
    logged = "\n".join(f"{record.getMessage()} {record.exc_text or ''}" for record in caplog.records)
    for text in (reply.text, logged):
        for secret in (SECRET, "/home", KEY, "10.0.0.7", "Traceback", 'File "', "private question"):
            assert secret not in text, text
    assert type(error).__name__ in logged


def test_a_page_that_does_not_exist_is_not_logged_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="p2r.serving")
    with serve() as served:
        served.ask("/v1/some-secret?key=sk-1")
        counters = served.ask("/metrics").text
    assert any("GET other 404" in record.getMessage() for record in caplog.records)
    assert "some-secret" not in counters + caplog.text


def test_nothing_is_stored(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    work, temporary = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("temporary")
    monkeypatch.chdir(work)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with serve() as served:
        assert served.chat(ask_about_image(), p2r={"images": True}).status == 200
    assert not [*work.iterdir(), *temporary.iterdir()]


def test_a_large_body_is_refused_before_it_is_read() -> None:
    import socket

    with serve(limits=Limits(body_bytes=1000, body_timeout_s=0.3)) as served:
        said = served.ask("/v1/chat/completions", b"x" * 1001)
        assert (said.status, said.error["code"]) == (413, "request_too_large")
        host, port = served.url.removeprefix("http://").split(":")

        def send(text: str) -> str:
            with socket.create_connection((host, int(port)), 20) as raw:
                raw.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{text}".encode())
                return raw.recv(65536).decode()

        assert " 413 " in send("Content-Length: 999999999\r\n\r\n")
        chunk = f"400\r\n{'x' * 1024}\r\n"
        assert " 413 " in send(f"Transfer-Encoding: chunked\r\n\r\n{chunk}")
        assert " 408 " in send("Content-Length: 20\r\n\r\n{")


def test_nobody_is_led_elsewhere(served: Served) -> None:
    for path in ("/v1/chat/completions/", "/healthz/", "//v1/models"):
        reply = served.ask(path, headers=with_key())
        assert (reply.status, reply.headers.get("location")) == (404, None)
        assert "a client's base URL ends with /v1" in str(reply.error["message"])
