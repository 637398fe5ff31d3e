"""`p2r mcp`: tools for agents, on stdin and stdout or over HTTP."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli.guard import report
from p2r.cli.options import (
    DEFAULT_TIMEOUT_S,
    BoxFrame,
    Device,
    Dtype,
    EngineArgs,
    Family,
    ImageChecking,
    ImageTransport,
    MaxPixels,
    PerceiverProfile,
    PerceiverSpec,
    Profile,
    Wording,
)
from p2r.cli.served import (
    LIMITS,
    WHO,
    AllowHost,
    AllowImageHost,
    AllowOrigin,
    Host,
    KeysFile,
    MaxImagePixels,
    NumServed,
    Port,
    RequestTimeoutS,
    Served,
    UpstreamUrl,
    check_installed,
    log_requests,
    make_access,
    name_of,
    plan_served,
    read_spec,
    warn_of_strangers,
)

if TYPE_CHECKING:
    from p2r.serving.answering import ServedModel

logger = logging.getLogger(__name__)
NEEDED = ("mcp", "fastapi", "uvicorn")

MCP_EXAMPLES = """
**Examples**

- `claude mcp add p2r -- p2r mcp --image-folder ~/photos` (Claude Code; docs/guides/mcp.md shows other clients)

- `p2r mcp --model p2r-4b` (on stdin and stdout; images below the working directory)

- `p2r mcp --http --image-folder ~/photos` (at http://127.0.0.1:8401/mcp)
"""


def mcp(
    model: Served = None,
    upstream: UpstreamUrl = None,
    perceiver_model: PerceiverSpec = None,
    prompts: Wording = "release",
    profile: Profile = None,
    perceiver_profile: PerceiverProfile = None,
    family: Family = None,
    frame: BoxFrame = None,
    max_pixels: MaxPixels = None,
    device: Device = None,
    dtype: Dtype = None,
    transport: ImageTransport = "auto",
    image_check: ImageChecking = "auto",
    engine_args: EngineArgs = None,
    http: Annotated[
        bool, typer.Option("--http", help="Serve over HTTP instead of stdin and stdout.", rich_help_panel=WHO)
    ] = False,
    host: Host = "127.0.0.1",
    port: Port = 8401,
    keys: KeysFile = None,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    allow_image_host: AllowImageHost = None,
    image_folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="Read images below this folder. Repeatable. Default: the working directory; with --http, none.",
            show_default=False,
            rich_help_panel=WHO,
        ),
    ] = None,
    num_at_once: NumServed = 8,
    max_image_pixels: MaxImagePixels = 50_000_000,
    max_shown_pixels: Annotated[
        int,
        typer.Option(min=1, help="Size larger images in a result down to this many pixels.", rich_help_panel=LIMITS),
    ] = 1_000_000,
    timeout_s: RequestTimeoutS = DEFAULT_TIMEOUT_S,
) -> None:
    """Give agents tools that look: look (where is it?), ask (an answer with its evidence), crop (a part in detail).

    Agents speak the Model Context Protocol (MCP). They start this command themselves and talk to it on stdin and
    stdout, or reach it over HTTP.
    """
    check_installed("mcp", NEEDED)
    from p2r.agents.server import make_server
    from p2r.agents.tools import AgentTools
    from p2r.agents.transports import PATH, make_http_app, serve_stdio
    from p2r.serving.app import Application
    from p2r.serving.fetch import Fetcher
    from p2r.serving.images import ImageReader
    from p2r.serving.line import RequestLine
    from p2r.serving.run import run_server
    from p2r.serving.settings import Limits

    spec = read_spec(model, upstream)
    folders = image_folder or ([] if http else find_working_folder())
    access = make_access(keys, allow_host, allow_origin, allow_image_host, folders)
    limits = Limits(num_at_once=num_at_once, image_pixels=max_image_pixels, timeout_s=timeout_s)
    load = plan_served(
        spec,
        name=None,
        perceiver_model=perceiver_model,
        prompts=prompts,
        profile=profile,
        perceiver_profile=perceiver_profile,
        family=family,
        frame=frame,
        max_pixels=max_pixels,
        device=device,
        dtype=dtype,
        transport=transport,
        image_check=image_check,
        engine_args=engine_args,
        num_at_once=num_at_once,
        timeout_s=timeout_s,
    )
    reader = ImageReader(access, limits, Fetcher(access.image_hosts, limits.image_bytes, limits.fetch_timeout_s))
    line = RequestLine(limits)
    logging.getLogger("mcp").setLevel(logging.CRITICAL)  # it would print what agents write, and traces
    below = " or ".join(str(folder.resolve()) for folder in access.image_folders)
    reads = f"reads images below {below}" if below else "reads no files: give it --image-folder"
    if not http:
        _say(f"look, ask and crop wait for an agent on stdin; {name_of(spec)} is being loaded; {reads}")
        loading = contextvars.copy_context()
        tools = AgentTools(lambda: loading.run(_load_and_tell, load), reader, max_shown_pixels)
        tools.folder = below  # it is the agent's own machine
        serve_stdio(make_server(tools, line, limits))
        return
    warn_of_strangers(access, host)
    served = load()
    server = make_server(AgentTools(lambda: served, reader, max_shown_pixels), line, limits)
    application = Application(make_http_app(server, line, access, limits), line)
    log_requests()
    run_server(
        application,
        host,
        port,
        on_start=lambda url: _say(f"look, ask and crop of {served.name} at {url}{PATH}; {reads}"),
    )


def find_working_folder() -> list[Path]:
    """Return the working directory; nothing where it is the root, from which some clients start their servers."""
    here = Path.cwd()
    return [] if here == here.parent else [here]


def _load_and_tell(load: Callable[[], ServedModel]) -> ServedModel:
    """Load the model beside the protocol, and say on stderr what came of it."""
    try:
        served = load()
    except Exception as error:
        report(error)
        raise
    _say(f"{served.name} is loaded")
    return served


def _say(text: str) -> None:
    """Say something about the start, on stderr: stdout is the protocol's."""
    typer.echo(text, err=True)
