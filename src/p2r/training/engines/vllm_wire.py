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
from p2r.training import server

LONGEST_REPLY_S = 3600.0
"""The longest that a reply, or a change of weights, may take, in seconds."""
GENERATE = "/inference/v1/generate"
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
        """Tell whether an engine gave it that has just been started, or gave up on it, as when it is given weights."""
        return self.finish_reason == "abort" or UNNAMED in {span.version for span in self.weight_versions or ()}


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
        self._pulse = server.Pulse(url)

    async def close(self) -> None:
        """Close its connections."""
        await self._openai.close()

    async def ask_version(self) -> str:
        """The version of its weights; "" where it does not say."""
        try:
            told = await self._openai.with_options(timeout=LOOKUP_TIMEOUT_S, max_retries=0).get(
                "/weight_info", cast_to=object
            )
            return str(cast("Mapping[str, JsonValue]", told)["weight_version"])
        except (openai.APIError, LookupError, TypeError):
            return ""

    async def takes_tokens(self) -> bool:
        """Tell whether it replies to token ids, as it does with --enable-scale-out."""
        try:
            await self._openai.get(GENERATE, cast_to=object)
        except openai.NotFoundError:
            return False
        except openai.APIError:  # it is not asked in this way
            pass
        return True

    async def post(self, path: str, body: object = None) -> object:
        """Send a request. Raises EndpointError, or ModelError for one that it refuses.

        vLLM may leave it open when its engine dies, so its health is looked at while it is waited for.
        """
        asked = RequestFacts(self._url, "", 0, 0, LONGEST_REPLY_S, self._openai.api_key)
        asking = asyncio.ensure_future(self._openai.post(path, body=body, cast_to=object))
        deadline = time.monotonic() + LONGEST_REPLY_S
        try:
            while not (await asyncio.wait({asking}, timeout=server.HEALTH_EVERY_S))[0]:
                await self._pulse.look()
                if self._pulse.has_stopped:
                    raise EndpointError(f"{self._url} has ended without a reply")
                if time.monotonic() > deadline:
                    raise EndpointError(f"{self._url} has not replied to {path} within {LONGEST_REPLY_S:g} seconds")
            return asking.result()
        except openai.APIStatusError as error:
            words = quote(message_of(error), asked)
            kind = EndpointError if error.status_code >= 500 else ModelError  # which it would do again
            said = f"{self._url}{path} failed ({error.status_code}): {words}"
            raise kind(
                said, hint="the server's own log says why; does it see the folder and serve the model of this run?"
            ) from error
        except openai.APIError as error:
            raise explain(error, asked) from error
        finally:
            asking.cancel()
