"""The frozen role of a phase: in this process, or behind a server that the trainer starts, watches and ends.

A server is asked over HTTP like any other; images are sent without loss. `partner.launch` is a command that the trainer
runs at the phase's start, with the folder of the frozen checkpoint in it, and ends with the phase. Anything that
answers at the URL before that is refused: it is not ours, and would silently answer with other weights.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from p2r.config import PartnerSettings
from p2r.errors import ConfigError, EndpointError, count_nouns, reason_of
from p2r.models.checkpoint import open_checkpoint
from p2r.models.server.lookup import list_models
from p2r.models.server.model import EndpointModel
from p2r.training.lockstep import BatchModel, FreePartner, LockstepPartner, Partner

Listing = tuple[str, list[str]]
"""The URL below which a server's API lies, and its models."""

LOOK_EVERY_S = 1.0
PATIENCE_S = 15.0
"""Seconds that a server may take to end before it is killed."""
SPARE_WALKS = 8
"""Walks beyond the requests under way: their images are made while those wait."""
LOG_FILE = "partner.log"
LAST_CHARS = 600


@asynccontextmanager
async def open_partner(
    settings: PartnerSettings, local: BatchModel, checkpoint: Path, log_folder: Path
) -> AsyncGenerator[Partner, None]:
    """Get the frozen role ready to be asked.

    Args:
        local: the frozen weights in this process, used unless the recipe names an endpoint.
        checkpoint: the folder of the frozen weights, for a server to load.
        log_folder: for the output of a server.

    Raises:
        ConfigError: the command cannot be run, or something answers at the URL before it is.
        EndpointError: the server ended, or was not healthy in time.
    """
    if settings.kind == "local" or settings.url is None:
        yield LockstepPartner(local, num_at_once=4 * settings.concurrency)
        return
    # The family is the checkpoint's, whatever name a server gives it.
    known = local.profile
    profile = open_checkpoint(checkpoint).profile(
        frame=known.stated_frame, max_pixels=known.budget.max_pixels, for_server=True
    )
    async with _serve(settings, checkpoint, log_folder / LOG_FILE) as (url, name):
        model = EndpointModel(
            url,
            name,
            profile,
            api_key=_api_key(),
            concurrency=settings.concurrency,
            timeout_s=settings.timeout_s,
            transport=settings.transport,
        )
        yield FreePartner(model, num_at_once=settings.concurrency + SPARE_WALKS)


@asynccontextmanager
async def _serve(settings: PartnerSettings, checkpoint: Path, log: Path) -> AsyncGenerator[tuple[str, str], None]:
    """The URL and model of a healthy server, started and ended here if the recipe has a command for it."""
    url, _, name = (settings.url or "").partition("#")
    if settings.launch is None:
        yield _choose(url, name, await _look(url))
        return
    with contextlib.suppress(EndpointError):
        await _look(url)
        raise ConfigError(
            f"something answers at {url} before partner.launch was run",
            hint="end it (an earlier run may have left it there), or leave out partner.launch to use it as it is",
        )
    process = _start(settings.launch, url, checkpoint, log)
    try:
        found = await _wait_until_healthy(process, url, settings.launch_timeout_s, log)
        yield _choose(url, name, found)
    finally:
        await asyncio.to_thread(_end, process)


def _start(command: str, url: str, checkpoint: Path, log: Path) -> subprocess.Popen[bytes]:
    port = str(urlsplit(url).port or 80)
    parts = [part.replace("{checkpoint}", str(checkpoint)).replace("{port}", port) for part in shlex.split(command)]
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            return subprocess.Popen(parts, stdout=output, stderr=output, start_new_session=True)
    except OSError as error:
        raise ConfigError(
            f"partner.launch cannot be run: {reason_of(error)}: {parts[0]}",
            hint="is the program installed, and on the path?",
        ) from error


async def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, timeout_s: float, log: Path) -> Listing:
    """Wait for a server; returns what it serves."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        if (code := process.poll()) is not None:
            raise EndpointError(f"partner.launch ended with code {code}: {_last_words(log)}", hint=f"see {log}")
        with contextlib.suppress(EndpointError):
            return await _look(url)
        if asyncio.get_running_loop().time() > deadline:
            raise EndpointError(
                f"{url} was not healthy within {timeout_s:g} seconds: {_last_words(log)}",
                hint=f"see {log}; raise partner.launch_timeout_s if it only needs more time",
            )
        await asyncio.sleep(LOOK_EVERY_S)


async def _look(url: str) -> Listing:
    """List what is served at `url`. Raises EndpointError when nothing answers."""
    return await asyncio.to_thread(list_models, url, _api_key())


def _choose(url: str, name: str, found: Listing) -> tuple[str, str]:
    """The URL of the API and the model to ask. Raises EndpointError when it is missing, or there are several."""
    base, names = found
    if name in names or (not name and len(names) == 1):
        return base, name or names[0]
    raise EndpointError(
        f"{url} has {'no model ' + repr(name) if name else count_nouns(len(names), 'model')}",
        hint=f"name one in partner.url, after a #: {', '.join(names[:20])}",
    )


def _api_key() -> str:
    return os.environ.get("OPENAI_API_KEY", "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and everything that it has started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
            return


def _last_words(log: Path) -> str:
    """The end of a server's output, in one line."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "it wrote nothing"
    lines = [line.strip() for line in text[-LAST_CHARS:].splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "it wrote nothing"
