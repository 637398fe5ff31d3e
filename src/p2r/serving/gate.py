"""The gate before every request: is it meant for this server, from a page that may ask, and with a key?

A web page that somebody visits can send requests to servers of their own machine. So a request that names another host
(a name that was made to lead here) or comes from another page is refused, whether or not there are keys.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Callable

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2r.serving.refusal import BAD_KEY, FORBIDDEN, Refused, refuse_bug
from p2r.serving.settings import Access

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\\?#@\[\]]+)(?::[0-9]{1,5})?")
_ALLOWED = "authorization, content-type"
"""Headers that a page may send which does not name any; OpenAI's client names its own, such as x-stainless-lang."""

logger = logging.getLogger(__name__)


class Gate:
    """Lets requests in, and keeps what goes wrong inside out of replies and logs.

    Args:
        paths: the known paths; others are logged and counted as one.
        open_paths: those that need no key.
        on_end: told the path, the status and the seconds of each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        paths: frozenset[str],
        open_paths: frozenset[str] = frozenset(),
        on_end: Callable[[str, int, float], None],
    ) -> None:
        self._app, self._access, self._on_end = app, access, on_end
        self._paths, self._open_paths = paths, open_paths
        self._digests = [_digest(key.encode()) for key in access.keys]
        self._origins = {origin.rstrip("/").lower() for origin in access.origins}
        self._hosts = {"localhost", *map(_split_port, access.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        id = f"req-{secrets.token_hex(8)}"
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        shared = {"x-request-id": id, "x-content-type-options": "nosniff", **self._share(headers)}

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                marks = [(name.encode(), value.encode("latin-1")) for name, value in shared.items()]
                message = {**message, "headers": [*message.get("headers", []), *marks]}
            await send(message)

        path = scope["path"] if scope["path"] in self._paths else "other"
        try:
            self._check(scope, headers)
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await Response(status_code=204)(scope, receive, send_marked)
            else:
                await self._app(scope, receive, send_marked)
        except Refused as refused:
            await JSONResponse(refused.body, refused.status, refused.headers)(scope, receive, send_marked)
        except Exception as error:  # a bug; its words and its trace may hold what nobody else may see
            refused = refuse_bug(error)
            logger.error("%s (%s)", refused.message, refused.detail)
            if status == 0:
                await JSONResponse(refused.body, refused.status)(scope, receive, send_marked)
        finally:
            seconds = time.perf_counter() - started
            self._on_end(path, status, seconds)
            logger.info("%s %s %s %.3f s %s", scope["method"], path, status or "gone", seconds, id)

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        if not self._is_host(host):
            said = f"this server is not known as {host[:100]!r}: start it with --allow-host and the name"
            raise Refused(FORBIDDEN, said, code="unknown_host")
        origin = headers.get("origin")
        if origin is not None and not self._may_ask(origin, host, scope.get("scheme", "http")):
            said = f"web pages of {origin[:100]!r} may not ask this server: start it with --allow-origin and the origin"
            raise Refused(FORBIDDEN, said, code="unknown_origin")
        if scope["method"] == "OPTIONS" and origin is not None:  # a preflight carries no key
            return
        if self._digests and scope["path"] not in self._open_paths:
            kind, _, key = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not self._is_key(key.strip()):
                said = "Incorrect API key provided: send a key of this server as Authorization: Bearer KEY"
                raise Refused(BAD_KEY, said, code="invalid_api_key")

    def _is_host(self, host: str) -> bool:
        """Tell whether a Host header names this server. An address in numbers cannot be made to lead elsewhere."""
        name = _split_port(host)
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _may_ask(self, origin: str, host: str, scheme: str) -> bool:
        origin = origin.lower()
        return origin in self._origins or origin == f"{scheme}://{host}".lower()

    def _is_key(self, key: str) -> bool:
        """Compare with every key, in a time that tells nothing of any."""
        given = _digest(key.encode("latin-1"))  # as the header's bytes were decoded
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(matches)

    def _share(self, headers: dict[str, str]) -> dict[str, str]:
        """Return the headers by which a browser shows the reply to a page of another origin that may ask."""
        origin = headers.get("origin", "")
        if origin.lower() not in self._origins:
            return {"vary": "Origin"}
        return {
            "vary": "Origin",
            "access-control-allow-origin": origin,
            "access-control-allow-headers": headers.get("access-control-request-headers", _ALLOWED),
            "access-control-allow-methods": "GET, POST",
            "access-control-expose-headers": "x-request-id, retry-after",
        }


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _split_port(host: str) -> str:
    """Return a Host header without its port, in lower case; "" where it is not one."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").lower() if found else ""
