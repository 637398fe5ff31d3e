"""Say why no reply came over a connection, and whether asking again can help.

A client wraps the cause several times and under changing names, so a fault is recognized by the names and words of the
whole chain of exceptions.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from p2r.errors import reason_of

PROBE_TIMEOUT_S = 2.0
NO_TLS = "write http:// in place of https://"
NEEDS_TLS = "write https:// in place of http://"
_UP = "is the server running, and are host and port right?"
_LOG = "the server's own log says why"


class Fault(NamedTuple):
    """A fault of a connection.

    sentence, hint: with {url}, {host}, and {why}, the innermost words of the cause.
    may_pass: asking again can help.
    """

    pattern: str
    sentence: str
    hint: str
    may_pass: bool = True


HUNG_UP = Fault(
    r"ConnectionResetError|ReadError|WriteError|BrokenResourceError|without sending a response",
    "{url} closed the connection without a reply",
    _LOG,
)
FAULTS = (
    Fault(
        r"CERTIFICATE_VERIFY_FAILED",
        "{url} shows a certificate that is not trusted here: {why}",
        "name the certificate to trust in SSL_CERT_FILE=FILE.pem, or the host as the certificate does",
        may_pass=False,
    ),
    Fault(
        r"WRONG_VERSION_NUMBER|UNKNOWN_PROTOCOL|HTTP_REQUEST|PACKET_LENGTH_TOO_LONG|RECORD_LAYER_FAILURE",
        "{url} does not speak TLS",
        NO_TLS,
        may_pass=False,
    ),
    Fault(r"\[SSL: (?!\w*EOF)", "there is no TLS connection to {url}: {why}", _LOG, may_pass=False),
    Fault(
        r"gaierror: .*(not known|nodename nor servname|No address associated|getaddrinfo failed)",
        "there is no host {host!r}",
        "check the name of the host",
        may_pass=False,
    ),
    Fault(
        r"without sending complete message body|incomplete chunked read",
        "{url} broke its reply off",
        f"{_LOG}; a proxy on the way may limit time or size",
    ),
    Fault(
        r"illegal status line|illegal header line|Invalid HTTP",
        "{url} does not speak HTTP",
        "is this the URL of an OpenAI-compatible API?",
        may_pass=False,
    ),
    HUNG_UP,
    Fault(r"ConnectionRefusedError", "cannot reach {url}: connection refused", _UP),
)
OTHER_FAULT = Fault("", "cannot reach {url}: {why}", _UP)


def find_fault(error: BaseException) -> Fault:
    """Return the fault that a client's exception is about."""
    chain = " | ".join(f"{type(part).__name__}: {part}" for part in _list_causes(error))
    return next((fault for fault in FAULTS if re.search(fault.pattern, chain)), OTHER_FAULT)


def explain_fault_of(error: BaseException, url: str) -> tuple[str, str]:
    """Return the sentence and the hint for a client's exception."""
    fault = find_fault(error)
    why = next((words for part in reversed(_list_causes(error)) if (words := _read_words(part))), type(error).__name__)
    host = urlsplit(url).hostname or ""
    return fault.sentence.format(url=url, host=host, why=why), fault.hint


def needs_tls(error: BaseException, url: str) -> bool:
    """Tell whether a server that hung up on an http:// URL speaks TLS. It is asked for a handshake."""
    if not url.startswith("http://") or find_fault(error) is not HUNG_UP:
        return False
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 80), PROBE_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except (OSError, ValueError):
        return False


def _list_causes(error: BaseException) -> list[BaseException]:
    """List an exception and what it was raised from, outermost first."""
    causes: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in causes:
        causes.append(inner)
        inner = inner.__cause__ or inner.__context__
    return causes


def _read_words(error: BaseException) -> str:
    """Return an exception's words without the numbers and file names of OpenSSL; "" when it has none."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "").replace("_", " ").lower()
    return reason_of(error) if isinstance(error, Exception) and str(error) else ""
