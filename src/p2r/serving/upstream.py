"""Hand a request on to the server of the model as it is, and its reply back as it is."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar, cast

import openai
import stamina
from openai.types.chat import ChatCompletionMessageParam

from p2r.models.server.errors import wait_before_retry
from p2r.models.server.streaming import EVENT, split_lines
from p2r.serving.refusal import BAD_GATEWAY, Refused, hide_places, refuse_upstream
from p2r.serving.settings import PATIENCE_S

ATTEMPTS = 3
CONNECT_TIMEOUT_S, RETRY_WAIT_S = 10.0, 0.5

Result = TypeVar("Result")


class Upstream:
    """The server of a model.

    Args:
        url: the base of its API. name: its model. api_key: of that server, never a client's.
    """

    def __init__(self, url: str, name: str, api_key: str, *, timeout_s: float) -> None:
        self.name = name
        timeout = openai.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
        self._client = openai.AsyncOpenAI(base_url=url, api_key=api_key or "none", max_retries=0, timeout=timeout)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def ask(self, body: dict[str, object]) -> dict[str, object]:
        """Return its reply. Faults that may pass are tried again.

        Raises:
            Refused: there is no usable reply.
        """
        try:
            create = self._client.chat.completions.with_raw_response.create
            response = await _try(lambda: create(model=self.name, messages=_messages(body), extra_body=_rest(body)))
            content = json.loads(response.http_response.text, parse_constant=_refuse_constant)
        except openai.APIError as error:
            raise refuse_upstream(error) from None
        except (ValueError, RecursionError):
            raise refuse_upstream(None) from None
        choices = cast("dict[str, object]", content).get("choices") if isinstance(content, dict) else None
        if not isinstance(choices, list) or not choices:
            raise refuse_upstream(None)
        return cast("dict[str, object]", content)

    @asynccontextmanager
    async def stream(self, body: dict[str, object]) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
        """Yield the lines of its reply as they come. Leaving the block ends the request there.

        Raises:
            Refused: there is no reply, or it is not a stream, tells of an error, or breaks off.
        """
        create = self._client.chat.completions.with_streaming_response.create
        try:
            async with AsyncExitStack() as stack:
                response = await _try(
                    lambda: stack.enter_async_context(
                        create(model=self.name, messages=_messages(body), extra_body=_rest(body))
                    )
                )
                if "event-stream" not in response.headers.get("content-type", ""):
                    raise refuse_upstream(None)

                async def read_lines() -> AsyncGenerator[bytes, None]:
                    end = _StreamEnd()
                    try:
                        async for line in split_lines(response.iter_bytes()):
                            end.look_for(line)
                            yield f"{line}\n".encode()
                    except openai.APIError as error:
                        raise refuse_upstream(error) from None
                    except Refused:
                        raise
                    except Exception as error:  # the HTTP library's own, when a reply breaks off
                        is_late = "Timeout" in type(error).__name__
                        kind = openai.APITimeoutError if is_late else openai.APIConnectionError
                        raise refuse_upstream(kind(request=response.http_request)) from error
                    if not end.is_found:
                        raise refuse_upstream(openai.APIConnectionError(request=response.http_request))

                yield read_lines()
        except openai.APIError as error:
            raise refuse_upstream(error) from None


async def _try(ask: Callable[[], Awaitable[Result]]) -> Result:
    """Ask, and again after a fault that may pass. Raises what the last time raises."""
    async for attempt in stamina.retry_context(
        on=lambda error: wait_before_retry(error, PATIENCE_S),
        attempts=ATTEMPTS,
        timeout=None,
        wait_initial=RETRY_WAIT_S,
        wait_jitter=RETRY_WAIT_S / 2,
    ):
        with attempt:
            return await ask()
    raise AssertionError("trying ends with a reply or an exception")


def _messages(body: dict[str, object]) -> list[ChatCompletionMessageParam]:
    return cast("list[ChatCompletionMessageParam]", body["messages"])


def _rest(body: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in body.items() if name not in ("model", "messages", "p2r")}


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


class _StreamEnd:
    """Looks for the end of a stream, which tells a whole reply from one that broke off, and for errors in it."""

    is_found = False

    def look_for(self, line: str) -> None:
        """Look at a line. Raises Refused when it tells of an error, or is not part of a stream."""
        if not line.startswith(EVENT):
            return
        data = line.removeprefix(EVENT).strip()
        self.is_found = self.is_found or data == "[DONE]"
        if data in ("", "[DONE]"):
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            raise refuse_upstream(None) from None
        if not isinstance(event, dict):
            raise refuse_upstream(None)
        content = cast("dict[str, object]", event)
        if content.get("error") or content.get("object") == "error":
            raise Refused(BAD_GATEWAY, f"the model's server failed: {_read_words(content)}", code="upstream_failed")
        choices = content.get("choices")
        for choice in cast("list[object]", choices) if isinstance(choices, list) else []:
            if isinstance(choice, dict) and cast("dict[str, object]", choice).get("finish_reason"):
                self.is_found = True


def _read_words(content: dict[str, object]) -> str:
    """Return what an error says, without addresses and paths."""
    error = content.get("error")
    said = cast("dict[str, object]", error) if isinstance(error, dict) else content
    message = said.get("message") or (error if isinstance(error, str) else None)
    return hide_places(" ".join(message.split())[:300]) if isinstance(message, str) else "it did not say why"
