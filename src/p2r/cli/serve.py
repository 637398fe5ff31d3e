"""`p2r serve`: an OpenAI-compatible server whose answers are walks."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

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
from p2r.cli.screen import make_console
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
    ServedName,
    UpstreamUrl,
    check_installed,
    log_requests,
    make_access,
    plan_served,
    read_spec,
    warn_of_strangers,
)
from p2r.models.load import SERVERS
from p2r.models.server.lookup import read_address
from p2r.serving.settings import MOST_WAITING

logger = logging.getLogger(__name__)
NEEDED = ("fastapi", "uvicorn", "prometheus_client")

SERVE_EXAMPLES = """
**Examples**

- `p2r serve` (the small model, which knows the demo's images only, at http://127.0.0.1:8400/v1)

- `p2r serve --model p2r-4b`, then `model="p2r/p2r-4b"` in any OpenAI client

- `p2r serve --upstream http://localhost:8000/v1 --model hongxingli/P2R-4B`

- `P2R_SERVE_KEYS=some-long-word p2r serve --host 0.0.0.0 --allow-host my-machine.example.org`
"""


def serve(
    model: Served = None,
    upstream: UpstreamUrl = None,
    perceiver_model: PerceiverSpec = None,
    name: ServedName = None,
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
    host: Host = "127.0.0.1",
    port: Port = 8400,
    keys: KeysFile = None,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    allow_image_host: AllowImageHost = None,
    image_folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="Let file:// URLs name images below this folder. Repeatable. Default: none.",
            show_default=False,
            rich_help_panel=WHO,
        ),
    ] = None,
    num_at_once: NumServed = 8,
    num_waiting: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_WAITING, help="Let this many more wait; the rest gets status 429.", rich_help_panel=LIMITS
        ),
    ] = 64,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Refuse larger requests.", rich_help_panel=LIMITS)] = 64,
    max_images: Annotated[int, typer.Option(min=1, help="Refuse more in a request.", rich_help_panel=LIMITS)] = 8,
    max_image_pixels: MaxImagePixels = 50_000_000,
    max_prompt_chars: Annotated[
        int, typer.Option(min=1, help="Refuse more text in a request.", rich_help_panel=LIMITS)
    ] = 100_000,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Refuse requests for longer replies.", rich_help_panel=LIMITS)
    ] = 4096,
    timeout_s: RequestTimeoutS = DEFAULT_TIMEOUT_S,
) -> None:
    """Serve a model to every OpenAI client: p2r/NAME looks twice, NAME is the model as it is.

    A chat with an image that names p2r/NAME is answered by a walk; NAME:direct, NAME:thinking, NAME:tools and NAME:zoom
    are the other modes. The reply has a field `p2r` that says where the model looked. In a browser, the page at / asks
    and shows all of that.
    """
    check_installed("serve", NEEDED)
    from p2r.serving.app import make_app
    from p2r.serving.run import run_server
    from p2r.serving.settings import Limits
    from p2r.serving.upstream import Upstream

    spec = read_spec(model, upstream)
    access = make_access(keys, allow_host, allow_origin, allow_image_host, image_folder)
    limits = Limits(
        num_at_once=num_at_once,
        num_waiting=num_waiting,
        body_bytes=int(max_body_mb * 1e6),
        num_images=max_images,
        image_pixels=max_image_pixels,
        prompt_chars=max_prompt_chars,
        new_tokens=max_new_tokens,
        timeout_s=timeout_s,
    )
    served = plan_served(
        spec,
        name=name,
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
    )()
    onward: Upstream | None = None
    if spec.startswith(SERVERS):
        url, its_name = read_address(spec)
        onward = Upstream(url, its_name, os.environ.get("OPENAI_API_KEY", ""), timeout_s=timeout_s)
    warn_of_strangers(access, host)
    application = make_app(served, access=access, limits=limits, upstream=onward)
    log_requests()
    run_server(application, host, port, on_start=lambda url: _tell_start(url, served.names))


def _tell_start(url: str, names: tuple[str, ...]) -> None:
    console = make_console()
    console.print(f"serving {names[1]} at {url}/v1", markup=False, soft_wrap=True)
    console.print(f"models: {', '.join(names)}", markup=False, soft_wrap=True)
    console.print(f"page: {url}/", markup=False, soft_wrap=True)
