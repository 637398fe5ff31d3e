"""Hand a request on to the server of the model as it is, and its reply back as it is."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import openai
from openai.types.chat import ChatCompletionMessageParam

from p2r.serving.refusal import hide_places, refuse_upstream

RETRIES = 2
CONNECT_TIMEOUT_S = 10.0


class Upstream:
    """The server of a model.

    Args:
        url: the base of its API. name: its model. api_key: of that server, never a client's.
    """

    def __init__(self, url: str, name: str, api_key: str, *, timeout_s: float) -> None:
        self.name = name
        timeout = openai.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
        self._client = openai.AsyncOpenAI(base_url=url, api_key=api_key or "none", max_retries=RETRIES, timeout=timeout)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def ask(self, body: dict[str, object]) -> dict[str, object]:
        """Return its reply. Faults that may pass are tried again.

        Raises:
            Refused: there is no usable reply.
        """
        try:
            response = await self._client.chat.completions.with_raw_response.create(
                model=self.name, messages=_messages(body), extra_body=_rest(body)
            )
            content = json.loads(response.http_response.text)
        except openai.APIError as error:
            raise refuse_upstream(error) from None
        except ValueError:
            raise refuse_upstream(None) from None
        if not isinstance(content, dict) or not cast("dict[str, object]", content).get("choices"):
            raise refuse_upstream(None)
        return cast("dict[str, object]", content)

    @asynccontextmanager
    async def stream(self, body: dict[str, object]) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
        """Yield the lines of its reply as they come. Leaving the block ends the request there.

        Raises:
            Refused: there is no reply, or it breaks off.
        """
        create = self._client.chat.completions.with_streaming_response.create
        try:
            async with create(model=self.name, messages=_messages(body), extra_body=_rest(body)) as response:

                async def read_lines() -> AsyncGenerator[bytes, None]:
                    try:
                        async for line in response.iter_lines():
                            yield f"{hide_error(line)}\n".encode()
                    except openai.APIError as error:
                        raise refuse_upstream(error) from None
                    except Exception as error:  # the HTTP library's own, when a reply breaks off
                        is_late = "Timeout" in type(error).__name__
                        kind = openai.APITimeoutError if is_late else openai.APIConnectionError
                        raise refuse_upstream(kind(request=response.http_request)) from error

                yield read_lines()
        except openai.APIError as error:
            raise refuse_upstream(error) from None


def _messages(body: dict[str, object]) -> list[ChatCompletionMessageParam]:
    return cast("list[ChatCompletionMessageParam]", body["messages"])


def _rest(body: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in body.items() if name not in ("model", "messages", "p2r")}


def hide_error(line: str) -> str:
    """Return a line of a stream, an error in it without addresses and paths."""
    return hide_places(line) if line.startswith('data: {"error"') else line
