"""The server's application: its paths, and what belongs to all of them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from p2r.serving.answering import ServedModel
from p2r.serving.chat_route import ChatRoute
from p2r.serving.evidence_page import EvidenceRequest, EvidenceRoute
from p2r.serving.exchange import Exchanged
from p2r.serving.fetch import Fetcher
from p2r.serving.gate import Gate
from p2r.serving.images import ImageReader
from p2r.serving.line import RequestLine
from p2r.serving.metrics import Metrics
from p2r.serving.openapi import RESPONSE_REQUEST, complete_openapi, describe_body
from p2r.serving.page import PAGE_PATHS, add_page
from p2r.serving.refusal import NOT_FOUND, UNAVAILABLE, Refused, refuse_bug
from p2r.serving.reply import write_models
from p2r.serving.request import ChatRequest
from p2r.serving.responses import ResponsesRoute
from p2r.serving.settings import DEFAULT_ACCESS, DEFAULT_LIMITS, Access, Limits
from p2r.serving.upstream import Upstream
from p2r.version import __version__

CHAT, RESPONSES, MODELS, EVIDENCE = "/v1/chat/completions", "/v1/responses", "/v1/models", "/v1/evidence"
OPEN_PATHS = frozenset({"/healthz", "/readyz"}) | PAGE_PATHS
"""Paths that tell whether the server lives, and those of its page, which need no key."""


@dataclass(frozen=True, slots=True)
class Application:
    """An ASGI application, and its line, which ends it."""

    app: ASGIApp
    line: RequestLine


def make_app(
    served: ServedModel,
    *,
    access: Access = DEFAULT_ACCESS,
    limits: Limits = DEFAULT_LIMITS,
    upstream: Upstream | None = None,
    fetcher: Fetcher | None = None,
) -> Application:
    """Make the application that serves a model.

    Args:
        upstream: the model's server, which is handed all requests but walks; None for a model in this process.
        fetcher: fetches images; by default from the hosts that `access` allows.
    """
    line = RequestLine(limits)
    metrics = Metrics(line)
    fetcher = fetcher or Fetcher(access.image_hosts, limits.image_bytes, limits.fetch_timeout_s)
    reader = ImageReader(access, limits, fetcher)
    route = ChatRoute(served, reader, line, limits, metrics, upstream)
    evidence = EvidenceRoute(reader, line, served.model.profile.budget)
    created = int(time.time())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        yield
        if upstream is not None:
            await upstream.close()

    app = FastAPI(title="Perceive-to-Reason", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.router.redirect_slashes = False  # a redirect would be built from what the client says of itself
    complete_openapi(app, served.names)

    async def explain(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            bug = refuse_bug(error)
            return JSONResponse(bug.body, bug.status)
        refused = Refused(error.status_code, _explain(error, request))
        return JSONResponse(refused.body, error.status_code, dict(error.headers or {}))

    app.add_exception_handler(HTTPException, explain)
    app.add_exception_handler(Exception, explain)

    @app.post(CHAT, openapi_extra=describe_body(ChatRequest.__name__))
    async def complete_chat(_: Request) -> Response:
        """Answer a chat: by a walk where it has an image and the model's name asks for one."""
        return Exchanged(route.answer, line, limits)

    @app.post(RESPONSES, openapi_extra=describe_body(RESPONSE_REQUEST))
    async def respond(_: Request) -> Response:
        """Answer a plain request of text and images, as a chat is answered. Nothing is stored."""
        return Exchanged(ResponsesRoute(route).answer, line, limits)

    @app.post(EVIDENCE, openapi_extra=describe_body(EvidenceRequest.__name__))
    async def write_evidence(_: Request) -> Response:
        """Write the evidence of an answer as an HTML page, from its image and its trace."""
        return Exchanged(evidence.answer, line, limits)

    @app.get(MODELS)
    async def list_models() -> Response:
        """List the model itself, its walk, and its modes."""
        return JSONResponse(write_models(served.names, created))

    @app.get(MODELS + "/{name:path}")
    async def find_model(name: str) -> Response:
        """Describe one of the models."""
        try:
            served.find_mode(name)
        except Refused as refused:
            return JSONResponse(refused.body, refused.status)
        return JSONResponse({"id": name, "object": "model", "created": created, "owned_by": "p2r"})

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def tell_health() -> Response:
        """Tell that the server lives."""
        return JSONResponse({"status": "ok"})

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz")
    async def tell_readiness() -> Response:
        """Tell whether the server admits requests."""
        if line.is_closed:
            return JSONResponse({"status": "ending"}, UNAVAILABLE)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics")
    async def show_metrics() -> Response:
        """Show the counters, for Prometheus."""
        return Response(metrics.write(), media_type=CONTENT_TYPE_LATEST)

    add_page(app, served.model)
    paths = OPEN_PATHS | {CHAT, RESPONSES, MODELS, EVIDENCE, "/metrics", "/openapi.json"}
    gate = Gate(app, access=access, paths=paths, open_paths=OPEN_PATHS, on_end=metrics.count_request)
    return Application(gate, line)


def _explain(error: HTTPException, request: Request) -> str:
    """Say what is wrong with a request that no path takes, and which one does."""
    asked = f"{request.method[:10]} {request.url.path[:100]}"
    if error.status_code == NOT_FOUND:
        return f"{asked} does not exist here: a client's base URL ends with /v1, and POST {CHAT} answers chats"
    if allowed := (error.headers or {}).get("Allow"):
        return f"{asked} does not exist here: use {allowed}"
    return str(error.detail)
