"""A chat server for tests, on this machine: replies as told, and can be made to fail in the ways servers do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = tuple[int, str]
"""HTTP status and body."""


@contextmanager
def serve(respond: Callable[[str, int], Reply]) -> Iterator[str]:
    """Run a server; gives its base URL. `respond` gets the user's text and the number of the request, from 1."""

    class Handler(BaseHTTPRequestHandler):
        num_requests = 0
        lock = threading.Lock()

        def do_GET(self) -> None:
            if self.path == "/v1/models":
                self._send(200, json.dumps({"object": "list", "data": [{"id": "stub", "object": "model"}]}))
            else:
                self._send(404, '{"detail": "Not Found"}')

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                self._send(404, '{"detail": "Not Found"}')
                return
            with Handler.lock:
                Handler.num_requests += 1
                number = Handler.num_requests
            parts = body["messages"][-1]["content"]
            text = "".join(part["text"] for part in parts if part["type"] == "text")
            self._send(*respond(text, number))

        def _send(self, status: int, body: str) -> None:
            data = body.encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):  # the client has gone
                pass

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def chat_reply(text: str) -> Reply:
    """A well-formed reply."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return 200, json.dumps(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "stub", "choices": [choice], "usage": usage}
    )


def error_reply(status: int, message: str) -> Reply:
    """An error as OpenAI-compatible servers write it."""
    return status, json.dumps({"error": {"message": message, "type": "error", "param": None, "code": status}})
