"""An address that cannot be listened at is told with the reason and the option that mends it; how a server ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from sse_starlette.sse import AppStatus

from p2r.dialogue import Model
from p2r.errors import ConfigError
from p2r.prompts import load_prompt_set
from p2r.serving.answering import ServedModel
from p2r.serving.app import make_app
from p2r.serving.connection import TimedProtocol
from p2r.serving.run import run_server
from p2r.serving.settings import Access, check_access
from tests.fakes.served import scripted


def listen(host: str, port: int) -> ConfigError:
    model: Model = scripted()
    with pytest.raises(ConfigError) as raised:
        run_server(make_app(ServedModel("m", model, load_prompt_set("release"))), host, port)
    return raised.value


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = listen("127.0.0.1", port)
    assert error.message == f"the server cannot listen at 127.0.0.1, port {port}: address already in use"
    assert "`port`" in error.hint


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "not a name"])
def test_a_host_that_is_not_this_machine_is_told(host: str) -> None:
    error = listen(host, 0)
    assert error.message.startswith(f"the server cannot listen at {host}, port 0: ")
    assert "`host`" in error.hint


@pytest.fixture
def no_handlers() -> Iterator[None]:
    """Signals are ignored, as in a job in the background."""
    before = {sign: signal.signal(sign, signal.SIG_IGN) for sign in (signal.SIGINT, signal.SIGTERM)}
    yield
    for sign, handler in before.items():
        signal.signal(sign, handler)
    AppStatus.should_exit = False  # a server that ends is remembered for all others of the process


def run_until(sign: signal.Signals, ask: Callable[[str], None] = lambda url: None) -> None:
    """Run a server, let somebody ask it, and then send it the signal."""
    model: Model = scripted()
    application = make_app(ServedModel("m", model, load_prompt_set("release")))

    def send(url: str) -> None:
        while signal.getsignal(sign) in (signal.SIG_IGN, None):  # until its handlers are there
            threading.Event().wait(0.01)
        try:
            ask(url)
        finally:
            signal.raise_signal(sign)

    def start(url: str) -> None:
        threading.Thread(target=send, args=(url,), daemon=True).start()

    run_server(application, "127.0.0.1", 0, on_start=start)


@pytest.mark.usefixtures("no_handlers")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_as_it_ends_other_commands_also_in_the_background(sign: signal.Signals) -> None:
    ends: list[str] = []
    try:
        run_until(sign)
        ends.append("returned")
    except KeyboardInterrupt:
        ends.append("Ctrl-C")
    assert ends == ["Ctrl-C" if sign == signal.SIGINT else "returned"]


@pytest.mark.usefixtures("no_handlers")
def test_the_kernel_holds_no_part_of_a_reply_back(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[int] = []

    class Seen(TimedProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            options.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def ask(url: str) -> None:
        urllib.request.urlopen(f"{url}/healthz", timeout=20).close()

    monkeypatch.setattr("p2r.serving.run.TimedProtocol", Seen)
    run_until(signal.SIGTERM, ask)
    assert options == [1]


@pytest.mark.parametrize(
    ("access", "name"),
    [
        *((Access(hosts=(host,)), "allow_host") for host in ("https://example.org", "example.org/x", "*", "", "a b")),
        *((Access(image_hosts=(host,)), "allow_image_host") for host in ("https://example.org", "*.example.org")),
        *((Access(origins=(origin,)), "allow_origin") for origin in ("example.org", "*", "https://a.org/page", "")),
    ],
)
def test_what_no_request_could_name_is_refused_at_the_start(access: Access, name: str) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` is "):
        check_access(access)


def test_names_and_origins_that_requests_have_are_taken() -> None:
    hosts = ("example.org", "my-machine", "example.org:8080", "10.0.0.1", "[::1]:8400")
    origins = ("https://example.org", "http://localhost:3000/", "chrome-extension://abc", "http://[::1]:3000")
    check_access(Access(hosts=hosts, image_hosts=hosts, origins=origins))
