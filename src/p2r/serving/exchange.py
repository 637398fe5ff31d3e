"""One request and its reply: the body within limits, and work that ends when the client has gone."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from p2r.errors import P2RError
from p2r.serving.line import RequestLine
from p2r.serving.refusal import BAD_REQUEST, GATEWAY_TIMEOUT, INTERNAL, TOO_LARGE, Refused, refuse_bug, refuse_error
from p2r.serving.reply import JsonObject, write_event
from p2r.serving.settings import Limits

JSON = "application/json"
DONE = "[DONE]"
MOST_VALUES = 150_000
"""Commas, colons, and brackets in a body; those of texts count, too."""
_STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
_NO_BUFFERS = {"x-accel-buffering": "no"}  # nginx would hold events back

logger = logging.getLogger(__name__)


class ClientGone(Exception):
    """Nobody waits for the reply."""


class Outlet(Protocol):
    """Takes a reply: a JSON object, or the events of a stream and then its end."""

    async def send_json(self, content: JsonObject) -> None: ...

    async def send_event(self, content: bytes) -> None: ...

    async def end_stream(self) -> None: ...


class Exchange:
    """A request and its reply, which is either a JSON object or a stream of events."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self._receive, self._send, self._limits = receive, send, limits
        self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._is_stream = False

    async def serve(
        self, line: RequestLine, answer: Callable[[Exchange, JsonObject], Coroutine[Any, Any, None]]
    ) -> None:
        """Read the request, take a place in the line, and answer, for as long as the client is there.

        Raises:
            Refused: the body is too large, too slow, or not a JSON object; there is no place; the answer takes too
                long; or `answer` raises it.
            ClientGone: the client has gone; the work is cancelled.
        """
        line.check_place()  # before anything is read for nothing
        with line.body() as hold:
            body = await asyncio.to_thread(parse_object, await self.read_bytes(hold))
            async with line.place():
                await self._run(answer(self, body))

    async def read_bytes(self, hold: Callable[[int], None]) -> bytes:
        """Return the request's body, whatever is in it.

        Args:
            hold: told the bytes as they come, as `RequestLine.body` yields it.

        Raises:
            Refused: it is too large, or too slow; or `hold` raises it.
            ClientGone: it does not come.
        """
        length = self._headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limits.body_bytes:
            raise self._too_large()
        try:
            return await asyncio.wait_for(self._read_all(hold), self._limits.body_timeout_s)
        except asyncio.TimeoutError:
            raise Refused(408, "the request did not arrive in time") from None

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        working, watching = asyncio.ensure_future(work), asyncio.ensure_future(self._wait_until_gone())
        try:
            await asyncio.wait({working, watching}, timeout=self._limits.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if watching.done():
                raise ClientGone
            raise Refused(
                GATEWAY_TIMEOUT, f"there was no answer within {self._limits.timeout_s:g} seconds", code="timeout"
            )
        finally:
            watching.cancel()
            if not working.done():
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    async def send_json(self, content: JsonObject, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send the whole reply."""
        data = await asyncio.to_thread(lambda: json.dumps(content).encode())
        await self._start(status, {"content-type": JSON, "content-length": str(len(data)), **(headers or {})})
        await self._send({"type": "http.response.body", "body": data})

    async def send_event(self, content: bytes) -> None:
        """Send a part of a stream, which its first part begins."""
        if not self._is_stream:
            self._is_stream = True
            await self._start(200, _STREAM_HEADERS | _NO_BUFFERS)
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def end_stream(self) -> None:
        """End a stream."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def refuse(self, refused: Refused) -> None:
        """Tell that there is no reply; where a stream has begun, as its last event."""
        if self._is_stream:
            await self.send_event(write_event(refused.body))
            await self.end_stream()
        else:
            await self.send_json(refused.body, refused.status, refused.headers)

    async def _start(self, status: int, headers: dict[str, str]) -> None:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _read_all(self, hold: Callable[[int], None]) -> bytes:
        data = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            hold(len(part))
            data += part
            if len(data) > self._limits.body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(data)

    async def _wait_until_gone(self) -> None:
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await self._receive()

    def _too_large(self) -> Refused:
        return Refused(
            TOO_LARGE, f"the request has more than {self._limits.body_bytes / 1e6:g} MB", code="request_too_large"
        )


class Exchanged(Response):
    """A response that an exchange gives.

    Args:
        answer: answers the request's JSON object, and raises Refused, or P2RError, when there is no answer.
    """

    def __init__(
        self, answer: Callable[[Exchange, JsonObject], Coroutine[Any, Any, None]], line: RequestLine, limits: Limits
    ) -> None:
        super().__init__()
        self._answer, self._line, self._limits = answer, line, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it, and tell the client of what is refused."""
        exchange = Exchange(scope, receive, send, self._limits)
        try:
            await exchange.serve(self._line, self._answer)
            return
        except ClientGone:
            return
        except Refused as error:
            refused = error
        except P2RError as error:
            refused = refuse_error(error)
        except Exception as error:
            refused = refuse_bug(error)
        if refused.status >= INTERNAL:
            logger.warning("%s (%s)", refused.message, refused.detail or refused.code)
        await exchange.refuse(refused)


def check_values(data: bytes) -> None:
    """Make sure that a body of JSON has no more values than can be read: each takes some 100 bytes. Raises Refused."""
    if sum(map(data.count, (b",", b":", b"[", b"{"))) > MOST_VALUES:
        said = f"the request has more than {MOST_VALUES:,} values"
        raise Refused(TOO_LARGE, said, code="request_too_large")


def parse_object(data: bytes) -> JsonObject:
    """Return the JSON object in a body. Raises Refused for anything else."""

    def refuse_constant(name: str) -> float:
        raise ValueError(f"{name} is not a number of JSON")

    def read_number(digits: str) -> float:
        return number if math.isfinite(number := float(digits)) else refuse_constant(digits)

    check_values(data)
    try:
        text = data.decode("utf-8-sig")  # Python would also take UTF-16, and half a character in UTF-8
        content = json.loads(text, parse_constant=refuse_constant, parse_float=read_number)
        if rb"\ud" in data.lower():  # half a character, which nothing can be sent with
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refused(BAD_REQUEST, "the body is not JSON that can be read", code="invalid_json") from None
    if not isinstance(content, dict):
        raise Refused(BAD_REQUEST, "the body is not a JSON object", code="invalid_json")
    return cast(JsonObject, content)
