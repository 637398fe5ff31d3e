"""vLLM's engine behind a server that samples the policy: launched by the trainer on GPUs of its own, or by the user.

It is asked with token ids at /inference/v1/generate (`vllm serve --enable-scale-out`), and is given weights by the
endpoints that it has for development (VLLM_SERVER_DEV_MODE=1): tested with vLLM 0.32. Weights are a folder that it
reads, so it is on this machine, or shares the folder. The versions that it says begin with the name of this run, so
that weights of another trainer are never taken for this one's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import wait
from pathlib import Path
from typing import TypeVar, cast

import openai
from PIL.Image import Image
from pydantic import BaseModel, Field, JsonValue, ValidationError, field_validator

from p2r.config import RolloutSettings
from p2r.errors import ConfigError, EndpointError, explain_fault
from p2r.loop import start_loop
from p2r.models.server.errors import RequestFacts, explain, message_of, quote
from p2r.models.server.lookup import LOOKUP_TIMEOUT_S
from p2r.models.server.transport import choose_transport, image_urls
from p2r.models.vllm.interface import RequestOutput
from p2r.training.server import Listing, Server, look

Result = TypeVar("Result")

LONGEST_REPLY_S = 3600.0
"""The longest that a reply, or a change of weights, may take, in seconds."""
LONGEST_WAIT_S = 0.5
LOOK_EVERY_S = 0.5
VARIABLES = {"VLLM_SERVER_DEV_MODE": "1"}
CHECKED = ("dtype", "logprobs_mode")
"""Arguments that have to be as they are wanted, and that replies alone would not tell."""


class Drawn(BaseModel):
    """A token and its log-prob."""

    token_id: int
    logprob: float


class Span(BaseModel):
    """Some tokens were drawn with the weights of this version."""

    version: str


class ServedReply(BaseModel):
    """A reply as the server sends it, in the form of vLLM's own class: log-probs are by token id."""

    token_ids: list[int]
    finish_reason: str | None
    logprobs: list[dict[int, Drawn]]
    weight_versions: list[Span] | None = None

    @field_validator("logprobs", mode="before")
    @classmethod
    def _sort_by_token(cls, given: Mapping[str, list[Mapping[str, object]]]) -> list[dict[object, object]]:
        return [{each["token_id"]: each} for each in given["content"]]


class ServedOutput(BaseModel):
    """What the server sends for a prompt."""

    prompt_token_ids: list[int]
    outputs: list[ServedReply] = Field(alias="choices")


class VllmServer:
    """A running server, used like the `VllmEngine` of this process.

    loop: the event loop that it is asked in.
    max_tokens: the most tokens of a prompt and its reply.
    """

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
        self._url = settings.url.partition("#")[0].rstrip("/").removesuffix("/v1")
        self._owner, self._is_first, self._timeout_s = owner, is_first, settings.launch_timeout_s
        options = make_options(engine_args)
        set_first = " ".join(f"{name}={value}" for name, value in VARIABLES.items())
        self._how = f"start it with {set_first} vllm serve CHECKPOINT {shlex.join(options)}"
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
            )
            self._how = f"see {folder / 'rollout.log'}; does the command pass on the arguments that are added to it?"
        self.loop, self._is_open = start_loop("p2r-vllm-server"), True
        self._client = openai.AsyncOpenAI(
            base_url=self._url,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            timeout=openai.Timeout(LONGEST_REPLY_S, connect=LOOKUP_TIMEOUT_S),
        )
        try:
            self._run(self._find())
            self.max_tokens = self._check(engine_args)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End a launched server, and let go of another. A second call does nothing."""
        if self._server is not None:
            self._server.end()
        if self._is_open:
            self._is_open = False
            self._run(self._leave())
            self.loop.call_soon_threadsafe(self.loop.stop)

    async def _leave(self) -> None:
        """Leave what is asked, and close the connections."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._client.close()

    @property
    def is_dead(self) -> bool:
        """Tell whether it has ended, or says that its engine has."""
        if self._server is not None and self._server.has_ended:
            return True
        try:
            self._run(self._client.with_options(timeout=LOOKUP_TIMEOUT_S, max_retries=0).get("/health", cast_to=str))
        except openai.APITimeoutError:
            return False  # it is there, and busy
        except openai.APIError:
            return True
        return False

    def sleep(self) -> None:
        """Do nothing: its GPUs are its own."""

    def read_weights(self, folder: Path, version: str) -> None:
        """Let it take the weights in the folder; what is drawn with them says this version.

        In another process than the first: wait until it has them.

        Raises:
            ModelError: it cannot read them, or is dead.
        """
        self._run(self._read_weights(folder, version) if self._is_first else self._wait_for_weights(version))

    async def _read_weights(self, folder: Path, version: str) -> None:
        await self._post("/pause")  # it empties the caches, where nothing may be of other weights
        await self._post("/collective_rpc", {"method": "read_weights", "args": [str(folder)]})
        await self._post("/update_weight_version", {"new_version": self._name(version)})
        await self._post("/resume")

    async def _wait_for_weights(self, version: str) -> None:
        deadline = time.monotonic() + self._timeout_s
        while (has := await self._ask_version()) != self._name(version):
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"{self._url} has weights of version {has} and not {self._name(version)} after "
                    f"{self._timeout_s:g} seconds",
                    hint="the first process gives it weights, and its messages say more",
                )
            await asyncio.sleep(LOOK_EVERY_S)

    async def _ask_version(self) -> str:
        """The version of its weights; "" where it does not answer."""
        try:
            told = await self._client.get("/weight_info", cast_to=object)
        except openai.APIError:
            return ""
        return str(cast("Mapping[str, JsonValue]", told).get("weight_version", ""))

    async def generate(self, request: Mapping[str, object], sampling_args: Mapping[str, object]) -> RequestOutput:
        """Reply to a prompt of vLLM's form. A call that is cancelled is aborted there too.

        Raises:
            ModelError: it gives no reply.
        """
        data = cast("Mapping[str, Sequence[Image]]", request.get("multi_modal_data", {}))
        with image_urls(data.get("image", ()), choose_transport(self._url, "auto")) as urls:
            body: dict[str, object] = {
                "token_ids": request["prompt_token_ids"],
                "sampling_params": {**sampling_args},
                "return_token_ids": True,
                "content_parts": [{"type": "image_url", "url": url} for url in urls] or None,
            }
            told = await self._post("/inference/v1/generate", body)
        try:
            output = ServedOutput.model_validate(told)
        except (ValidationError, KeyError, TypeError) as error:
            why = explain_fault(error.errors()[0]) if isinstance(error, ValidationError) else repr(error)
            raise EndpointError(f"{self._url} sent a reply of another form: {why}", hint="use vLLM 0.32") from error
        for reply in output.outputs:
            for span in reply.weight_versions or ():
                span.version = span.version.removeprefix(self._name(""))
        return cast("RequestOutput", output)

    def _name(self, version: str) -> str:
        """The version that no other run's weights have."""
        return f"{self._owner}/{version}"

    async def _find(self) -> Listing:
        """Launch it, or see that it answers; one that another process launches is waited for."""
        if self._server is not None:
            return await self._server.start()
        deadline = time.monotonic() + (0 if self._is_first else self._timeout_s)
        while True:
            try:
                return await look(self._url)
            except EndpointError as error:
                if time.monotonic() > deadline:
                    raise EndpointError(
                        f"rollout.url: {error.message}", hint=f"{self._how}; then `resume=True`"
                    ) from error
            await asyncio.sleep(LOOK_EVERY_S)

    def _check(self, engine_args: Mapping[str, object]) -> int:
        """Make sure that it is set up for rollouts; returns the most tokens of a prompt and its reply."""
        try:
            told = self._run(self._post("/collective_rpc", {"method": "describe_engine"}))
            about = cast("Mapping[str, list[Mapping[str, JsonValue]]]", told)["results"][0]
            for name in CHECKED:
                if about[name] != engine_args[name]:
                    raise ConfigError(
                        f"the engine of {self._url} has {name} {about[name]}, and rollouts need {engine_args[name]}",
                        hint=self._how,
                    )
            return int(str(about["max_model_len"]))
        except (EndpointError, LookupError, TypeError) as error:
            why = error.message if isinstance(error, EndpointError) else f"it says {error!r}"
            raise ConfigError(f"{self._url} cannot be given weights: {why}", hint=self._how) from error

    async def _post(self, path: str, body: object = None) -> object:
        """Send a request. Raises EndpointError."""
        asked = RequestFacts(self._url, "", 0, 0, LONGEST_REPLY_S, self._client.api_key)
        try:
            return await self._client.post(path, body=body, cast_to=object)
        except openai.APIStatusError as error:
            words = quote(message_of(error), asked)
            raise EndpointError(f"{self._url}{path} failed ({error.status_code}): {words}") from error
        except openai.APIError as error:
            raise explain(error, asked) from error

    def _run(self, work: Coroutine[object, object, Result]) -> Result:
        """Wait for work in its loop, in another thread."""
        running = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            while not wait([running], LONGEST_WAIT_S).done:
                pass
        except BaseException:
            running.cancel()
            raise
        return running.result()


def make_options(engine_args: Mapping[str, object]) -> list[str]:
    """Write arguments of vLLM's engine as those of `vllm serve`, apart from the model."""
    options = ["--enable-scale-out"]
    for name, value in engine_args.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{option}" if value else f"--no-{option}")
        elif name != "model":
            options += [f"--{option}", value if isinstance(value, str) else json.dumps(value)]
    return options
