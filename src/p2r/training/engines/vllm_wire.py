"""What goes to a server of vLLM 0.32, and what comes from it: its arguments, questions and replies."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import cast

import openai
from pydantic import BaseModel, Field, JsonValue, ValidationError, field_validator

from p2r.errors import EndpointError, ModelError, explain_fault
from p2r.models.server.errors import RequestFacts, explain, message_of, quote
from p2r.models.server.lookup import LOOKUP_TIMEOUT_S

LONGEST_REPLY_S = 3600.0
"""The longest that a reply, or a change of weights, may take, in seconds."""
HEALTH_EVERY_S = 5.0
UNNAMED = "default"
"""The version of the weights that vLLM began with."""


class Drawn(BaseModel):
    """A token and its log-prob."""

    token_id: int
    logprob: float


class Span(BaseModel):
    """Some tokens were drawn with the weights of this version."""

    version: str


class ServedReply(BaseModel):
    """A reply in the form of vLLM's own class: log-probs are by token id."""

    token_ids: list[int]
    finish_reason: str | None
    logprobs: list[dict[int, Drawn]]
    weight_versions: list[Span] | None = None

    @field_validator("logprobs", mode="before")
    @classmethod
    def _sort_by_token(cls, given: Mapping[str, list[Mapping[str, object]]]) -> list[dict[object, object]]:
        return [{each["token_id"]: each} for each in given["content"]]

    @property
    def has_no_weights(self) -> bool:
        """Tell whether an engine gave it, or gave up on it, that has just been started."""
        versions = {span.version for span in self.weight_versions or ()}
        return versions == {UNNAMED} or (not versions and self.finish_reason == "abort")


class ServedOutput(BaseModel):
    """The replies to a prompt."""

    prompt_token_ids: list[int]
    outputs: list[ServedReply] = Field(alias="choices")


def read_served_output(told: object) -> ServedOutput:
    """Read what the server sent. Raises EndpointError when it has another form."""
    try:
        return ServedOutput.model_validate(told)
    except (ValidationError, LookupError, TypeError) as error:
        why = explain_fault(error.errors()[0]) if isinstance(error, ValidationError) else repr(error)
        raise EndpointError(f"vLLM sent a reply of another form: {why}", hint="install vLLM 0.32") from error


def make_body(request: Mapping[str, object], sampling_args: Mapping[str, object], urls: Sequence[str]) -> object:
    """Make the request for a prompt of vLLM's form, with its images as URLs."""
    return {
        "token_ids": request["prompt_token_ids"],
        "sampling_params": {**sampling_args},
        "return_token_ids": True,
        "content_parts": [{"type": "image_url", "url": url} for url in urls] or None,
    }


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


class VllmClient:
    """Asks a server, and notices when it has ended."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._openai = openai.AsyncOpenAI(
            base_url=url,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            timeout=openai.Timeout(LONGEST_REPLY_S, connect=LOOKUP_TIMEOUT_S),
        )
        self._looking, self._looked_at, self._has_gone = asyncio.Lock(), 0.0, False

    async def close(self) -> None:
        """Close its connections."""
        await self._openai.close()

    async def ask_version(self) -> str:
        """The version of its weights; "" where it does not answer."""
        try:
            told = await self._openai.with_options(timeout=LOOKUP_TIMEOUT_S, max_retries=0).get(
                "/weight_info", cast_to=object
            )
        except openai.APIError:
            return ""
        return str(cast("Mapping[str, JsonValue]", told).get("weight_version", ""))

    async def post(self, path: str, body: object = None) -> object:
        """Send a request. Raises EndpointError, or ModelError for one that it refuses."""
        asked = RequestFacts(self._url, "", 0, 0, LONGEST_REPLY_S, self._openai.api_key)
        asking = asyncio.ensure_future(self._openai.post(path, body=body, cast_to=object))
        try:
            while not (await asyncio.wait({asking}, timeout=HEALTH_EVERY_S))[0]:
                await self._check_health()
            return asking.result()
        except openai.APIStatusError as error:
            words = quote(message_of(error), asked)
            kind = EndpointError if error.status_code >= 500 else ModelError  # which it would do again
            raise kind(f"{self._url}{path} failed ({error.status_code}): {words}") from error
        except openai.APIError as error:
            raise explain(error, asked) from error
        finally:
            asking.cancel()

    async def _check_health(self) -> None:
        """Look now and then whether it is there, for all that wait: vLLM may leave questions open when it dies.

        Raises:
            EndpointError: it is not.
        """
        async with self._looking:
            if time.monotonic() > self._looked_at + HEALTH_EVERY_S:
                try:
                    await self._openai.with_options(timeout=LOOKUP_TIMEOUT_S, max_retries=0).get("/health", cast_to=str)
                    self._has_gone = False
                except openai.APIError as error:
                    self._has_gone = not isinstance(error, openai.APITimeoutError)  # then it is busy
                self._looked_at = time.monotonic()
        if self._has_gone:
            raise EndpointError(f"{self._url} has ended without a reply")
