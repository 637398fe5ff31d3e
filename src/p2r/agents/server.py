"""The MCP server of the tools: their list, and their calls within a server's limits."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic

import mcp.types as protocol
from mcp import MCPError
from mcp.server import Server, ServerRequestContext

from p2r.agents.arguments import Arguments, AskArguments, CropArguments, LookArguments, read_arguments
from p2r.agents.tools import AgentTools, ToolResult
from p2r.errors import count_nouns, excerpt
from p2r.loop import run_apart
from p2r.serving.line import RequestLine
from p2r.serving.refusal import GATEWAY_TIMEOUT, INTERNAL, Refused, refuse_bug
from p2r.serving.settings import Limits
from p2r.version import __version__

_INSTRUCTIONS = (
    "Tools that look at images in detail, also where the whole image is too large to see it. `ask` answers a question "
    "and shows the evidence, `look` only says where the evidence is, and `crop` shows a part at full resolution. "
    "An image that was pasted into the chat must be saved as a file first."
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentTool(Generic[Arguments]):
    """A tool as agents know it.

    arguments: the model of what it takes.
    run: does it. Raises Refused.
    """

    name: str
    title: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Arguments], Awaitable[ToolResult]]

    def describe(self, image_rule: str) -> protocol.Tool:
        """Return its entry in the list of tools. image_rule: what an image must be."""
        schema = self.arguments.model_json_schema()
        schema["properties"]["image"]["description"] = f"The image: {image_rule}."
        hints = protocol.ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
        return protocol.Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=schema,
            annotations=hints,
        )

    async def call(self, given: dict[str, object]) -> ToolResult:
        """Check the arguments, and do it. Raises Refused."""
        return await self.run(read_arguments(self.arguments, given))


def list_tools(tools: AgentTools) -> list[AgentTool[Any]]:
    """Return the tools as agents know them."""
    shown = f"An image in the result has about {tools.shown_pixels:,} pixels at most: crop a smaller part to see more."
    return [
        AgentTool(
            "look",
            "Find the evidence in an image",
            "Find out where in an image the evidence for a question is. Returns boxes with labels, in pixels of the "
            f"image and per mille of it, and the parts cut out at full resolution. {shown}",
            LookArguments,
            tools.look,
        ),
        AgentTool(
            "ask",
            "Ask a question about an image",
            "Ask a question about an image. A vision-language model looks where the evidence is, reads those parts at "
            f"full resolution, and answers. Returns the answer, the reply, the boxes, and the parts. {shown}",
            AskArguments,
            tools.ask,
        ),
        AgentTool(
            "crop",
            "See a part of an image at full resolution",
            f"Cut a part out of an image, at full resolution. No model is asked. {shown}",
            CropArguments,
            tools.crop,
        ),
    ]


def make_server(tools: AgentTools, line: RequestLine, limits: Limits) -> Server[None]:
    """Make the server. It loads the model when it starts, and answers meanwhile."""
    by_name = {tool.name: tool for tool in list_tools(tools)}

    @asynccontextmanager
    async def load_model(_: Server[None]) -> AsyncGenerator[None, None]:
        tools.begin_loading()
        yield

    async def list_all(
        _: ServerRequestContext[None], __: protocol.PaginatedRequestParams | None
    ) -> protocol.ListToolsResult:
        return protocol.ListToolsResult(tools=[tool.describe(tools.image_rule) for tool in by_name.values()])

    async def call(_: ServerRequestContext[None], request: protocol.CallToolRequestParams) -> protocol.CallToolResult:
        tool = by_name.get(request.name)
        if tool is None:
            said = f"there is no tool {excerpt(request.name)}: the tools are {', '.join(by_name)}"
            raise MCPError(protocol.INVALID_PARAMS, said)
        try:
            async with line.place(), line.turn():
                result = await asyncio.wait_for(tool.call(request.arguments or {}), limits.timeout_s)
            return await run_apart(lambda: write_result(result))
        except asyncio.TimeoutError:
            refused = Refused(GATEWAY_TIMEOUT, f"there was no answer within {limits.timeout_s:g} seconds")
        except Refused as error:
            refused = error
        except Exception as error:  # a bug; its words may hold what nobody else may see
            refused = refuse_bug(error)
        if refused.status >= INTERNAL:
            logger.warning("%s: %s (%s)", tool.name, refused.message, refused.detail or refused.code)
        wait_s = refused.retry_after_s
        said = refused.message if wait_s is None else f"{refused.message}: try again in {count_nouns(wait_s, 'second')}"
        return protocol.CallToolResult(content=[protocol.TextContent(type="text", text=said)], is_error=True)

    return Server(
        "perceive-to-reason",
        title="Perceive-to-Reason",
        version=__version__,
        instructions=_INSTRUCTIONS,
        lifespan=load_model,
        on_list_tools=list_all,
        on_call_tool=call,
    )


def write_result(result: ToolResult) -> protocol.CallToolResult:
    """Write a result for an agent: its words as JSON, then its images.

    It has no structured content: where there is some, Claude Code, Codex, and others show it alone, and no image.
    """
    words = protocol.TextContent(type="text", text=json.dumps(result.fields, ensure_ascii=False))
    images = [
        protocol.ImageContent(type="image", data=image.base64, mime_type=f"image/{image.kind}")
        for image in result.images
    ]
    return protocol.CallToolResult(content=[words, *images])
