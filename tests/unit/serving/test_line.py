"""The line of requests: who is answered, who waits, who is sent away, and who has gone."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from p2r.dialogue import Decoding, Prompt
from p2r.models.scripted import ScriptedModel
from p2r.serving.line import RequestLine
from p2r.serving.refusal import Refused
from p2r.serving.settings import Limits
from p2r.types import Completion
from tests.fakes.served import Served, ask_about_image, serve, user


class Held(ScriptedModel):
    """A model that answers when it is let, and counts who has left."""

    def __init__(self) -> None:
        super().__init__({"perceiver": "[]", "reasoner": "<answer>a</answer>"})
        self.let = threading.Event()
        self.num_asked = self.num_left = 0

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        self.num_asked += 1
        try:
            while not self.let.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.num_left += 1
            raise
        return await super().complete(prompt, decoding)


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_requests_beyond_the_queue_are_told_to_come_back() -> None:
    model = Held()
    with serve(model, limits=Limits(num_at_once=2, num_waiting=1)) as served, ThreadPoolExecutor(8) as pool:
        line = served.application.line
        first = [pool.submit(served.chat, user("hi"), model="m") for _ in range(3)]
        wait_for(lambda: (line.num_inside, line.num_running, model.num_asked) == (3, 2, 2))
        refused = served.chat(user("hi"), model="m")
        assert (refused.status, refused.error["type"], refused.error["code"]) == (429, "rate_limit_error", "queue_full")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        counters = served.ask("/metrics").text
        assert "p2r_requests_running 2.0" in counters and "p2r_requests_waiting 1.0" in counters
        model.let.set()
        assert [reply.result(20).status for reply in first] == [200, 200, 200]
        wait_for(lambda: (line.num_inside, line.num_running) == (0, 0))


@contextmanager
def send_slowly(served: Served, *parts: bytes) -> Iterator[socket.socket]:
    """Begin a chat, and keep its connection open."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n")
        for part in parts:
            connection.sendall(part)
        yield connection


def test_a_request_that_comes_slowly_has_no_place_in_the_line() -> None:
    with serve(limits=Limits(num_at_once=1, num_waiting=0, body_bytes=1000)) as served:
        line = served.application.line
        with send_slowly(served, b"{"), send_slowly(served, b"{"):
            wait_for(lambda: line.num_bytes == 2)
            assert line.num_inside == 0
            assert served.chat(user("hi"), model="m").status == 200
        wait_for(lambda: line.num_bytes == 0)


def test_requests_that_are_on_their_way_are_not_too_large_together() -> None:
    with serve(limits=Limits(num_at_once=1, num_waiting=1, body_bytes=1000)) as served:
        line = served.application.line
        with send_slowly(served, b"x" * 890), send_slowly(served, b"x" * 890):
            wait_for(lambda: line.num_bytes == 1780)
            with send_slowly(served, b"x" * 400) as third:
                assert b" 429 " in third.recv(4096).splitlines()[0]
            assert served.chat(user("hi"), model="m").status == 200
        wait_for(lambda: line.num_bytes == 0)


def test_a_request_is_not_read_when_the_line_is_full() -> None:
    model = Held()
    with serve(model, limits=Limits(num_at_once=1, num_waiting=0)) as served, ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.chat, user("hi"), model="m")
        wait_for(lambda: model.num_asked == 1)
        with send_slowly(served) as refused:
            assert b" 429 " in refused.recv(4096).splitlines()[0]
        model.let.set()
        assert first.result(20).status == 200


def hang_up(served: Served, body: object, model: Held, num_asked: int) -> None:
    """Ask, and leave when the model has been asked."""
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    wait_for(lambda: model.num_asked == num_asked)
    assert connection.sock is not None
    connection.sock.close()
    connection.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["m", "p2r/m"])
def test_work_for_a_client_that_has_gone_is_cancelled(name: str, stream: bool) -> None:
    model = Held()
    with serve(model) as served:
        hang_up(served, {"model": name, "messages": [ask_about_image()], "stream": stream}, model, 1)
        wait_for(lambda: model.num_left == 1)
        wait_for(lambda: served.application.line.num_inside == 0)
        model.let.set()
        assert served.chat(ask_about_image()).status == 200


def test_a_client_that_leaves_the_queue_is_never_asked_for() -> None:
    model = Held()
    with serve(model, limits=Limits(num_at_once=1)) as served, ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.chat, user("hi"), model="m")
        wait_for(lambda: model.num_asked == 1)
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
        body = json.dumps({"model": "m", "messages": [user("hi")]})
        connection.request("POST", "/v1/chat/completions", body)
        wait_for(lambda: served.application.line.num_inside == 2)
        connection.close()
        wait_for(lambda: served.application.line.num_inside == 1)
        model.let.set()
        assert first.result(20).status == 200
        assert model.num_asked == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_is_given_up(stream: bool) -> None:
    model = Held()
    with serve(model, limits=Limits(timeout_s=0.2)) as served:
        reply = served.chat(ask_about_image(), stream=stream)
        assert (reply.status, reply.error["code"]) == (504, "timeout")
        wait_for(lambda: model.num_left == 1)


async def test_who_waits_is_sent_away_when_the_line_is_closed_and_who_is_answered_stays() -> None:
    line, let = RequestLine(Limits(num_at_once=1, num_waiting=5)), asyncio.Event()

    async def visit() -> str:
        try:
            async with line.place(), line.turn():
                await let.wait()
                return "answered"
        except Refused as refused:
            return f"{refused.status}"

    visits = [asyncio.create_task(visit()) for _ in range(3)]
    await asyncio.sleep(0.01)
    line.close()
    await asyncio.sleep(0.01)
    let.set()
    assert await asyncio.gather(*visits, visit()) == ["answered", "503", "503", "503"]
    assert (line.num_inside, line.num_running) == (0, 0)


async def test_a_slot_is_not_lost_when_a_visitor_leaves_as_it_is_called() -> None:
    line = RequestLine(Limits(num_at_once=1, num_waiting=5))
    for _ in range(20):
        holder = line.turn()
        await holder.__aenter__()
        waiting = asyncio.create_task(line.turn().__aenter__())
        await asyncio.sleep(0)
        await holder.__aexit__(None, None, None)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    line.num_running = 0
    async with line.turn():
        assert line.num_running == 1


def test_a_server_that_is_ending_refuses_and_says_so() -> None:
    with serve() as served:
        served.application.line.close()
        reply = served.chat(ask_about_image())
        assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "shutting_down", "5")
        assert (served.ask("/readyz").status, served.ask("/healthz").status) == (503, 200)
