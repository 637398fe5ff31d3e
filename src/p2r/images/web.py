"""An image at an http or https address, fetched when it is loaded: within limits of size and time, and never kept.

Redirects are followed, to http and https alone. A password in an address is sent to its server and shown nowhere.
"""

from __future__ import annotations

import base64
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import IO, cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from PIL import Image

from p2r.errors import ImageError, excerpt
from p2r.images.contents import HEAD_BYTES, WEB_PAGE, explain_content
from p2r.images.load import MAX_IMAGE_PIXELS, decode_image
from p2r.version import __version__

WEB = ("http://", "https://")
MAX_BYTES = 200_000_000
TIMEOUT_S = 60.0
_CHUNK_BYTES = 1 << 16
_SAFE = "/%:=&?~#+!$,;'@()*[]"


@dataclass(frozen=True, slots=True)
class WebImage:
    """An image at an address.

    max_bytes, timeout_s: a larger file, or one that takes longer, is refused.
    max_image_pixels: a larger image is refused before it is decoded.
    """

    url: str
    max_image_pixels: int = MAX_IMAGE_PIXELS
    max_bytes: int = MAX_BYTES
    timeout_s: float = TIMEOUT_S

    @property
    def uri(self) -> str:
        return _hide_password(self.url)

    def load(self) -> Image.Image:
        """Fetch and decode the image.

        Raises:
            ImageError: the address cannot be reached, refuses, is slow, or holds something else or too much; or it is
                not of the web.
        """
        if not self.url.lower().startswith(WEB):
            raise ImageError(f"{excerpt(self.uri)} is not a web address", hint="give an http or https URL, or a path")
        data, kind = fetch(self.url, max_bytes=self.max_bytes, timeout_s=self.timeout_s)
        if kind == "text/html" or explain_content(data[:HEAD_BYTES])[0] == WEB_PAGE:
            raise ImageError(
                f"{self.uri} is {WEB_PAGE}, not an image",
                hint="give the address of the image itself, as a browser copies it",
            )
        return decode_image(data, self.uri, max_image_pixels=self.max_image_pixels)


def fetch(url: str, *, max_bytes: int, timeout_s: float) -> tuple[bytes, str]:
    """Return what is at an address, and its content type. Raises ImageError."""
    shown, deadline = _hide_password(url), time.monotonic() + timeout_s
    late = ImageError(
        f"{shown} did not arrive within {timeout_s:g} s", hint="try again, or download it and name the file"
    )
    try:
        with _OPENER.open(_make_request(url), timeout=timeout_s) as response:
            kind = response.headers.get_content_type()
            data = bytearray()
            while chunk := cast(http.client.HTTPResponse, response).read1(_CHUNK_BYTES):
                data += chunk
                if len(data) > max_bytes:
                    raise ImageError(
                        f"{shown} has more than {max_bytes / 1e6:g} MB", hint="download it and name the file"
                    )
                if time.monotonic() > deadline:
                    raise late
            return bytes(data), kind
    except urllib.error.HTTPError as error:
        raise ImageError(
            f"{shown} cannot be fetched: its server replied {error.code} {error.reason}".rstrip(),
            hint=_HTTP_HINTS.get(error.code, "open it in a browser to see what the server says"),
        ) from error
    except TimeoutError as error:
        raise late from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise late from error
        raise ImageError(f"{shown} cannot be fetched: {_explain(error.reason)}", hint=_HINT) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ImageError(f"{shown} cannot be fetched: {_explain(error)}", hint=_HINT) from error


class _WebOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith(WEB):
            raise ImageError(f"{_hide_password(req.full_url)} leads to {excerpt(newurl)}, not to the web", hint=_HINT)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_WebOnly)
_HINT = "check the address and the network"
_HTTP_HINTS = {
    401: "it needs a login: download it and name the file",
    403: "it may refuse programs: download it and name the file",
    404: "check the address",
    410: "check the address",
}


def _make_request(url: str) -> urllib.request.Request:
    """Make a request with the user's name and password in a header, where urllib wants them, and blanks escaped."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    host = host.encode("idna").decode() if not host.isascii() else host
    address = urlunsplit((parts.scheme, host, quote(parts.path, safe=_SAFE), quote(parts.query, safe=_SAFE), ""))
    headers = {"User-Agent": f"p2r/{__version__}", "Accept": "image/*,*/*;q=0.5"}
    request = urllib.request.Request(address, headers=headers)
    if user:  # not for a host that a redirect leads to
        login = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {login}")
    return request


def _hide_password(url: str) -> str:
    return re.sub(r"(?<=://)[^/?#]*@", "***@", url, count=1)


def _explain(reason: BaseException | str) -> str:
    if isinstance(reason, socket.gaierror):
        return "there is no such host, or no network"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({reason.verify_message})"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return str(reason) or type(reason).__name__
