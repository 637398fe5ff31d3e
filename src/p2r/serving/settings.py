"""What a server allows: who may ask, and how much."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from p2r.errors import ConfigError
from p2r.types import Frozen


class Access(Frozen):
    """The rules of who may ask, and which images are fetched for them.

    keys: one of them must come with every request but /healthz and /readyz; () for a server that asks for no key.
    hosts: names by which the server may be called, beside localhost and addresses in numbers.
    origins: web pages that may ask, such as https://example.org; those of the server itself always may.
    image_hosts: hosts, or host:port, whose images are fetched; () fetches none.
    image_folders: images below them may be named by file:// URLs; () for none.
    """

    keys: tuple[str, ...] = Field(default=(), repr=False)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    image_hosts: tuple[str, ...] = ()
    image_folders: tuple[Path, ...] = ()


_NAME = re.compile(r"[\w.-]+(?::\d+)?|\[[0-9A-Fa-f:.]+\](?::\d+)?")
_ORIGIN = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*://(?:{_NAME.pattern})/?")


def check_access(access: Access) -> None:
    """Raise ConfigError for a host or an origin that no request could ever name."""
    for name, values in (("allow_host", access.hosts), ("allow_image_host", access.image_hosts)):
        for value in values:
            if not _NAME.fullmatch(value):
                raise ConfigError(f"`{name}` is {value!r}: it must be a host's name", hint="such as example.org")
    for value in access.origins:
        if not _ORIGIN.fullmatch(value):
            raise ConfigError(
                f"`allow_origin` is {value!r}: it must be a scheme and a host", hint="such as https://example.org"
            )


MOST_AT_ONCE = MOST_WAITING = 200
"""The most that the limits on requests may be: many systems allow a process some 1,000 open files."""

PATIENCE_S = 2.0
"""A model's server that asks for a longer wait (Retry-After) is not asked again: its client is told, and waits."""


class Limits(Frozen):
    """The most that one request, or all together, may take.

    num_at_once, num_waiting: requests that are answered at a time, and further ones that wait for that.
    body_bytes, image_bytes: of a request, and of an image that is fetched or read.
    image_pixels: of all images of a request together.
    prompt_chars: of all texts of a request together.
    new_tokens: the most that may be asked for.
    timeout_s: from the first byte to the last, waiting included.
    body_timeout_s, fetch_timeout_s: for the request to arrive, and for an image to be fetched.
    """

    num_at_once: int = Field(default=8, ge=1, le=MOST_AT_ONCE)
    num_waiting: int = Field(default=64, ge=0, le=MOST_WAITING)
    body_bytes: int = Field(default=64_000_000, ge=1)
    image_bytes: int = Field(default=32_000_000, ge=1)
    image_pixels: int = Field(default=50_000_000, ge=1)
    num_images: int = Field(default=8, ge=1)
    prompt_chars: int = Field(default=100_000, ge=1)
    new_tokens: int = Field(default=4096, ge=1)
    timeout_s: float = Field(default=300.0, gt=0)
    body_timeout_s: float = Field(default=30.0, gt=0)
    fetch_timeout_s: float = Field(default=20.0, gt=0)


DEFAULT_ACCESS, DEFAULT_LIMITS = Access(), Limits()
