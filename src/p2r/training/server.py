"""A server that the trainer launches, watches, launches again when it dies, and ends.

It runs under `keeper`, a small program that ends it when the trainer has gone, also after a kill. While it is launched
again, questions wait; when it dies too often, whatever waits for it is left and the run stops.

A server may also be of no use and not end: when vLLM's engine dies, calls to it may stay open, and vLLM waits for them
before it ends, although it listens no more. So it is asked for its health now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from p2r.config.apart import find_server
from p2r.errors import ConfigError, EndpointError, ModelError, TrainingError, count_nouns
from p2r.loop import run_apart
from p2r.models.server.lookup import is_well, list_models
from p2r.training import keeper

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
Listing = tuple[str, list[str]]
"""The URL below which a server's API lies, and its models."""

LOOK_EVERY_S, HEALTH_EVERY_S = 1.0, 5.0
MOST_GONE, MOST_SILENT = 2, 60
"""Questions for a server's health in a row that find nobody, or get no answer in time, until it is ended. A busy one
answers at least once in 15 minutes."""


class Pulse:
    """Looks now and then whether a server that has answered can still answer.

    num_gone, num_silent: the last times in a row that nobody was there, and that it did not answer in time.
    """

    def __init__(self, url: str) -> None:
        self._url, self._looking, self._looked_at = find_server(url), asyncio.Lock(), 0.0
        self.num_gone = self.num_silent = 0

    async def look(self) -> None:
        """Ask it, unless it has just been asked. All that wait for its reply may call this as often as they like."""
        async with self._looking:
            if time.monotonic() > self._looked_at + HEALTH_EVERY_S:
                well = await run_apart(partial(is_well, self._url, os.environ.get("OPENAI_API_KEY", "")))
                self.num_gone = self.num_gone + 1 if well is False else 0
                self.num_silent = self.num_silent + 1 if well is None else 0
                self._looked_at = time.monotonic()

    @property
    def has_stopped(self) -> bool:
        """Tell whether a server is to be ended, that does not end by itself."""
        return self.num_gone >= MOST_GONE or self.num_silent >= MOST_SILENT


class Server:
    """A command that serves a checkpoint at `url`.

    up: whether it is healthy. num_starts: how often it was launched.
    """

    def __init__(
        self,
        command: str,
        url: str,
        checkpoint: Path,
        folder: Path,
        *,
        timeout_s: float,
        table: str = "partner",
        more: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
        most_starts: int = 2,
    ) -> None:
        """Say how it is launched.

        Args:
            command: with {checkpoint} and {port}, which are filled in.
            folder: for its output, and for a record of it while it runs.
            timeout_s: the longest that it may take to be healthy, in seconds.
            table: of the recipe, that has the command as `launch`; its files have this name.
            more: arguments to add to the command.
            variables: of the environment, to set for it.
            prepare: is awaited whenever it answers, before it counts as healthy.
            most_starts: how often it is launched until it is given up.
        """
        port = str(urlsplit(url).port or 80)
        parts = [
            part.replace("{checkpoint}", str(checkpoint)).replace("{port}", port) for part in _split(command, table)
        ]
        self._command, self._variables = [*parts, *more], {**os.environ, **(variables or {})}
        self._url, self._timeout_s, self._table = url, timeout_s, table
        self._prepare, self._most_starts = prepare, most_starts
        self._log, self._record = folder / f"{table}.log", folder / f"{table}.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._log_start = 0
        self.up = asyncio.Event()
        self.num_starts = 0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Listing, None]:
        """Launch it, watch it within the block, and end it; yields what it serves.

        Raises:
            ConfigError: the command cannot be run, or something that this folder's runs did not start answers already.
            EndpointError: it ended, or was not healthy in time.
        """
        await self._make_room()
        try:
            listing = await self._launch()
            self._watching = asyncio.create_task(self._watch())
            yield listing
        finally:
            if self._watching is not None:
                self._watching.cancel()
            self._end()  # before anything is awaited, where a second cancellation may come
            if self._watching is not None:
                await asyncio.gather(self._watching, return_exceptions=True)

    async def guard(self, work: Awaitable[Result]) -> Result:
        """Await work that asks the server; leave it when the server has died for good.

        Raises:
            TrainingError: it has.
        """
        task, watching = asyncio.ensure_future(work), self._watching
        assert watching is not None, "the server is running"
        try:
            await asyncio.wait({task, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                watching.result()  # raises
            return await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def has_lived_since(self, num_starts: int) -> bool:
        """Tell whether it is healthy, and has been since it was launched for the `num_starts`-th time."""
        if self._process is not None and self._process.poll() is not None:
            self.up.clear()
        return self.num_starts == num_starts and self.up.is_set()

    async def _make_room(self) -> None:
        """End the server that a killed run of this folder has left, and see that nothing answers at the URL."""
        if await asyncio.to_thread(keeper.end_recorded, self._record):
            logger.warning("a server that an earlier run of %s had launched was still there: ended", self._log.parent)
        with contextlib.suppress(EndpointError):
            await look(self._url)
            raise ConfigError(
                f"something answers at {self._url} before {self._table}.launch was run",
                hint=f"it is not a server of this run: end it, or leave out {self._table}.launch to use it as it is",
            )

    async def _launch(self) -> Listing:
        """Start the command, and wait until it is healthy."""
        self.num_starts += 1
        if shutil.which(self._command[0]) is None:
            raise ConfigError(
                f"{self._table}.launch cannot be run: there is no program {self._command[0]}",
                hint="is the program installed, and on the path?",
            )
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self._log_start = output.tell()
            self._process = keeper.start(self._record, self._command, output, self._variables)
        started, pulse, why = time.monotonic(), Pulse(self._url), ""
        while True:
            if (code := self._process.poll()) is not None:
                raise EndpointError(
                    f"{self._table}.launch ended with code {code}: {self._last_words()}",
                    hint=f"see {self._log}",
                )
            with contextlib.suppress(EndpointError):
                listing = await look(self._url)
                try:
                    if self._prepare is not None:
                        await self._prepare()
                except EndpointError as error:
                    why = error.message
                else:
                    self.up.set()
                    return listing
            if why:  # it was there
                await pulse.look()
                if pulse.has_stopped:
                    keeper.end(self._process)
                    continue
            if time.monotonic() > started + self._timeout_s:
                said = why or self._last_words()
                raise EndpointError(
                    f"{self._url} was not healthy within {self._timeout_s:g} seconds: {said}",
                    hint=f"see {self._log}; raise {self._table}.launch_timeout_s if it only needs more time",
                )
            await asyncio.sleep(LOOK_EVERY_S)

    async def _watch(self) -> None:
        """Look after the process until it has died too often.

        Raises:
            TrainingError: it has; or it did not come up again.
        """
        while True:
            assert self._process is not None, "the server was launched"
            end = await self._wait_for_end(self._process)
            self.up.clear()
            said = f"the server of {self._table}.launch {end}: {self._last_words()}"
            self._end()  # what it has left of its processes
            if self.num_starts == self._most_starts:
                launches = count_nouns(self.num_starts, "launch", "launches")
                raise TrainingError(
                    f"{said}; it is given up after {launches}", hint=f"see {self._log}; then `resume=True`"
                )
            logger.warning("%s; launching it again, see %s", said, self._log)
            try:
                await self._launch()
            except (ConfigError, ModelError) as error:
                if isinstance(error, EndpointError) and self._process.poll() is not None:
                    continue  # it has died again
                raise TrainingError(f"{said}; then {error.message}", hint=error.hint) from error

    def _last_words(self) -> str:
        """The end of what it has written since it was launched."""
        return keeper.last_words(self._log, self._log_start)

    async def _wait_for_end(self, process: subprocess.Popen[bytes]) -> str:
        """Wait until the process has ended, or is of no use; returns what it did."""
        pulse = Pulse(self._url)
        while (code := process.poll()) is None:
            if pulse.has_stopped:
                return "does not answer any more"
            await asyncio.sleep(LOOK_EVERY_S)
            await pulse.look()
        return f"ended with code {code}"

    def _end(self) -> None:
        """End the server and everything that it has started: its keeper does, when its input closes."""
        process, self._process = self._process, None
        if process is not None:
            keeper.end(process)


def _split(command: str, table: str) -> list[str]:
    """Split a command as a shell would. Raises ConfigError."""
    try:
        if parts := shlex.split(command):
            return parts
        why = "it is empty"
    except ValueError as error:  # a quotation that does not end
        why = str(error).lower()
    raise ConfigError(f"{table}.launch is not a command: {why}", hint="write it as for a shell")


async def look(url: str) -> Listing:
    """List what is served at `url`. Raises EndpointError when nothing answers."""
    return await asyncio.to_thread(list_models, url, os.environ.get("OPENAI_API_KEY", ""))
