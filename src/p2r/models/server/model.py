"""A model behind any OpenAI-compatible chat server: vLLM, SGLang, llama.cpp, LM Studio, `transformers serve`, hosted
ones.

Images are sent without loss (`transport`); transport faults are retried a few times (a 4xx never is); at most
`concurrency` requests are under way; a server's dialect is learned (`dialect`); and a server that looks at other pixels
than were sent is noticed (`token_check`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import openai
import stamina

from p2r.dialogue import Decoding, ModelProfile, Prompt, visual_tokens
from p2r.errors import ConfigError, EndpointError, mask_secrets
from p2r.models.checkpoint import served_profile
from p2r.models.profiles import FamilyName
from p2r.models.server.dialect import Dialect, build_fields, build_messages, find_losses, offer_next_format, reword
from p2r.models.server.errors import RequestFacts, explain, find_cause, message_of, wait_before_retry
from p2r.models.server.faults import HUNG_UP, NEEDS_TLS, find_fault, needs_tls
from p2r.models.server.lookup import LOOKUP_TIMEOUT_S, find_model, model_names
from p2r.models.server.reply import ServerReply, read_reply
from p2r.models.server.token_check import TokenCheck
from p2r.models.server.transport import Transport, choose_transport, image_urls
from p2r.types import Completion, Frame, Usage

ATTEMPTS = 4
LONGEST_WAIT_S = 8.0

logger = logging.getLogger(__name__)
# An error reports a fault that retries do not cure; without a handler each retry would print a bare line as well.
logging.getLogger("stamina").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class _Line:
    """A client and its free slots, for one event loop."""

    client: openai.AsyncOpenAI
    slots: asyncio.Semaphore


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
        retry_wait_s: float = 0.5,
    ) -> None:
        self.url, self.name, self.profile = mask_secrets(url), name, profile
        self._address = url
        self._api_key = api_key
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._retry_wait_s = retry_wait_s
        self._transport = choose_transport(url, transport)
        self._dialect = Dialect(self._transport)
        self._read_formats: set[Transport] = set()
        self._speaks_http = False
        self._told: set[str] = set()
        self._token_check = TokenCheck(self.url)
        self._lines: dict[asyncio.AbstractEventLoop, tuple[_Line, AsyncGenerator[_Line, None]]] = {}

    @classmethod
    def connect(
        cls,
        spec: str,
        *,
        family: FamilyName | None = None,
        frame: Frame | None = None,
        max_pixels: int | None = None,
        concurrency: int = 16,
        timeout_s: float = 300.0,
        api_key: str | None = None,
        transport: Transport = "auto",
        retry_wait_s: float = 0.5,
    ) -> EndpointModel:
        """Connect to a server's model: "http://localhost:8000/v1#model".

        With a model's name nothing is sent yet. Without one, the server is asked and must have exactly one model. A URL
        without a path means /v1.

        Args:
            family: the model's family, where its name does not tell.
            frame: the frame in which it writes boxes, in place of the family's.
            max_pixels: most pixels per image, in place of the profile's.
            concurrency: most requests under way at a time.
            timeout_s: longest wait for a reply.
            api_key: OPENAI_API_KEY when None.
            transport: how images are sent; see `transport.Transport`.
            retry_wait_s: wait before the first retry, doubled for each further one.

        Raises:
            EndpointError: the server is asked and does not answer, or has several models.
            ConfigError: an argument is not usable.
        """
        url, _, name = spec.partition("#")
        url = url[:8].lower() + url[8:].rstrip("/")
        if re.fullmatch(r"https?://[^/\s]+(/\S*)?", url) is None or not _has_port(url):
            raise ConfigError(
                f"{url!r} is not the URL of a server", hint="a URL is written as http://localhost:8000/v1#model"
            )
        key = os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key
        if not name:
            url, name = find_model(url, key, min(timeout_s, LOOKUP_TIMEOUT_S))
        elif re.fullmatch(r"https?://[^/]+", url):
            url += "/v1"
        return cls(
            url,
            name,
            served_profile(name, family=family, frame=frame, max_pixels=max_pixels),
            api_key=key,
            concurrency=concurrency,
            timeout_s=timeout_s,
            transport=transport,
            retry_wait_s=retry_wait_s,
        )

    @property
    def dialect(self) -> Dialect:
        """The dialect that the server is known to understand so far."""
        return self._dialect

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Reply to a prompt.

        Raises:
            EndpointError: there is no usable reply; the message says why, in the server's words if it gave any.
        """
        tokens = visual_tokens(prompt.all_images, self.profile.budget.factor)
        asked = RequestFacts(self.url, self.name, len(prompt.all_images), sum(tokens), self._timeout_s, self._api_key)
        line = await self._line()
        async with line.slots:
            started = time.perf_counter()
            reply, reworded = await self._ask(line.client, prompt, decoding, asked)
            seconds = time.perf_counter() - started
        text = prompt.system + "".join(turn.text for turn in prompt.turns)
        self._token_check.compare(text, tokens, reply.prompt_tokens)
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
        )

    async def _ask(
        self, client: openai.AsyncOpenAI, prompt: Prompt, decoding: Decoding, asked: RequestFacts
    ) -> tuple[ServerReply, tuple[str, ...]]:
        """Send the request, reworded until the server understands it. Returns also which settings were lost by that."""
        while True:
            dialect = self._dialect
            try:
                body = await self._send(client, prompt, decoding, dialect)
                if prompt.all_images:
                    self._read_formats.add(dialect.transport)
                reply = read_reply(body, asked, decoding.first_words)
                return reply, self._tell_losses(find_losses(prompt, decoding, dialect))
            except openai.APIStatusError as error:
                if self._learn(dialect, error, bool(prompt.all_images)):
                    continue
                if not self._read_formats:  # no format was better
                    self._dialect = replace(self._dialect, transport=self._transport)
                unknown = find_cause(message_of(error)) == "unknown model"
                hint = await self._list_models(client) if unknown else ""
                explained = explain(error, asked)
                raise EndpointError(explained.message, hint=hint or explained.hint) from error
            except (openai.APIError, asyncio.TimeoutError) as error:
                raise explain(error, asked) from error

    async def _send(self, client: openai.AsyncOpenAI, prompt: Prompt, decoding: Decoding, dialect: Dialect) -> str:
        """Return the body of the response. Transport faults are retried; the last one is raised."""

        def wait(error: Exception) -> bool | float:
            return not self._may_be_the_format(error, dialect, bool(prompt.all_images)) and wait_before_retry(error)

        with contextlib.ExitStack() as stack:
            urls = await asyncio.to_thread(stack.enter_context, image_urls(prompt.all_images, dialect.transport))
            messages = build_messages(prompt, urls, system=dialect.system)
            fields = build_fields(decoding, dialect)
            async for attempt in stamina.retry_context(
                on=wait,
                attempts=ATTEMPTS,
                timeout=2 * self._timeout_s,
                wait_initial=self._retry_wait_s,
                wait_max=LONGEST_WAIT_S,
                wait_jitter=self._retry_wait_s / 2,
            ):
                with attempt:
                    create = client.chat.completions.with_raw_response.create
                    call = create(model=self.name, messages=messages, extra_body=fields)
                    try:
                        response = await asyncio.wait_for(call, self._timeout_s)
                    except openai.APIConnectionError as error:
                        if await self._needs_tls(error):
                            raise EndpointError(f"{self.url} speaks TLS", hint=NEEDS_TLS) from error
                        raise
                    self._speaks_http = True
                    return response.http_response.text
        raise AssertionError("retrying ends with a response or an exception")

    async def _needs_tls(self, error: Exception) -> bool:
        """Tell whether a server that has hung up speaks TLS. One that has replied, or was asked this, is not asked."""
        if self._speaks_http or find_fault(error) is not HUNG_UP:
            return False
        self._speaks_http = not await asyncio.to_thread(needs_tls, error, self._address)
        return not self._speaks_http

    def _learn(self, dialect: Dialect, error: openai.APIStatusError, has_images: bool) -> bool:
        """Tell whether it is worth asking again in another dialect than `dialect` after a refusal."""
        if error.status_code in (400, 422):
            better = reword(dialect, message_of(error))
        elif self._may_be_the_format(error, dialect, has_images):
            better = offer_next_format(dialect)
        else:
            return False
        if self._dialect == dialect and better is not None:  # else another call has found a better one meanwhile
            self._dialect = better
        return self._dialect != dialect

    def _may_be_the_format(self, error: Exception, dialect: Dialect, has_images: bool) -> bool:
        """Tell whether a 500 may mean that the server cannot read the images: some fail on a format silently."""
        return (
            has_images
            and dialect.transport not in self._read_formats
            and isinstance(error, openai.InternalServerError)
            and error.status_code == 500
            and find_cause(message_of(error)) is None
            and offer_next_format(dialect) is not None
        )

    def _tell_losses(self, losses: Mapping[str, str]) -> tuple[str, ...]:
        """Warn once of each setting that the server does not take, and return their names."""
        for name, sentence in losses.items():
            if name not in self._told:
                self._told.add(name)
                logger.warning("%s %s", self.url, sentence)
        return tuple(losses)

    async def _list_models(self, client: openai.AsyncOpenAI) -> str:
        """Return a hint with the server's models; "" when the server does not list them."""
        with contextlib.suppress(openai.APIError, asyncio.TimeoutError):
            listing = await asyncio.wait_for(client.models.with_raw_response.list(), LOOKUP_TIMEOUT_S)
            if names := model_names(listing.http_response.text):
                return f"it has {', '.join(names[:20])}"
        return ""

    async def _line(self) -> _Line:
        """Return the client of the running event loop: connections cannot move from one loop to another."""
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            held = self._hold_line(loop)
            self._lines[loop] = await anext(held), held
        return self._lines[loop][0]

    async def _hold_line(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[_Line, None]:
        """Yield a line that is closed with its loop: `asyncio.run` ends open generators before it closes the loop."""
        timeout = openai.Timeout(self._timeout_s, connect=min(LOOKUP_TIMEOUT_S, self._timeout_s))
        async with openai.AsyncOpenAI(
            base_url=self._address, api_key=self._api_key or "none", max_retries=0, timeout=timeout
        ) as client:
            try:
                yield _Line(client, asyncio.Semaphore(self._concurrency))
            finally:
                del self._lines[loop]


def _has_port(url: str) -> bool:
    """Tell whether the port of a URL can be one, where it names one."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False
