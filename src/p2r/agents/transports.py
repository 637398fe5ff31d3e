"""The two ways to the tools: on stdin and stdout, and over HTTP.

Over HTTP nothing is kept between requests, so there is no session to take over. The gate is that of `p2r serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2r.loop import take
from p2r.serving.exchange import ClientGone, Exchange, check_values
from p2r.serving.gate import Gate
from p2r.serving.line import RequestLine
from p2r.serving.settings import Access, Limits

PATH = "/mcp"


def serve_stdio(server: Server[None]) -> None:
    """Serve on stdin and stdout until stdin ends. Whatever else writes to stdout meanwhile goes to stderr.

    The server has a thread of its own, which is left alone on Ctrl-C: it may wait for stdin without an end.
    """
    ended = SimpleQueue[BaseException | None]()

    async def serve() -> None:
        async with stdio_server() as (messages, replies):
            await server.run(messages, replies, server.create_initialization_options())
        with contextlib.suppress(OSError):
            os.dup2(2, 1)  # what a library has printed may be written only at the end

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=run, name="p2r-mcp", daemon=True).start()
    error = take(ended)
    if error is not None:
        raise error


def make_http_app(
    server: Server[None],
    line: RequestLine,
    access: Access,
    limits: Limits,
    on_end: Callable[[str, int, float], None] = lambda path, status, seconds: None,
) -> ASGIApp:
    """Make the application that serves at `PATH`, behind the gate.

    Args:
        on_end: told the path, the status and the seconds of each request.
    """
    manager = StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=limits.body_bytes)
    route = Route(PATH, StreamableHTTPASGIApp(manager), methods=["POST"])
    app = Starlette(routes=[route], lifespan=lambda _: manager.run())

    async def with_body(scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, within limits, before anything else is done about a request."""
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        with line.body() as hold:
            try:
                body = await Exchange(scope, receive, send, limits).read_bytes(hold)
                check_values(body)
            except ClientGone:
                return
            left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

            async def replay() -> Message:
                return left.pop() if left else await receive()

            await app(scope, replay, send)

    return Gate(with_body, access=access, paths=frozenset({PATH}), on_end=on_end)
