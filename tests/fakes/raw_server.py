"""A server on 127.0.0.1 that answers each connection with given bytes, over TLS if asked to: for faults below HTTP."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUTjRKeBV1Tj7wo4ulzcvMM2JS/c4wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODE1MDYxNFoYDzIxMjYxMTA0
MTUwNjE0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQRmML6G1tN4vBhUNWo4PHD5Kp2tiWrmI4r86vsBljst7Yk6/EozZeB
m+dSXEGTrwbUl8P5wOnjEATyChwLO/A8o28wbTAdBgNVHQ4EFgQUEmu5TOqi7hTi
wexEDbZh7EoL5rcwHwYDVR0jBBgwFoAUEmu5TOqi7hTiwexEDbZh7EoL5rcwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhALINIlNj9vlrQ2BP7oUF0ZE+bEJP6p85+lY/+sf7VJcVAiEA
k0xFbcMs68Hoi9X9GZuCdCSTa2Uy2P2yvxyL3bllVOo=
-----END CERTIFICATE-----
"""
"""For localhost and 127.0.0.1, signed by itself, until the year 2126."""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg8DTaaLMlFpxyWtUP
jyOp4N25uuRx5xTrA975tdoAmGahRANCAAQRmML6G1tN4vBhUNWo4PHD5Kp2tiWr
mI4r86vsBljst7Yk6/EozZeBm+dSXEGTrwbUl8P5wOnjEATyChwLO/A8
-----END PRIVATE KEY-----
"""


@dataclass
class RawServer:
    """scheme and port of its URL, and the number of connections so far."""

    port: int
    num_connections: int = 0

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.port}/v1"


@contextlib.contextmanager
def serve_bytes(reply: bytes, *, tls_folder: Path | None = None) -> Iterator[RawServer]:
    """Serve until the block ends.

    Args:
        reply: sent when a request has come in whole; then the connection is closed.
        tls_folder: speak TLS, with the certificate in this folder, where it is written.
    """
    context = None
    if tls_folder is not None:
        (tls_folder / "cert.pem").write_text(CERTIFICATE)
        (tls_folder / "key.pem").write_text(KEY)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls_folder / "cert.pem", tls_folder / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))
    server = RawServer(int(listener.getsockname()[1]))

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            talk = context.wrap_socket(connection, server_side=True) if context else connection
            read_request(talk)
            talk.sendall(reply)
            talk.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.num_connections += 1
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def read_request(connection: socket.socket) -> None:
    """Read one HTTP request; what is none, such as the greeting of TLS, is left after its first bytes."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = connection.recv(65536)
        data += got
        if not got or not data[:1].isalpha():
            return
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while lengths and len(body) < int(lengths[0]) and (got := connection.recv(65536)):
        body += got
