"""A web server for tests, on this machine: paths and what they answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Page:
    """An answer. waits: send no body until the server ends."""

    body: bytes = b""
    kind: str = "image/png"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    waits: bool = False


@dataclass
class WebServer:
    """A server that runs, and the headers of the requests that it got."""

    url: str
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list[tuple[str, dict[str, str]]])


@contextmanager
def serve_pages(pages: Mapping[str, Page]) -> Iterator[WebServer]:
    """Run a server that has these pages; other paths are not found."""
    ended, found = threading.Event(), WebServer("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.requests.append((self.path, dict(self.headers)))
            page = pages.get(self.path, Page(b"gone", "text/plain", 404))
            try:
                self.send_response(page.status)
                self.send_header("Content-Type", page.kind)
                for name, value in page.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if page.waits:
                    ended.wait(60)
                self.wfile.write(page.body)
            except (BrokenPipeError, ConnectionResetError):  # the client has gone
                pass

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
