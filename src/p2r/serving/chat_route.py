"""POST /v1/chat/completions: which way a request takes, and its reply, whole or as a stream.

A chat with an image is answered by a walk. One without, or one that names the model itself, is the model's: handed on
to its server as it is, or asked in this process.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from p2r.loop import run_apart
from p2r.modes import CHATS, AskMode, Mode
from p2r.serving.answering import Looked, ServedModel, cut_at
from p2r.serving.chat import Chat, read_chat
from p2r.serving.exchange import DONE, Outlet
from p2r.serving.images import ImageReader
from p2r.serving.line import RequestLine
from p2r.serving.metrics import Metrics
from p2r.serving.pieces import ShownText, find_before_stop, find_thought
from p2r.serving.raw_body import check_raw, has_images
from p2r.serving.reply import (
    JsonObject,
    Replier,
    describe_look,
    describe_walk,
    list_all_calls,
    sum_usage,
    write_answer,
    write_event,
)
from p2r.serving.request import ChatRequest, ImageContent, read_model, read_request
from p2r.serving.settings import Limits
from p2r.serving.upstream import Upstream

UNTOLD: frozenset[Mode] = frozenset({*CHATS, "direct"})
"""Modes whose reasoning is told at the end: it has no tags, or the first reply may not be the one that answers."""


@dataclass(frozen=True, slots=True)
class ChatRoute:
    """Answers chats.

    upstream: the server of the model; None for a model in this process.
    """

    served: ServedModel
    reader: ImageReader
    line: RequestLine
    limits: Limits
    metrics: Metrics
    upstream: Upstream | None = None

    async def answer(self, outlet: Outlet, body: JsonObject) -> None:
        """Answer the chat in a body, to whatever takes the reply. Raises Refused or P2RError when there is none."""
        mode = self.served.find_mode(read_model(body))
        if self.upstream is not None and (mode is None or not has_images(body)):
            async with self.line.turn():
                await run_apart(partial(check_raw, body, self.reader))
                await self._hand_on(outlet, body, self.upstream)
            return
        request = await run_apart(partial(read_request, body, self.limits))
        body.clear()  # its images are in the request, too
        async with self.line.turn():
            chat = await run_apart(partial(self._read_chat, request))
            mode = mode if chat.images else None
            self.served.check_boxes(request, mode)
            if mode is None:
                await self._reply(outlet, request, chat)
            else:
                await self._walk(outlet, request, chat, mode)

    def _read_chat(self, request: ChatRequest) -> Chat:
        """Read the images and the texts. It may wait for hosts, and so runs apart from what all requests share."""
        urls = [
            part.image_url.url for each in request.messages for part in each.parts if isinstance(part, ImageContent)
        ]
        return read_chat(request.messages, self.reader.read(urls), self.limits)

    async def _walk(self, outlet: Outlet, request: ChatRequest, chat: Chat, mode: AskMode) -> None:
        replier, thinking = Replier(request.model), ShownText(find_thought)

        async def send(delta: JsonObject, look: JsonObject | None = None) -> None:
            chunk = replier.chunk(delta, look=look, usage=request.wants_usage)
            await outlet.send_event(write_event(chunk))

        async def send_look(look: Looked) -> None:
            if request.stream:
                await send({"role": "assistant", "content": ""}, describe_look(look))

        async def send_thought(piece: str) -> None:
            if shown := thinking.add(piece):
                await send({"reasoning_content": shown})

        is_told = request.stream and mode not in UNTOLD
        answer = await self.served.answer(
            request,
            chat,
            mode,
            most_new_tokens=self.limits.new_tokens,
            on_look=send_look,
            on_text=send_thought if is_told else None,
        )
        self.metrics.count_walk(answer)
        content, thought, finish = write_answer(answer, request.stops)
        usage = sum_usage(list_all_calls(answer.trace))
        if not request.stream:
            look = await asyncio.to_thread(describe_walk, answer, with_trace=request.p2r.trace)
            await outlet.send_json(replier.write(content, thought, finish, usage, look))
            return
        if rest := thinking.end_with(thought):
            await send({"reasoning_content": rest})
        await send({"content": content})
        look = await asyncio.to_thread(describe_walk, answer, with_trace=request.p2r.trace)  # images take a while
        await self._end_stream(outlet, request, replier, finish, usage, look)

    async def _reply(self, outlet: Outlet, request: ChatRequest, chat: Chat) -> None:
        """Ask the model in this process, with the chat as it is."""
        replier, text = Replier(request.model), ShownText(find_before_stop(request.stops))
        has_begun = False

        async def send(shown: str) -> None:
            nonlocal has_begun
            delta: JsonObject = {"content": shown} if has_begun else {"role": "assistant", "content": shown}
            has_begun = True
            await outlet.send_event(write_event(replier.chunk(delta, usage=request.wants_usage)))

        async def send_piece(piece: str) -> None:
            if shown := text.add(piece):
                await send(shown)

        completion = await self.served.reply(request, chat, send_piece if request.stream else None)
        self.metrics.count_tokens(completion)
        content = cut_at(completion.text, request.stops)
        finish = completion.finish_reason if content == completion.text else "stop"
        usage = sum_usage([completion])
        if not request.stream:
            await outlet.send_json(replier.write(content, "", finish, usage, None))
            return
        rest = text.end_with(content)
        if rest or not has_begun:
            await send(rest)
        await self._end_stream(outlet, request, replier, finish, usage, None)

    async def _end_stream(
        self,
        outlet: Outlet,
        request: ChatRequest,
        replier: Replier,
        finish: str,
        usage: JsonObject,
        look: JsonObject | None,
    ) -> None:
        last = replier.chunk({}, finish=finish, look=look, usage=request.wants_usage)
        await outlet.send_event(write_event(last))
        if request.wants_usage:
            await outlet.send_event(write_event(replier.last_chunk(usage)))
        await outlet.send_event(write_event(DONE))
        await outlet.end_stream()

    async def _hand_on(self, outlet: Outlet, body: JsonObject, upstream: Upstream) -> None:
        if body.get("stream") is not True:
            await outlet.send_json(await upstream.ask(body))
            return
        async with upstream.stream(body) as lines, aclosing(lines):
            async for line in lines:
                await outlet.send_event(line)
        await outlet.end_stream()
