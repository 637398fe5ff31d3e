"""The tools for agents in this process, with an official client in memory or over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mcp import Client
from mcp.types import CallToolResult, ImageContent, TextContent
from PIL import Image

from p2r.agents.server import make_server
from p2r.agents.tools import AgentTools
from p2r.agents.transports import make_http_app
from p2r.dialogue import Decoding, Model, Prompt
from p2r.models.scripted import ScriptedModel
from p2r.prompts import load_prompt_set
from p2r.serving.answering import ServedModel
from p2r.serving.app import Application
from p2r.serving.fetch import Fetcher
from p2r.serving.images import ImageReader
from p2r.serving.line import RequestLine
from p2r.serving.settings import Access, Limits
from p2r.types import Completion
from tests.fakes.served import Served, listen, scripted


class Kit(NamedTuple):
    """What is behind a server of tools."""

    tools: AgentTools
    line: RequestLine
    access: Access
    limits: Limits

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncGenerator[Client, None]:
        """An official client, in memory."""
        async with Client(make_server(self.tools, self.line, self.limits)) as client:
            yield client

    @contextlib.contextmanager
    def listen(self) -> Iterator[Served]:
        """The server over HTTP."""
        app = make_http_app(make_server(self.tools, self.line, self.limits), self.line, self.access, self.limits)
        application = Application(app, self.line)
        with listen(application) as url:
            yield Served(url, application)


def make_kit(
    model: Model | None = None,
    *,
    folder: Path | None = None,
    access: Access | None = None,
    limits: Limits | None = None,
    looker: Model | None = None,
    shown_pixels: int = 1_000_000,
    load: Callable[[], ServedModel] | None = None,
    fetcher: Fetcher | None = None,
) -> Kit:
    """Make the tools of a model that is served as `m`, which read images below a folder."""
    access, limits = access or Access(image_folders=(folder,) if folder else ()), limits or Limits()
    served = ServedModel("m", model or scripted(), load_prompt_set("release"), looker)
    fetcher = fetcher or Fetcher(access.image_hosts, limits.image_bytes, limits.fetch_timeout_s)
    tools = AgentTools(load or (lambda: served), ImageReader(access, limits, fetcher), shown_pixels)
    return Kit(tools, RequestLine(limits), access, limits)


def read_words(result: CallToolResult) -> str:
    """The text of a result."""
    first = result.content[0]
    assert isinstance(first, TextContent)
    return first.text


def read_fields(result: CallToolResult) -> dict[str, Any]:
    """What a tool found."""
    assert not result.is_error, result.content
    return json.loads(read_words(result))


def read_images(result: CallToolResult) -> list[Image.Image]:
    """The images of a result."""
    parts = [part for part in result.content if isinstance(part, ImageContent)]
    return [Image.open(io.BytesIO(base64.b64decode(part.data))) for part in parts]


class SlowModel(ScriptedModel):
    """Never replies, and tells when it is asked and when it is left."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked, self.left = asyncio.Event(), asyncio.Event()

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        raise AssertionError
