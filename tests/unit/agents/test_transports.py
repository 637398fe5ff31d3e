"""The tools over HTTP: the official client, and who may not come in."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from p2r.agents.transports import PATH
from p2r.serving.exchange import MOST_VALUES
from p2r.serving.settings import Access, Limits
from tests.fakes.agents import Kit, SlowModel, make_kit, read_fields, read_words
from tests.fakes.served import Served, data_url

KEY = "sk-a-long-secret-word"
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ACCEPT = {"Accept": "application/json, text/event-stream"}
QUESTION = "What is on the sail?"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    access = Access(keys=(KEY,), hosts=("my-machine.example",), origins=("https://app.example",))
    with make_kit(access=access, limits=Limits(body_bytes=100_000, body_timeout_s=0.5)).listen() as served:
        yield served


def with_key(**headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}", **ACCEPT, **headers}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_gets_in_with_a_key(mode: str, served: Served) -> None:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as with_headers,
        Client(streamable_http_client(served.url + PATH, http_client=with_headers), mode=mode) as client,
    ):
        assert [tool.name for tool in (await client.list_tools()).tools] == ["look", "ask", "crop"]
        result = await client.call_tool("ask", {"image": data_url(), "question": QUESTION})
        assert read_fields(result)["answer"] == "a star"
        refused = await client.call_tool("crop", {"image": "a.png", "box": [0, 0, 9, 9]})
        assert read_words(refused) == "image is 'a.png': it must be a data: URL"


@pytest.mark.parametrize(
    ("status", "code", "headers"),
    [
        (401, "invalid_api_key", ACCEPT),
        (401, "invalid_api_key", ACCEPT | {"Authorization": "Bearer sk-wrong"}),
        (403, "unknown_host", with_key(Host="evil.example")),
        (403, "unknown_host", with_key(Host="evil@localhost")),
        (403, "unknown_origin", with_key(Origin="https://evil.example")),
        (403, "unknown_origin", with_key(Origin="null")),
        (413, "request_too_large", with_key() | {"Content-Length": "100001"}),
    ],
)
def test_others_are_sent_away(status: int, code: str, headers: dict[str, str], served: Served) -> None:
    reply = served.ask(PATH, LIST, headers)
    assert (reply.status, reply.error["code"]) == (status, code)


def test_those_who_may_ask_are_answered(served: Served) -> None:
    for more in ({}, {"Host": "my-machine.example"}, {"Origin": "https://app.example"}, {"Origin": served.url}):
        reply = served.ask(PATH, LIST, with_key(**more))
        assert (reply.status, '"crop"' in reply.text) == (200, True)


def test_small_values_cannot_fill_the_memory() -> None:
    with make_kit().listen() as served:
        reply = served.ask(PATH, LIST | {"params": [[]] * MOST_VALUES}, ACCEPT)
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b'{"jsonrpc": "2.0"}', b'{"jsonrpc": "2.0", "id": 1, "method": "x"}', b"\xff"]
    + [json.dumps(LIST | {"params": params}).encode() for params in (1, [], {"cursor": {}}, {"_meta": 5})]
    + [json.dumps(LIST | {"method": "tools/call", "params": {"name": "ask", "arguments": 5}}).encode()]
    + [b"[" * 90_000],
)
def test_what_is_no_request_is_refused_as_such(body: bytes, served: Served) -> None:
    reply = served.ask(PATH, body, with_key())
    assert reply.status in (200, 202, 400, 404)
    assert "Traceback" not in reply.text
    assert "site-packages" not in reply.text


def test_a_body_that_does_not_come_is_not_waited_for(served: Served) -> None:
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 99\r\n\r\n{{"
        connection.sendall(head.encode())
        assert b" 408 " in connection.recv(4096).splitlines()[0]


def test_bodies_have_no_more_memory_together_than_a_line_of_them() -> None:
    with make_kit(limits=Limits(num_at_once=1, num_waiting=0, body_bytes=1000)).listen() as served:
        line = served.application.line
        host, _, port = served.url.removeprefix("http://").partition(":")
        address = host, int(port)
        with socket.create_connection(address, 30) as first, socket.create_connection(address, 30) as second:
            for connection in (first, second):
                connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n".encode())
                connection.sendall(b"x" * 600)
                if connection is first:
                    while line.num_bytes != 600:
                        time.sleep(0.01)
            assert b" 429 " in second.recv(4096).splitlines()[0]
        assert '"crop"' in served.ask(PATH, LIST, ACCEPT).text


def test_nothing_is_there_but_the_tools(served: Served) -> None:
    assert served.ask("/", headers=with_key()).status == 404
    assert served.ask("/v1/models", headers=with_key()).status == 404
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=30)
    connection.request("GET", PATH, headers=with_key())
    assert connection.getresponse().status == 405  # no stream is held open
    connection.close()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_that_hangs_up_ends_its_work(mode: str) -> None:
    model = SlowModel()
    kit = make_kit(model)
    with kit.listen() as served:
        asking = asyncio.ensure_future(_look(served, mode))
        await _wait_until(model.asked.is_set)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await _wait_until(model.left.is_set)
        await _wait_until(lambda: kit.line.num_inside == 0)


async def test_a_server_that_ends_says_so() -> None:
    kit: Kit = make_kit()
    with kit.listen() as served:
        kit.line.close()
        result = await _look(served, "auto")
    assert (result.is_error, read_words(result)) == (True, "the server is ending: try again in 5 seconds")


async def _look(served: Served, mode: str) -> Any:  # noqa: ANN401
    async with Client(served.url + PATH, mode=mode) as client:
        return await client.call_tool("look", {"image": data_url(), "question": QUESTION})


async def _wait_until(is_so: Any) -> None:  # noqa: ANN401
    async def wait() -> None:
        while not is_so():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), 60)


PRINTING = """
import ctypes, os, subprocess
from p2r.agents.server import make_server
from p2r.agents.transports import serve_stdio
from tests.fakes.agents import make_kit

kit = make_kit()
load = kit.tools.load

def load_noisily():
    print("from Python")
    os.write(1, b"from the system")
    subprocess.run(["echo", "from another process"])
    ctypes.CDLL(None).puts(b"from C")
    return load()

kit.tools.load = load_noisily
serve_stdio(make_server(kit.tools, kit.line, kit.limits))
"""


def test_what_libraries_print_never_reaches_the_agent() -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    look = {"_meta": meta, "name": "look", "arguments": {"image": data_url(), "question": QUESTION}}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", PRINTING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(json.dumps(LIST | {"method": "tools/call", "params": look}) + "\n")
        process.stdin.flush()
        words = json.loads(process.stdout.readline())["result"]["content"][0]["text"]
        assert json.loads(words)["state"] == "found"
        process.stdin.close()
        assert process.stdout.read() == ""
        said = process.stderr.read()
        assert process.wait(60) == 0
    assert all(f"from {each}" in said for each in ("Python", "the system", "another process", "C"))
