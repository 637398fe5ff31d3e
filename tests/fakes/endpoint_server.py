"""A small real HTTP server on 127.0.0.1 that answers as chat servers do or fail to; it keeps what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STREAM = (("content-type", "text/event-stream"),)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. `gate` holds it back until the event is set; `hang_up` closes the connection instead."""

    status: int = 200
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    gate: threading.Event | None = None
    hang_up: bool = False


@dataclass(frozen=True)
class Call:
    """One HTTP request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, object]


@dataclass
class ChatServer:
    """answers: to the chat calls, in turn, the last one for ever after; a function of the call may stand for one.

    roots: what the models are, by name, as vLLM says it.
    about: what the list says of each model.
    """

    answers: list[Answer | Callable[[Call], Answer]]
    models: list[str] | None = None
    roots: Mapping[str, str] = field(default_factory=dict[str, str])
    about: Mapping[str, object] = field(default_factory=dict[str, object])
    calls: list[Call] = field(default_factory=list)
    url: str = ""

    @property
    def chats(self) -> list[Call]:
        return [call for call in self.calls if call.path.endswith("/chat/completions")]

    def answer(self, call: Call) -> Answer:
        if call.path == "/v1/models" and self.models is not None:
            roots = {name: {"root": root} for name, root in self.roots.items()}
            entries = [{"id": name, "object": "model", **roots.get(name, {}), **self.about} for name in self.models]
            return Answer(body=json.dumps({"data": entries}))
        if call.path != "/v1/chat/completions":
            return Answer(404, '{"detail": "Not Found"}')
        given = self.answers[min(len(self.chats), len(self.answers)) - 1]
        return given(call) if callable(given) else given


def completion(
    text: str | None = "<answer>A</answer>",
    *,
    finish_reason: str = "stop",
    prompt_tokens: int | None = None,
    reasoning_content: str | None = None,
) -> Answer:
    """A chat completion, without usage unless `prompt_tokens` is given."""
    message = {"role": "assistant", "content": text, "reasoning_content": reasoning_content}
    body: dict[str, object] = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
    }
    if prompt_tokens is not None:
        body["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": 3, "total_tokens": prompt_tokens + 3}
    return Answer(body=json.dumps(body))


def stream(*deltas: dict[str, object], finish: str | None = "stop", end: str = "data: [DONE]\n\n") -> Answer:
    """A reply as a stream of chunks."""
    events: list[dict[str, object]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    if finish is not None:
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    events.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}})
    return Answer(body="".join(f"data: {json.dumps(event)}\n\n" for event in events) + end, headers=STREAM)


def refusal(status: int, message: str, *, code: str | None = None) -> Answer:
    return Answer(status, json.dumps({"error": {"message": message, "type": "BadRequestError", "code": code}}))


@contextlib.contextmanager
def serve(
    *answers: Answer | Callable[[Call], Answer],
    models: list[str] | None = None,
    roots: Mapping[str, str] | None = None,
    about: Mapping[str, object] | None = None,
) -> Iterator[ChatServer]:
    server = ChatServer(list(answers), [*roots] if roots else models, roots or {}, about or {})
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self._serve(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def do_GET(self) -> None:
            self._serve({})

        def _serve(self, body: dict[str, object]) -> None:
            with lock:
                call = Call(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                server.calls.append(call)
                answer = server.answer(call)
            if answer.gate is not None:
                answer.gate.wait(30)
            if answer.hang_up:
                self.close_connection = True
                return
            content = answer.body.encode()
            headers = {"content-type": "application/json", "content-length": str(len(content))} | dict(answer.headers)
            with contextlib.suppress(OSError):  # the client may have gone
                self.send_response(answer.status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
