"""Attacks through the addresses of images: on this machine, its network, and whatever redirects or names lead there."""

from __future__ import annotations

import http.server
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image

from p2r.errors import ImageError
from p2r.serving.fetch import Fetcher, is_public
from p2r.serving.settings import Access
from tests.fakes.served import ask_about_image, serve, show, user

Handler = Callable[[http.server.BaseHTTPRequestHandler], None]


def png(size: tuple[int, int] = (64, 64)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, "navy").save(data, "PNG")
    return data.getvalue()


@contextmanager
def web(respond: Handler) -> Iterator[int]:
    """A server on this machine; gives its port."""

    class One(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            respond(self)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), One)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def send(handler: http.server.BaseHTTPRequestHandler, data: bytes, kind: str = "image/png", **headers: str) -> None:
    handler.send_response(200)
    for name, value in {"content-type": kind, "content-length": str(len(data)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def move(handler: http.server.BaseHTTPRequestHandler, url: str, status: int = 302) -> None:
    handler.send_response(status)
    handler.send_header("location", url)
    handler.send_header("content-length", "0")
    handler.end_headers()


def fetcher(*hosts: str, max_bytes: int = 100_000, timeout_s: float = 10, private: bool = True) -> Fetcher:
    """Names lead to this machine, as if it were a public host where `private` is."""
    return Fetcher(hosts, max_bytes, timeout_s, lambda host, port: ["127.0.0.1"], lambda _: private)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
        ),
        *(
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
        ),
        *(
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:0:7f00:1::",
            "::127.0.0.1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ),
        *("198.18.0.1", "192.0.2.1", "240.0.0.1", "not an address"),
    ],
)
def test_addresses_of_this_machine_and_of_networks_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


def test_an_image_of_an_allowed_host_is_fetched() -> None:
    seen: list[str] = []

    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        seen.append(f"{handler.headers['host']} {handler.path}")
        send(handler, png())

    with web(respond) as port:
        data = fetcher(f"images.example:{port}").fetch(f"http://images.example:{port}/a b.png?x=1", "image 1")
    assert data == png()
    assert seen == [f"images.example:{port} /a%20b.png?x=1"]


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/a.png",
        "http://images.example.evil.example/a.png",
        "http://images.example@evil.example/a.png",
        "http://evil.example#@images.example/",
        "http://evil.example\\@images.example/",
        "http://user:word@images.example/a.png",
        "http://images.example:22/a.png",
        "http://images.example:6379/a.png",
        "http://127.0.0.1/a.png",
        "http://[::1]/a.png",
        "http://2130706433/a.png",
        "ftp://images.example/a.png",
        "gopher://images.example/",
        "http:images.example/a.png",
        "http://images.example:99999/a.png",
        "http://",
    ],
)
def test_other_hosts_ports_and_kinds_are_refused_before_anything_is_asked(url: str) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["8.8.8.8"]

    with pytest.raises(ImageError):
        Fetcher(("images.example",), 1000, 1, resolve).fetch(url, "image 1")
    assert asked == []


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:169.254.169.254"], []])
def test_an_allowed_name_that_stands_for_a_private_address_is_refused(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it was connected to"))
    with pytest.raises(ImageError, match="not a public one"):
        Fetcher(("images.example",), 1000, 1, lambda host, port: addresses).fetch("https://images.example/", "image 1")


def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """The name stands for something else the next time: it is not asked a second time."""
    answers = iter([["127.0.0.1"], ["10.255.255.1"]])
    checked: list[str] = []

    def may_connect(address: str) -> bool:
        checked.append(address)
        return True

    with web(lambda handler: send(handler, png())) as port:
        found = Fetcher((f"images.example:{port}",), 100_000, 10, lambda host, port: next(answers), may_connect)
        assert found.fetch(f"http://images.example:{port}/", "image 1") == png()
    assert checked == ["127.0.0.1"]
    assert next(answers) == ["10.255.255.1"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "leads_to",
    [
        "http://127.0.0.1:{port}/secret",
        "http://evil.example/",
        "file:///etc/passwd",
        "//evil.example/",
        "http://[::1]/",
    ],
)
def test_a_redirect_is_checked_as_the_first_address_is(status: int, leads_to: str) -> None:
    paths: list[str] = []

    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        paths.append(handler.path)
        move(handler, leads_to.format(port=handler.server.server_address[1]), status)  # type: ignore[misc]

    with web(respond) as port, pytest.raises(ImageError):
        fetcher(f"images.example:{port}").fetch(f"http://images.example:{port}/a", "image 1")
    assert paths == ["/a"]


def test_a_name_that_becomes_private_after_a_redirect_is_refused() -> None:
    addresses = iter([["127.0.0.1"], ["127.0.0.9"]])
    with web(lambda handler: move(handler, "/again")) as port, pytest.raises(ImageError, match="not a public one"):
        Fetcher(
            (f"images.example:{port}",), 1000, 5, lambda host, port: next(addresses), lambda each: each == "127.0.0.1"
        ).fetch(f"http://images.example:{port}/", "image 1")


def test_redirects_are_followed_a_few_times() -> None:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        left = int(handler.path.strip("/"))
        move(handler, f"/{left - 1}") if left else send(handler, png())

    with web(respond) as port:
        images = fetcher(f"images.example:{port}")
        assert images.fetch(f"http://images.example:{port}/3", "image 1") == png()
        with pytest.raises(ImageError, match="too often"):
            images.fetch(f"http://images.example:{port}/4", "image 1")


@pytest.mark.parametrize(
    ("respond", "says"),
    [
        (lambda handler: send(handler, b"x" * 200_000), "more than 0.1 MB"),
        (lambda handler: send(handler, b"<html>", "text/html"), "not sent as an image"),
        (lambda handler: handler.send_error(404), "replied 404"),
        (lambda handler: send(handler, png()[:50], **{"content-length": "500"}), "cut off"),
    ],
)
def test_what_is_too_large_no_image_or_cut_off_is_refused(respond: Handler, says: str) -> None:
    with web(respond) as port, pytest.raises(ImageError, match=says):
        fetcher(f"images.example:{port}").fetch(f"http://images.example:{port}/", "image 1")


@pytest.mark.parametrize("where", ["head", "body"])
def test_a_host_that_drips_is_left(where: str) -> None:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        if where == "body":
            handler.wfile.write(b"content-type: image/png\r\n\r\n")
        try:
            for _ in range(100):
                handler.wfile.write(b"x-more: 1\r\n")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    with web(respond) as port:
        started = time.monotonic()
        with pytest.raises(ImageError, match=r"within 0\.3 seconds"):
            fetcher(f"images.example:{port}", timeout_s=0.3).fetch(f"http://images.example:{port}/", "image 1")
        assert time.monotonic() - started < 3


def test_a_server_fetches_nothing_unless_told() -> None:
    asked: list[str] = []
    with web(lambda handler: asked.append(handler.path)) as port, serve() as served:
        reply = served.chat(user(show(f"http://127.0.0.1:{port}/a.png"), "What is it?"))
    assert asked == []
    assert (reply.status, reply.error["param"]) == (400, "messages")
    assert str(port) not in reply.text


def test_a_server_that_is_told_asks_about_the_image() -> None:
    with web(lambda handler: send(handler, png((320, 160)))) as port:
        name = f"images.example:{port}"
        with serve(access=Access(image_hosts=(name,)), fetcher=fetcher(name)) as served:
            body: Any = served.chat(user(show(f"http://{name}/a.png"), "What is it?")).body
            assert body["p2r"]["image_wh"] == [320, 160]
            refused = served.chat(user(show(f"http://127.0.0.1:{port}/a.png"), "What is it?"))
    assert refused.status == 400


def test_an_allowed_host_is_never_one_of_this_machine_by_default() -> None:
    asked: list[str] = []
    with web(lambda handler: asked.append(handler.path)) as port:
        access = Access(image_hosts=(f"127.0.0.1:{port}", f"localhost:{port}"))
        with serve(access=access) as served:
            for host in ("127.0.0.1", "localhost"):
                assert served.chat(user(show(f"http://{host}:{port}/"), "What is it?")).status == 400
            assert served.chat(ask_about_image()).status == 200
    assert asked == []
