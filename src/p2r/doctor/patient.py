"""The server under examination, as it stands.

Nothing is retried in another image format and nothing is cached, because that is what is examined. Only optional
settings that the server refuses are left out, as for every model behind a server (`dialect`), and faults that can pass
are asked again. Where a request fails for good, a plain one tells a server that refuses it from one that is gone.
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
from p2r.errors import EndpointError, P2RError, mask_secrets
from p2r.models.profiles import THINKING, family_of
from p2r.models.server.dialect import ServerDialect, build_fields, build_messages, find_losses, reword
from p2r.models.server.errors import RequestFacts, explain, find_cause, message_of, wait_before_retry
from p2r.models.server.faults import NEEDS_TLS, needs_tls
from p2r.models.server.lookup import hint_models
from p2r.models.server.reply import read_prompt_tokens, read_reply

ATTEMPTS = 3
FIRST_WAIT_S = 0.5
TEXT = "Describe the image in one word."
"""The text beside images whose tokens are counted."""


class ServerLost(P2RError):
    """A server that has replied before does not reply to a plain question any more: no check can go on."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """A reply, with what the server says of it.

    num_prompt: tokens of the prompt, as it counts them; None where it does not.
    num_cached: those of them that it took from its cache; None where it does not say.
    logprobs: of the likeliest first tokens that it lists.
    """

    text: str
    num_prompt: int | None
    num_cached: int | None
    logprobs: tuple[float, ...]

    @property
    def answer(self) -> str:
        """Return what follows the thoughts."""
        return self.text.rsplit("</think>", 1)[-1]


class Patient:
    """A model of a server.

    entry: what the server's list of models says about it.
    family: what that or its name tells; None where neither does.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        url: str,
        name: str,
        entry: Mapping[str, object],
        *,
        api_key: str = "",
        timeout_s: float = 300.0,
    ) -> None:
        self.url, self.name, self.entry = mask_secrets(url), name, entry
        self._client, self._address, self._api_key, self._timeout_s = client, url, api_key, timeout_s
        said = (str(each) for each in (entry.get("root"), entry.get("parent"), name))
        self.family = next((found for each in said if (found := family_of(each)) is not None), None)
        self._dialect = ServerDialect("png", thinking="off" if self.family in THINKING else "unsaid")
        self._has_replied = False
        self.num_asked = 0

    def find_losses(self) -> Mapping[str, str]:
        """Say what p2r asks for and this server does not take, by the name of the setting."""
        prompt = Prompt("perceiver", "Be brief.", TEXT, (), "")
        return find_losses(prompt, Decoding(max_new_tokens=1, repetition_penalty=1.05), self._dialect)

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
            ServerLost: there is no reply, nor one to a plain question, where there was one before.
            EndpointError: there is no reply; the message says why.
        """
        try:
            reply = await self._ask(text, images, system, most_tokens, fields)
        except EndpointError as error:
            if self._has_replied:
                try:
                    await self._ask(TEXT, (), "", 1, None)
                except EndpointError:
                    raise ServerLost(error.message, hint=error.hint) from error
            raise
        self._has_replied = True
        return reply

    async def count(self, text: str, images: Sequence[str] = ()) -> int | None:
        """Return the tokens of a prompt, as the server counts them. Raises as `ask`."""
        return (await self.ask(text, images, most_tokens=1)).num_prompt

    async def _ask(
        self,
        text: str,
        images: Sequence[str],
        system: str,
        most_tokens: int,
        fields: Mapping[str, object] | None,
    ) -> RawReply:
        asked = RequestFacts(
            self.url, self.name, len(images), 0, self._timeout_s, self._api_key, "perceiver", most_tokens
        )
        tries = 0
        while True:
            dialect = self._dialect
            try:
                return _read(await self._send(dialect, text, images, system, most_tokens, fields), asked)
            except (openai.APIError, asyncio.TimeoutError) as error:
                better = _reword(dialect, error)
                if better is not None:
                    self._dialect = better
                    continue
                tries += 1
                wait = False if _is_timeout(error) else wait_before_retry(error)
                if tries == ATTEMPTS or wait is False:
                    raise await self._explain(error, asked) from error
                await asyncio.sleep(FIRST_WAIT_S * 2 ** (tries - 1) if wait is True else wait)

    async def _explain(self, error: Exception, asked: RequestFacts) -> EndpointError:
        explained = explain(error, asked)
        if _is_timeout(error):
            explained.hint = "raise `timeout_s`, or look at the server's load"
        elif isinstance(error, openai.RateLimitError):
            explained.hint = "examine it when it has less to do, or with a key that allows more requests"
        elif isinstance(error, openai.APIStatusError):
            if find_cause(message_of(error)) == "unknown model":
                explained.hint = await hint_models(self._client) or explained.hint
        elif await asyncio.to_thread(needs_tls, error, self._address):
            return EndpointError(f"{self.url} speaks TLS", hint=NEEDS_TLS)
        return explained

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
        response = await asyncio.wait_for(create(model=self.name, messages=messages, extra_body=extra), self._timeout_s)
        return response.http_response.text


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, (openai.APITimeoutError, asyncio.TimeoutError))


def _reword(dialect: ServerDialect, error: Exception) -> ServerDialect | None:
    """Return the dialect without an optional setting that the server refuses; None where it refuses something else."""
    if not isinstance(error, openai.APIStatusError) or error.status_code not in (400, 422):
        return None
    better = reword(dialect, message_of(error))
    return better if better is not None and better.transport == dialect.transport else None


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
    listed: list[float] = []
    with contextlib.suppress(KeyError, TypeError):
        num_cached = content["usage"]["prompt_tokens_details"]["cached_tokens"]
    with contextlib.suppress(KeyError, IndexError, TypeError, ValueError):
        likely = content["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        listed = [float(each["logprob"]) for each in likely]
    return RawReply(text, num_prompt, num_cached if isinstance(num_cached, int) else None, tuple(listed))
