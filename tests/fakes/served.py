"""A server of p2r's own in this process, behind real HTTP, and requests to it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import uvicorn
from PIL import Image

from p2r.dialogue import Model
from p2r.models.scripted import ScriptedModel
from p2r.prompts import load_prompt_set
from p2r.serving.answering import ServedModel
from p2r.serving.app import Application, make_app
from p2r.serving.connection import TimedProtocol
from p2r.serving.fetch import Fetcher
from p2r.serving.settings import Access, Limits
from p2r.serving.upstream import Upstream

BOX = '[{"bbox_2d": [100, 200, 300, 400], "label": "sail"}]'
ANSWER = "<think>It is a star.</think><answer>a star</answer>"


def scripted(perceiver: str = BOX, reasoner: str = ANSWER) -> ScriptedModel:
    return ScriptedModel({"perceiver": perceiver, "reasoner": reasoner})


@dataclass(frozen=True)
class Reply:
    status: int
    body: dict[str, object]
    headers: dict[str, str]
    text: str

    @property
    def error(self) -> dict[str, object]:
        error = self.body["error"]
        assert isinstance(error, dict)
        return error


@dataclass(frozen=True)
class Served:
    """url: of the server. application: what it runs."""

    url: str
    application: Application

    def ask(self, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data, {"content-type": "application/json", **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, text, sent = response.status, response.read().decode(), response.headers
        except urllib.error.HTTPError as error:
            status, text, sent = error.code, error.read().decode(), error.headers
        content: object = None
        with contextlib.suppress(ValueError):
            content = json.loads(text)
        found = content if isinstance(content, dict) else {}
        return Reply(status, found, {name.lower(): value for name, value in sent.items()}, text)

    def chat(self, *messages: dict[str, object], model: str = "p2r/m", **fields: object) -> Reply:
        return self.ask("/v1/chat/completions", {"model": model, "messages": list(messages), **fields})


@contextlib.contextmanager
def serve(
    model: Model | None = None,
    *,
    access: Access | None = None,
    limits: Limits | None = None,
    upstream: Upstream | None = None,
    fetcher: Fetcher | None = None,
    looker: Model | None = None,
) -> Iterator[Served]:
    """Serve a model as `m`."""
    served = ServedModel("m", model or scripted(), load_prompt_set("release"), looker)
    application = make_app(
        served, access=access or Access(), limits=limits or Limits(), upstream=upstream, fetcher=fetcher
    )
    with listen(application) as url:
        yield Served(url, application)


@contextlib.contextmanager
def listen(application: Application) -> Iterator[str]:
    """Serve an application at a free port of this machine; gives its URL."""
    server = uvicorn.Server(
        uvicorn.Config(application.app, port=0, http=TimedProtocol, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def data_url(image: Image.Image | None = None, kind: str = "PNG", **options: object) -> str:
    data = io.BytesIO()
    (image or Image.new("RGB", (640, 320), "navy")).save(data, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def show(url: str | None = None) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url or data_url()}}


def user(*parts: str | dict[str, object]) -> dict[str, object]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": "user", "content": content}


def ask_about_image(question: str = "What is on the sail?") -> dict[str, object]:
    return user(show(), question)


def read_events(text: str) -> list[dict[str, object]]:
    """The events of a stream, without its end."""
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(event) for event in events if event != "[DONE]"]
