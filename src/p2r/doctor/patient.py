"""The server under examination: one request at a time, as it stands.

Nothing is retried in another image format and nothing is cached, because that is what is examined. Only optional
settings that the server refuses are left out, as for every model behind a server (`dialect`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import openai

from p2r.dialogue import Decoding, Prompt
from p2r.errors import EndpointError
from p2r.models.server.dialect import ServerDialect, build_fields, build_messages, reword
from p2r.models.server.errors import RequestFacts, explain, message_of
from p2r.models.server.reply import read_prompt_tokens, read_reply

RETRIES = 2
TEXT = "Describe the image in one word."
"""The text beside images whose tokens are counted."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """A reply, with what the server says of it.

    num_prompt: tokens of the prompt, as it counts them; None where it does not.
    num_cached: those of them that it took from its cache; None where it does not say.
    num_logprobs: the likeliest first tokens that it lists.
    """

    text: str
    num_prompt: int | None
    num_cached: int | None
    num_logprobs: int


class Patient:
    """A model of a server.

    entry: what the server's list of models says about it.
    """

    def __init__(
        self, client: openai.AsyncOpenAI, url: str, name: str, entry: Mapping[str, object], *, timeout_s: float = 300.0
    ) -> None:
        self.url, self.name, self.entry = url, name, entry
        self._client, self._timeout_s = client, timeout_s
        self._dialect = ServerDialect("png")
        self.num_asked = 0

    async def ask(
        self,
        text: str,
        images: Sequence[str] = (),
        *,
        system: str = "",
        most_tokens: int = 256,
        fields: Mapping[str, object] | None = None,
    ) -> RawReply:
        """Ask, greedily.

        Args:
            images: their URLs.
            fields: of the request, beside the usual ones.

        Raises:
            EndpointError: there is no reply; the message says why.
        """
        asked = RequestFacts(self.url, self.name, len(images), 0, self._timeout_s, "", max_new_tokens=most_tokens)
        while True:
            dialect = self._dialect
            try:
                body = await self._send(dialect, text, images, system, most_tokens, fields)
                return _read(body, asked)
            except openai.APIStatusError as error:
                better = reword(dialect, message_of(error)) if error.status_code in (400, 422) else None
                if better is None or better.transport != dialect.transport:
                    raise explain(error, asked) from error
                self._dialect = better
            except (openai.APIError, asyncio.TimeoutError) as error:
                raise explain(error, asked) from error

    async def count(self, text: str, images: Sequence[str] = ()) -> int | None:
        """Return the tokens of a prompt, as the server counts them. Raises as `ask`."""
        return (await self.ask(text, images, most_tokens=1)).num_prompt

    async def _send(
        self,
        dialect: ServerDialect,
        text: str,
        images: Sequence[str],
        system: str,
        most_tokens: int,
        fields: Mapping[str, object] | None,
    ) -> str:
        prompt = Prompt("perceiver", system, text, (), "")
        messages = build_messages(prompt, (), system=dialect.system)
        content = cast("list[object]", messages[-1]["content"])  # pyright: ignore[reportTypedDictNotRequiredAccess]
        content[:0] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
        extra = {**build_fields(Decoding(max_new_tokens=most_tokens), dialect), **(fields or {})}
        self.num_asked += 1
        create = self._client.chat.completions.with_raw_response.create
        response = await asyncio.wait_for(
            create(model=self.name, messages=messages, extra_body=extra), self._timeout_s * (RETRIES + 1)
        )
        return response.http_response.text


def _read(body: str, asked: RequestFacts) -> RawReply:
    num_prompt = read_prompt_tokens(body)
    try:
        text = read_reply(body, asked).text
    except EndpointError:
        if asked.max_new_tokens > 1 or num_prompt is None:
            raise
        text = ""  # one token, asked for to count the prompt, may hold no text
    content = json.loads(body)
    num_cached: object = None
    listed: list[object] = []
    with contextlib.suppress(KeyError, TypeError):
        num_cached = content["usage"]["prompt_tokens_details"]["cached_tokens"]
    with contextlib.suppress(KeyError, IndexError, TypeError):
        listed = content["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return RawReply(text, num_prompt, num_cached if isinstance(num_cached, int) else None, len(listed))
