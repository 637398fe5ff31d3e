"""A model behind any OpenAI-compatible chat server: vLLM, SGLang, llama.cpp, `transformers serve`, hosted ones.

Images are sent without loss (`transport`); transport faults are retried a few times (a 4xx never is); at most
`concurrency` requests are under way; a server's dialect is learned (`dialect`); and a server that looks at other images
than were sent is noticed (`token_check`). For that a near server is asked once for each text, without images, and for
one token: a reply to images that it has altered is a failure. From a server that is far, or that serves a model of an
unknown family, the finding is a guess and only recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import openai
import stamina

from p2r.dialogue import Decoding, ModelProfile, Prompt, visual_tokens
from p2r.errors import EndpointError, mask_secrets
from p2r.models.profiles import FAMILIES, THINKING, FamilyName
from p2r.models.server.begun import check_begun
from p2r.models.server.connections import Connection, Connections
from p2r.models.server.dialect import (
    ServerDialect,
    build_fields,
    build_messages,
    check_placeholder,
    find_losses,
    may_be_the_format,
    offer_next_format,
    reword,
)
from p2r.models.server.errors import RequestFacts, explain, find_cause, message_of, wait_before_retry
from p2r.models.server.faults import HUNG_UP, NEEDS_TLS, find_fault, needs_tls
from p2r.models.server.lookup import LOOKUP_TIMEOUT_S, find_model, find_root, hint_models, read_address
from p2r.models.server.profile import served_profile
from p2r.models.server.reply import ServerReply, read_prompt_tokens, read_reply
from p2r.models.server.streaming import Pieces, Wish, ask_once
from p2r.models.server.token_check import ImageCheck, TokenCheck, explain_alteration, explain_guess, read_image_check
from p2r.models.server.transport import Transport, choose_transport, image_urls, is_near
from p2r.types import Alteration, Completion, Frame, Usage

ATTEMPTS = 4
LONGEST_WAIT_S = 8.0
ONE_TOKEN = Decoding(max_new_tokens=1)

logger = logging.getLogger(__name__)
# An error reports a fault that retries do not cure; without a handler each retry would print a bare line as well.
logging.getLogger("stamina").addHandler(logging.NullHandler())


class EndpointModel:
    """A model behind a server. Build it with `EndpointModel.connect`."""

    def __init__(
        self,
        url: str,
        name: str,
        profile: ModelProfile,
        *,
        api_key: str = "",
        concurrency: int = 16,
        timeout_s: float = 300.0,
        transport: Transport = "auto",
        image_check: ImageCheck = "auto",
        retry_wait_s: float = 0.5,
        patience_s: float = math.inf,
    ) -> None:
        self.url, self.name, self.profile = mask_secrets(url), name, profile
        self._address = url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._retry_wait_s, self._patience_s = retry_wait_s, patience_s
        self._transport = choose_transport(url, transport)
        self._dialect = ServerDialect(self._transport, thinking="off" if profile.family in THINKING else "unsaid")
        self._read_formats: set[Transport] = set()
        self._speaks_http = False
        self._told: set[str] = set()
        self._token_check = TokenCheck(self.url)
        is_sure = is_near(url) and profile.family in FAMILIES
        self._counts_texts = read_image_check(image_check) == "always" or (image_check == "auto" and is_sure)
        self._connections = Connections(url, api_key, concurrency=concurrency, timeout_s=timeout_s)

    @classmethod
    def connect(
        cls,
        spec: str,
        *,
        profile: str | None = None,
        family: FamilyName | None = None,
        frame: Frame | None = None,
        max_pixels: int | None = None,
        concurrency: int = 16,
        timeout_s: float = 300.0,
        api_key: str | None = None,
        transport: Transport = "auto",
        image_check: ImageCheck = "auto",
        retry_wait_s: float = 0.5,
        patience_s: float = math.inf,
    ) -> EndpointModel:
        """Connect to a server's model: "http://localhost:8000/v1#model".

        The server is asked for its models. Without a name it must have exactly one; with a name it need not answer yet.
        A URL without a path means /v1.

        Args:
            profile: the model that is served, as a checkpoint's folder, a hub id or a short name, where neither the
                server nor the name tells; see `served_profile`.
            family: the model's family, where its name does not tell.
            frame: the frame in which it writes boxes, in place of the family's.
            max_pixels: most pixels per image, in place of the profile's.
            concurrency: most requests under way at a time.
            timeout_s: longest wait for a reply.
            api_key: OPENAI_API_KEY when None.
            transport: how images are sent; see `transport.Transport`.
            image_check: "always" fails a reply to images that the server has altered (it is asked once for each text
                without images); "auto" does so for a near server of a known family. Else findings are only recorded.
            retry_wait_s: wait before the first retry, doubled for each further one.
            patience_s: a server that asks for a longer wait before a retry is not asked again.

        Raises:
            EndpointError: no name is given, and the server does not answer or has several models.
            ConfigError: an argument is not usable.
        """
        url, name = read_address(spec)
        key = os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key
        if not name:
            url, name = find_model(url, key, min(timeout_s, LOOKUP_TIMEOUT_S))
        root = find_root(url, name, key, min(timeout_s, LOOKUP_TIMEOUT_S))
        return cls(
            url,
            name,
            served_profile(name, root=root, stated=profile, family=family, frame=frame, max_pixels=max_pixels),
            api_key=key,
            concurrency=concurrency,
            timeout_s=timeout_s,
            transport=transport,
            image_check=image_check,
            retry_wait_s=retry_wait_s,
            patience_s=patience_s,
        )

    @property
    def dialect(self) -> ServerDialect:
        """The dialect that the server is known to understand so far."""
        return self._dialect

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Reply to a prompt.

        Raises:
            DataError: the text holds the placeholder of an image.
            EndpointError: there is no usable reply; the message says why, in the server's words if it gave any.
            UnseenImageError: (an EndpointError) the server has altered the images.
        """
        return await self._reply(prompt, decoding, None)

    async def stream(self, prompt: Prompt, decoding: Decoding, on_text: Callable[[str], None]) -> Completion:
        """Reply as `complete` does, and tell the text as it comes. What has begun to come is not asked for again.

        Raises as `complete` does.
        """
        pieces = Pieces(on_text, prompt.begun_text, decoding.stop)
        return await self._reply(prompt, decoding, None if decoding.first_words else pieces)

    async def _reply(self, prompt: Prompt, decoding: Decoding, pieces: Pieces | None) -> Completion:
        text = prompt.system + "".join(turn.text for turn in prompt.turns)
        check_placeholder(text)
        tokens = visual_tokens(prompt.all_images, self.profile.budget.factor)
        facts = self.url, self.name, len(prompt.all_images), sum(tokens), self._timeout_s, self._api_key
        asked = RequestFacts(*facts, prompt.role, decoding.max_new_tokens)
        connection = await self._connections.get()
        async with connection.slots:
            started = time.perf_counter()
            reply, reworded = await self._ask(connection.client, Wish(prompt, decoding, pieces), asked)
            seconds = time.perf_counter() - started
            if prompt.begun is not None:
                count = partial(self._count_tokens, connection.client)
                await check_begun(self.url, partial(connection.text_counts.find, ask=count), self._tell_losses)
            altered = await self._compare_images(connection, prompt, text, tokens, reply.prompt_tokens)
        return Completion(
            text=reply.text,
            finish_reason=reply.finish_reason,
            model=self.name,
            usage=Usage(
                visual_tokens=tokens, prompt_tokens=reply.prompt_tokens, generated_tokens=reply.generated_tokens
            ),
            seconds=seconds,
            first_probs=reply.first_probs,
            reworded=reworded,
            altered=altered,
        )

    async def _compare_images(
        self, connection: Connection, prompt: Prompt, text: str, tokens: tuple[int, ...], prompt_tokens: int | None
    ) -> Alteration:
        """Compare the tokens that the server counts with those that were sent.

        Raises UnseenImageError where they differ and the text's tokens are known, so that it is sure.
        """
        count: int | None = None
        if self._counts_texts and tokens and prompt_tokens:
            count = await connection.text_counts.find(prompt, partial(self._count_tokens, connection.client))
        if self._counts_texts and tokens and count is None:
            self._tell_losses(explain_guess(prompt_tokens))
        altered = self._token_check.compare(text, tokens, prompt_tokens, count)
        if altered and count is not None and prompt_tokens is not None:
            raise explain_alteration(
                self.url, altered, prompt.images, num_sent=sum(tokens), num_seen=prompt_tokens - count
            )
        return altered

    async def _count_tokens(self, client: openai.AsyncOpenAI, prompt: Prompt) -> int | None:
        """Return the tokens that the server counts for a prompt; None where it does not tell."""
        with contextlib.suppress(openai.APIError, asyncio.TimeoutError, EndpointError):
            return read_prompt_tokens(await self._send(client, Wish(prompt, ONE_TOKEN), self._dialect))
        return None

    async def _ask(
        self, client: openai.AsyncOpenAI, wish: Wish, asked: RequestFacts
    ) -> tuple[ServerReply, tuple[str, ...]]:
        """Send the request, reworded until the server understands it. Returns also which settings were lost by that."""
        prompt, decoding = wish.prompt, wish.decoding
        while True:
            dialect = self._dialect
            try:
                body = await self._send(client, wish, dialect)
                if prompt.all_images:
                    self._read_formats.add(dialect.transport)
                reply = read_reply(body, asked, decoding.first_words, decoding.stop, prompt.begun_text)
                losses = find_losses(prompt, decoding, dialect, guessed_stop=reply.guessed_stop)
                return reply, self._tell_losses(losses)
            except openai.APIStatusError as error:
                if self._learn(dialect, error, prompt):
                    continue
                if not self._read_formats:  # no format was better
                    self._dialect = replace(self._dialect, transport=self._transport)
                unknown = find_cause(message_of(error)) == "unknown model"
                hint = await hint_models(client) if unknown else ""
                explained = explain(error, asked)
                raise EndpointError(explained.message, hint=hint or explained.hint) from error
            except (openai.APIError, asyncio.TimeoutError) as error:
                raise explain(error, asked) from error

    async def _send(self, client: openai.AsyncOpenAI, wish: Wish, dialect: ServerDialect) -> str:
        """Return the body of the response. Transport faults are retried; the last one is raised."""
        prompt, pieces = wish.prompt, wish.pieces

        def wait(error: Exception) -> bool | float:
            if (pieces and pieces.has_begun) or may_be_the_format(error, prompt, dialect, self._read_formats):
                return False
            return wait_before_retry(error, self._patience_s)

        with contextlib.ExitStack() as stack:
            urls = await asyncio.to_thread(stack.enter_context, image_urls(prompt.all_images, dialect.transport))
            messages = build_messages(prompt, urls, system=dialect.system)
            fields = build_fields(wish.decoding, dialect, begun=prompt.begun is not None)
            async for attempt in stamina.retry_context(
                on=wait,
                attempts=ATTEMPTS,
                timeout=2 * self._timeout_s,
                wait_initial=self._retry_wait_s,
                wait_max=LONGEST_WAIT_S,
                wait_jitter=self._retry_wait_s / 2,
            ):
                with attempt:
                    call = ask_once(client, self.name, messages, fields, pieces)
                    try:
                        body = await asyncio.wait_for(call, self._timeout_s)
                    except openai.APIConnectionError as error:
                        if await self._needs_tls(error):
                            raise EndpointError(f"{self.url} speaks TLS", hint=NEEDS_TLS) from error
                        raise
                    self._speaks_http = True
                    return body
        raise AssertionError("retrying ends with a response or an exception")

    async def _needs_tls(self, error: Exception) -> bool:
        """Tell whether a server that has hung up speaks TLS. One that has replied, or was asked this, is not asked."""
        if self._speaks_http or find_fault(error) is not HUNG_UP:
            return False
        self._speaks_http = not await asyncio.to_thread(needs_tls, error, self._address)
        return not self._speaks_http

    def _learn(self, dialect: ServerDialect, error: openai.APIStatusError, prompt: Prompt) -> bool:
        """Tell whether it is worth asking again in another dialect than `dialect` after a refusal."""
        if error.status_code in (400, 422):
            better = reword(dialect, message_of(error))
        elif may_be_the_format(error, prompt, dialect, self._read_formats):
            better = offer_next_format(dialect)
        else:
            return False
        if self._dialect == dialect and better is not None:  # else another call has found a better one meanwhile
            self._dialect = better
        return self._dialect != dialect

    def _tell_losses(self, losses: Mapping[str, str]) -> tuple[str, ...]:
        """Warn once of each thing that the server does not do, and return their names."""
        for name, sentence in losses.items():
            if name not in self._told:
                self._told.add(name)
                logger.warning("%s %s", self.url, sentence)
        return tuple(losses)
