"""What a client is told when there is no answer: OpenAI's form of an error, and no word about this machine.

A fault of the request is told with its cause. A fault on this side is told by its kind alone: p2r's own messages name
addresses, files and options of whoever runs the server, and go to its log.
"""

from __future__ import annotations

import asyncio
import re
import time
from email.utils import parsedate_to_datetime

import openai

from p2r.errors import DataError, EmptyCropError, EndpointError, ImageError, P2RError, UnseenImageError
from p2r.models.server.errors import NO_ROOM, find_cause, message_of

BAD_REQUEST, BAD_KEY, FORBIDDEN, NOT_FOUND, TOO_LARGE, TOO_MANY = 400, 401, 403, 404, 413, 429
INTERNAL, BAD_GATEWAY, UNAVAILABLE, GATEWAY_TIMEOUT = 500, 502, 503, 504
LONGEST_RETRY_AFTER_S = 60

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>,;)]+")
_PATH = re.compile(r"(?<![\w.:/])(?:~|\.{1,2})?(?:/[\w.@%+~-]+){2,}/?|(?<!\w)[A-Za-z]:\\[^\s\"'<>]+")


class Refused(Exception):
    """A request gets no answer.

    param: the field of the request that is at fault.
    retry_after_s: when asking again may help; None where it does not.
    detail: what the log says beside it, without addresses and paths.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after_s, self.detail = retry_after_s, detail

    @property
    def body(self) -> dict[str, object]:
        """The JSON of the reply."""
        of_client = "rate_limit_error" if self.status == TOO_MANY else "invalid_request_error"
        kind = of_client if self.status < INTERNAL else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to it."""
        headers: dict[str, str] = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        if self.status == BAD_KEY:
            headers["www-authenticate"] = "Bearer"
        return headers


def refuse_bug(error: Exception) -> Refused:
    """Return what a client is told about a bug, whose own words may hold anything."""
    said = "something went wrong inside p2r"
    return Refused(INTERNAL, said, code="internal_error", detail=type(error).__name__)


def refuse_error(error: P2RError) -> Refused:
    """Return what a client is told about an error of p2r."""
    refused = _refuse_error(error)
    refused.detail = f"{type(error).__name__}: {hide_places(error.message)}"
    return refused


def _refuse_error(error: P2RError) -> Refused:
    if isinstance(error, (ImageError, DataError, EmptyCropError)):
        return Refused(BAD_REQUEST, hide_places(error.message), param="messages")
    if isinstance(error, UnseenImageError):
        return Refused(BAD_GATEWAY, "the model saw other images than were sent", code="images_altered")
    if isinstance(error, EndpointError):
        return refuse_upstream(error.__cause__)
    return Refused(INTERNAL, "the model failed; the server's log says why", code="model_failed")


def refuse_upstream(cause: BaseException | None) -> Refused:
    """Return what a client is told when the server of the model did not answer.

    Args:
        cause: the HTTP client's exception; None where a reply came and was not usable.
    """
    if isinstance(cause, (openai.APITimeoutError, asyncio.TimeoutError)):
        return Refused(GATEWAY_TIMEOUT, "the model's server did not reply in time", code="upstream_timeout")
    if isinstance(cause, openai.APIConnectionError):
        return Refused(BAD_GATEWAY, "the model's server cannot be reached", code="upstream_unreachable")
    if not isinstance(cause, openai.APIStatusError):
        return Refused(BAD_GATEWAY, "the model's server sent no usable reply", code="upstream_malformed")
    asked = cause.response.headers.get("retry-after", "")
    if cause.status_code == TOO_MANY:
        wait_s = read_retry_after(asked)
        return Refused(TOO_MANY, "the model's server is busy", code="upstream_busy", retry_after_s=wait_s)
    if find_cause(message_of(cause)) in ("context too long", NO_ROOM):
        said = "the prompt and its images do not fit the model's context; send fewer or smaller ones, or a lower limit"
        return Refused(BAD_REQUEST, said, param="messages", code="context_length_exceeded")
    if cause.status_code in (400, 413, 422):
        words = hide_places(" ".join(message_of(cause).split())[:300])
        return Refused(BAD_REQUEST, f"the model's server refused the request: {words}", code="upstream_refused")
    if cause.status_code == UNAVAILABLE:
        wait_s = read_retry_after(asked, 5)
        return Refused(UNAVAILABLE, "the model's server is not ready", code="upstream_not_ready", retry_after_s=wait_s)
    return Refused(BAD_GATEWAY, f"the model's server failed ({cause.status_code})", code="upstream_failed")


def read_retry_after(text: str, usual: int = 1) -> int:
    """Return the seconds of a Retry-After header, which may also be a date; the usual ones where there are none."""
    try:
        wait_s = parsedate_to_datetime(text).timestamp() - time.time() if ":" in text else float(text)
        return min(max(1, round(wait_s)), LONGEST_RETRY_AFTER_S)
    except (ValueError, OverflowError):
        return usual


def hide_places(text: str) -> str:
    """Return a text without addresses and paths, which are nobody's business but the operator's."""
    return _PATH.sub("[path]", _ADDRESS.sub("[address]", text))
