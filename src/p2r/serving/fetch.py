"""Fetch an image for a client, only from hosts that are allowed, and never from this machine's own network.

A name is resolved once, every address that it stands for is checked, and the connection goes to a checked address: a
name that stands for another address a moment later leads nowhere else. Redirects are followed a few times, and each is
checked as the first address was.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from p2r.errors import ImageError
from p2r.images.web import WEB
from p2r.version import __version__

MOST_REDIRECTS = 3
_CHUNK_BYTES = 1 << 16
_PORTS = {"http": 80, "https": 443}
_EMBEDDING = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")))
"""Networks whose addresses hold one of IPv4, which may be private."""


def is_public(address: str) -> bool:
    """Tell whether an address is one of the internet, and of nobody's own network or machine."""
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(number, ipaddress.IPv6Address):
        if number.ipv4_mapped is not None:
            number = number.ipv4_mapped
        elif number.is_site_local or any(number in network for network in _EMBEDDING):
            return False
    return number.is_global and not number.is_multicast and not number.is_reserved


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses that a name stands for. Raises OSError when there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches images.

    hosts: names that may be asked, at the usual ports; with a port, as in "example.org:8080", at that port.
    max_bytes, timeout_s: of an image, over all redirects.
    resolve: finds a name's addresses. may_connect: tells whether one of them may be asked.
    """

    hosts: tuple[str, ...]
    max_bytes: int
    timeout_s: float
    resolve: Callable[[str, int], list[str]] = resolve
    may_connect: Callable[[str], bool] = is_public

    def fetch(self, url: str, name: str) -> bytes:
        """Return the image at an address.

        Args:
            name: the image's name in messages, which name neither the address nor what is found there.

        Raises:
            ImageError: the host is not allowed, or there is no image within the limits.
        """
        deadline = time.monotonic() + self.timeout_s
        for _ in range(MOST_REDIRECTS + 1):
            try:
                data, leads_to = self._ask(url, name, deadline)
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise ImageError(f"{name} cannot be fetched") from error
            if data is not None:
                return data
            url = urljoin(url, leads_to)
        raise ImageError(f"{name} cannot be fetched: its address leads from one to another too often")

    def _ask(self, url: str, name: str, deadline: float) -> tuple[bytes | None, str]:
        """Ask one address. Returns what is there, or None and where it leads to."""
        host, port = self._check(url, name)
        addresses = self.resolve(host, port)
        if not addresses or not all(map(self.may_connect, addresses)):
            raise ImageError(f"{name} cannot be fetched: its host is not a public one")
        parts = urlsplit(url)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise ImageError(f"{name} did not arrive within {self.timeout_s:g} seconds")
        connection = _Connection(host, port, addresses[0], tls=parts.scheme.lower() == "https", timeout_s=left_s)
        late = threading.Event()
        alarm = threading.Timer(left_s, lambda: (late.set(), connection.cut()))
        alarm.daemon = True
        alarm.start()
        found: tuple[bytes | None, str] = None, ""
        try:
            target = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*") + (f"?{parts.query}" if parts.query else "")
            headers = {"User-Agent": f"p2r/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"}
            connection.request("GET", target, headers=headers)
            found = self._read(connection.getresponse(), name)
        except (OSError, ValueError, ImageError, http.client.HTTPException):
            if not late.is_set():
                raise
        finally:
            alarm.cancel()
            connection.close()
        if late.is_set():  # what was cut may look whole
            raise ImageError(f"{name} did not arrive within {self.timeout_s:g} seconds")
        return found

    def _read(self, response: http.client.HTTPResponse, name: str) -> tuple[bytes | None, str]:
        if response.status in (301, 302, 303, 307, 308):
            return None, response.headers.get("Location", "")
        if response.status != 200:
            raise ImageError(f"{name} cannot be fetched: its server replied {response.status}")
        if response.headers.get_content_maintype() != "image":
            raise ImageError(f"{name} is not sent as an image")
        data = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            data += chunk
            if len(data) > self.max_bytes:
                raise ImageError(f"{name} has more than {self.max_bytes / 1e6:g} MB")
        if response.length:  # the connection ended before everything had come
            raise ImageError(f"{name} is cut off")
        return bytes(data), ""

    def _check(self, url: str, name: str) -> tuple[str, int]:
        """Return the host and the port of an address that is allowed. Raises ImageError for another."""
        parts = urlsplit(url)
        scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".").lower()
        usual = _PORTS.get(scheme)
        if not url.lower().startswith(WEB) or usual is None or not host or parts.username is not None:
            raise ImageError(f"{name} cannot be fetched: its address is not a plain http or https URL")
        port = parts.port or usual
        allowed = {entry.lower() for entry in self.hosts}
        if f"{host}:{port}" not in allowed and not (host in allowed and port in _PORTS.values()):
            raise ImageError(f"{name} is on a host from which this server fetches no images; send it as a data: URL")
        return host, port


class _Connection(http.client.HTTPConnection):
    """A connection to one address, whatever the host's name stands for."""

    def __init__(self, host: str, port: int, address: str, *, tls: bool, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._address, self._tls = address, tls
        self._wait_s = timeout_s
        self._open: socket.socket | None = None

    def connect(self) -> None:
        """Connect to the checked address; the certificate must be the name's."""
        self.sock = self._open = socket.create_connection((self._address, self.port), self._wait_s)
        if self._tls:
            self.sock = self._open = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def cut(self) -> None:
        """End a connection that takes too long, however it drips."""
        if self._open is not None:  # `sock` is gone once a reply without a length begins
            with contextlib.suppress(OSError):
                self._open.shutdown(socket.SHUT_RDWR)
