"""vLLM's engine behind a server that samples the policy: launched by the trainer on GPUs of its own, or by the user.

It is asked with token ids at /inference/v1/generate (`vllm serve --enable-scale-out`), and is given weights by the
endpoints that it has for development (VLLM_SERVER_DEV_MODE=1): tested with vLLM 0.32. Weights are a folder that it
reads, so it is on this machine, or shares the folder. The versions that it says begin with the name of this run, so
that weights of another trainer are never taken for this one's.

Several processes may ask it. The first launches it and gives it weights, also when it has died and was launched again;
the others wait until it has them.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import wait
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit

from PIL.Image import Image
from pydantic import JsonValue

from p2r.config import RolloutSettings
from p2r.config.apart import find_server
from p2r.errors import ConfigError, EndpointError, ModelError
from p2r.loop import LONGEST_WAIT_S, start_loop
from p2r.models.server.lookup import read_address
from p2r.models.server.transport import choose_transport, image_urls
from p2r.models.vllm.interface import RequestOutput
from p2r.training.engines.vllm_wire import (
    GENERATE,
    ServedOutput,
    VllmClient,
    make_body,
    make_options,
    read_served_output,
)
from p2r.training.server import Server, look

Result = TypeVar("Result")

LOOK_EVERY_S = 0.5
MOST_STARTS, MOST_ATTEMPTS = 4, 12
"""Launches of a server in a phase, and attempts to ask a prompt, until it is given up. A launch may cost two."""
VARIABLES = {"VLLM_SERVER_DEV_MODE": "1"}
CHECKED = ("dtype", "logprobs_mode")
"""Arguments that have to be as they are wanted, and that replies alone would not tell."""


class VllmServer:
    """A running server, used like the `VllmEngine` of this process. It outlasts its own deaths.

    loop: the event loop that it is asked in.
    max_tokens: the most tokens of a prompt and its reply.
    """

    is_dead = False

    def __init__(
        self,
        engine_args: Mapping[str, object],
        settings: RolloutSettings,
        folder: Path,
        *,
        owner: str,
        is_first: bool = True,
    ) -> None:
        """Launch it, or find the one that runs.

        Args:
            engine_args: of vLLM's engine, by name; its model is the checkpoint that the server begins with.
            folder: for the output of a launched server, and for a record of it while it runs.
            owner: the name of this run's weights, which no other has.
            is_first: whether this process launches it and gives it weights. Others wait for them.

        Raises:
            ConfigError: the command cannot be run, or the server is not as it has to be.
            EndpointError: it does not answer.
        """
        assert settings.url is not None, "the settings name a server"
        self._url = find_server(read_address(settings.url)[0])
        self._owner, self._is_first, self._timeout_s = owner, is_first, settings.launch_timeout_s
        options = make_options(engine_args)
        variables = " ".join(f"{name}={value}" for name, value in VARIABLES.items())
        port = urlsplit(self._url).port
        place = [] if port is None else ["--port", str(port)]
        self._how = f"start it with {variables} vllm serve CHECKPOINT {shlex.join([*place, *options])}"
        self._server: Server | None = None
        if settings.launch is not None and is_first:
            self._server = Server(
                settings.launch,
                self._url,
                Path(str(engine_args["model"])),
                folder,
                timeout_s=settings.launch_timeout_s,
                table="rollout",
                more=options,
                variables=VARIABLES,
                prepare=self._restore,
                most_starts=MOST_STARTS,
            )
            self._how = f"see {folder / 'rollout.log'}; does the command pass on the arguments that are added to it?"
        self._weights: tuple[Path, str] | None = None
        self._giving, self._running = asyncio.Lock(), AsyncExitStack()
        self.loop, self._is_open = start_loop("p2r-vllm-server"), True
        self._client = VllmClient(self._url)
        try:
            self._run(self._open())
            self.max_tokens = self._check(engine_args)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End a launched server, and let go of another. A second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._run(self._leave())
            self.loop.call_soon_threadsafe(self.loop.stop)

    async def _leave(self) -> None:
        await self._running.aclose()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._client.close()

    def sleep(self) -> None:
        """Let go of the folder of the weights. It need not free memory: its GPUs are its own."""
        self._run(self._forget())

    async def _forget(self) -> None:
        async with self._giving:
            self._weights = None

    def read_weights(self, folder: Path, version: str) -> None:
        """Let it take the weights in the folder; what is drawn with them says this version.

        In another process than the first: wait until it has them.

        Raises:
            ModelError: it cannot read them, or is dead.
            TrainingError: it has died too often.
        """
        self._run(self._guard(self._read_weights(folder, f"{self._owner}/{version}")))

    async def _read_weights(self, folder: Path, version: str) -> None:
        self._weights, num_starts = (folder, version), self._num_starts
        if self._is_first:
            await self._try(self._restore)
        else:
            error = EndpointError(f"the first process has not given {self._url} weights of version {version}")
            await self._outlast(error, num_starts)

    async def _restore(self) -> None:
        """Give it the weights that it should have, if any."""
        async with self._giving:
            if self._weights is not None:
                folder, version = self._weights
                await self._client.post("/pause")  # it empties the caches, where nothing may be of other weights
                await self._client.post("/collective_rpc", {"method": "read_weights", "args": [str(folder)]})
                await self._client.post("/update_weight_version", {"new_version": version})
                await self._client.post("/resume")

    async def generate(self, request: Mapping[str, object], sampling_args: Mapping[str, object]) -> RequestOutput:
        """Reply to a prompt of vLLM's form. A call that is cancelled is aborted there too.

        Raises:
            ModelError: it gives no reply.
            TrainingError: it has died too often.
        """
        output = await self._guard(self._generate(request, sampling_args))
        for reply in output.outputs:
            for span in reply.weight_versions or ():
                span.version = span.version.removeprefix(f"{self._owner}/")
        return cast("RequestOutput", output)

    async def _generate(self, request: Mapping[str, object], sampling_args: Mapping[str, object]) -> ServedOutput:
        data = cast("Mapping[str, Sequence[Image]]", request.get("multi_modal_data", {}))
        with image_urls(data.get("image", ()), choose_transport(self._url, "auto")) as urls:
            body = make_body(request, sampling_args, urls)

        async def ask() -> ServedOutput:
            output = read_served_output(await self._client.post(GENERATE, body))
            if any(reply.has_no_weights for reply in output.outputs):
                raise EndpointError(f"{self._url} gave up on a reply: it had no weights of the policy")
            for reply in output.outputs:
                for span in reply.weight_versions or ():
                    self._check_owner(span.version)
            return output

        return await self._try(ask)

    async def _try(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Ask until it answers, whenever it has the weights that it should have."""
        for left in reversed(range(MOST_ATTEMPTS)):
            num_starts = self._num_starts
            try:
                return await work()
            except EndpointError as error:
                if not left:
                    raise
                await self._outlast(error, num_starts)
        raise AssertionError

    def _check_owner(self, version: str) -> None:
        """Make sure that no other run named a version. Raises ModelError."""
        if version.rpartition("/")[0] not in ("", self._owner):
            raise ModelError(
                f"another run has given its weights to {self._url}",
                hint="a server samples for one run at a time: let each have its own; then `resume=True`",
            )

    @property
    def _num_starts(self) -> int:
        return 0 if self._server is None else self._server.num_starts

    async def _outlast(self, error: EndpointError, num_starts: int) -> None:
        """Wait until it has the weights that it should have; raise the error where nobody will give it them.

        Args:
            num_starts: how often it was launched before the error.

        Raises:
            ModelError: it has the weights of another run.
        """
        deadline = time.monotonic() + self._timeout_s * (MOST_STARTS + 1)
        while self._weights is not None and (has := await self._client.ask_version()) != self._weights[1]:
            self._check_owner(has)
            if self._is_first and self._server is None and not has:
                raise EndpointError(f"rollout.url: {error.message}", hint=f"{self._how}; then `resume=True`") from error
            has_lived = self._server is None or self._server.has_lived_since(num_starts)
            if (has and self._is_first and has_lived) or time.monotonic() > deadline:
                raise error
            await asyncio.sleep(LOOK_EVERY_S)

    async def _open(self) -> None:
        """Launch it, or see that it answers; one that another process launches is there already."""
        if self._server is not None:
            await self._running.enter_async_context(self._server.running())
            return
        try:
            await look(self._url)
        except EndpointError as error:
            raise EndpointError(f"rollout.url: {error.message}", hint=self._how) from error

    def _check(self, engine_args: Mapping[str, object]) -> int:
        """Make sure that it is set up for rollouts; returns the most tokens of a prompt and its reply."""
        try:
            if not self._run(self._client.takes_tokens()):
                raise ConfigError(f"{self._url} does not reply to token ids", hint=self._how)
            told = self._run(self._client.post("/collective_rpc", {"method": "describe_engine"}))
            about = cast("Mapping[str, list[Mapping[str, JsonValue]]]", told)["results"][0]
            for name in CHECKED:
                if about[name] != engine_args[name]:
                    raise ConfigError(
                        f"the engine of {self._url} has {name} {about[name]}, and rollouts need {engine_args[name]}",
                        hint=self._how,
                    )
            return int(str(about["max_model_len"]))
        except (ModelError, LookupError, TypeError) as error:
            why = error.message if isinstance(error, ModelError) else f"it says {error!r}"
            raise ConfigError(f"{self._url} cannot be given weights: {why}", hint=self._how) from error

    async def _guard(self, work: Awaitable[Result]) -> Result:
        """Await work, and leave it when a launched server has died for good."""
        return await (work if self._server is None else self._server.guard(work))

    def _run(self, work: Coroutine[object, object, Result]) -> Result:
        """Wait for work in its loop, in another thread."""
        running = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            while not wait([running], LONGEST_WAIT_S).done:
                if not self.loop.is_running():
                    raise ModelError(f"{self._url} was let go of")
        except BaseException:
            running.cancel()
            raise
        return running.result()
