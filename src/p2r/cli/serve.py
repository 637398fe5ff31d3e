"""`p2r serve`: an OpenAI-compatible server whose answers are walks."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.guard import Misuse
from p2r.cli.options import (
    DEFAULT_TIMEOUT_S,
    MODEL,
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
    read_engine_args,
)
from p2r.cli.screen import make_console
from p2r.dialogue import Model
from p2r.errors import ConfigError, install_hint, reason_of
from p2r.models.known import VLLM, expand_name
from p2r.models.load import (
    SCRIPTED,
    SERVERS,
    check_engine_args,
    check_profile,
    load_model,
    load_roles,
    runs_on_vllm,
)
from p2r.models.profiles import FamilyName
from p2r.models.server.lookup import find_model, read_address
from p2r.models.server.transport import is_loopback
from p2r.prompts import load_prompt_set
from p2r.types import Frame

WHO, LIMITS = "Who may ask", "Limits"
KEYS_VARIABLE = "P2R_SERVE_KEYS"
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
    model: Annotated[
        str | None,
        typer.Option(
            help="Serve a model that `p2r models` lists, a checkpoint folder, a hub id, one of these after vllm:, or "
            "the model of this name at --upstream. Default: nano, or the only one there.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            help="Ask the model at this server, such as http://localhost:8000/v1.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    perceiver_model: PerceiverSpec = None,
    name: Annotated[
        str | None,
        typer.Option(help="Serve it under this name. Default: its own.", show_default=False, rich_help_panel=MODEL),
    ] = None,
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
    host: Annotated[
        str, typer.Option(help="Listen at this address; 0.0.0.0 for every one.", rich_help_panel=WHO)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.", rich_help_panel=WHO)] = 8400,
    keys: Annotated[
        Path | None,
        typer.Option(
            help=f"Ask for one of the API keys in this file, one a line. Or set {KEYS_VARIABLE}.",
            show_default=False,
            rich_help_panel=WHO,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Answer to this name, beside localhost and addresses in numbers. Repeatable.", rich_help_panel=WHO
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Let web pages of this origin ask, such as https://example.org. Repeatable.", rich_help_panel=WHO
        ),
    ] = None,
    allow_image_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Fetch images from this host of the internet. Repeatable. Default: none.", rich_help_panel=WHO
        ),
    ] = None,
    image_folder: Annotated[
        Path | None,
        typer.Option(
            help="Let file:// URLs name images below this folder.",
            show_default=False,
            exists=True,
            file_okay=False,
            rich_help_panel=WHO,
        ),
    ] = None,
    num_at_once: Annotated[
        int, typer.Option(min=1, help="Answer this many requests at a time.", rich_help_panel=LIMITS)
    ] = 8,
    num_waiting: Annotated[
        int, typer.Option(min=0, help="Let this many more wait; the rest gets status 429.", rich_help_panel=LIMITS)
    ] = 64,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Refuse larger requests.", rich_help_panel=LIMITS)] = 64,
    max_images: Annotated[int, typer.Option(min=1, help="Refuse more in a request.", rich_help_panel=LIMITS)] = 8,
    max_image_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse more pixels in a request's images together.", rich_help_panel=LIMITS)
    ] = 50_000_000,
    max_prompt_chars: Annotated[
        int, typer.Option(min=1, help="Refuse more text in a request.", rich_help_panel=LIMITS)
    ] = 100_000,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Refuse requests for longer replies.", rich_help_panel=LIMITS)
    ] = 4096,
    timeout_s: Annotated[
        float, typer.Option(min=1, help="Give up on a request after this many seconds.", rich_help_panel=LIMITS)
    ] = DEFAULT_TIMEOUT_S,
) -> None:
    """Serve a model to every OpenAI client: p2r/NAME looks twice, NAME is the model as it is.

    A chat with an image that names p2r/NAME is answered by a walk; NAME:direct, NAME:thinking, NAME:tools and NAME:zoom
    are the other modes. The reply has a field `p2r` that says where the model looked. In a browser, the page at / asks
    and shows all of that.
    """
    missing = [each for each in NEEDED if find_spec(each) is None]
    if missing:
        raise ConfigError(f"`p2r serve` needs {missing[0]}, which is not installed", hint=install_hint("serve"))
    from p2r.serving.answering import ServedModel
    from p2r.serving.app import make_app
    from p2r.serving.run import run_server
    from p2r.serving.settings import Access, Limits, check_access
    from p2r.serving.upstream import Upstream

    spec = read_spec(model, upstream)
    access = Access(
        keys=read_keys(keys),
        hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()),
        image_hosts=tuple(allow_image_host or ()),
        image_folder=image_folder,
    )
    check_access(access)
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
    for_engine = read_engine_args(engine_args)
    check_engine_args(for_engine, spec, perceiver_model)
    wording = load_prompt_set(prompts)
    check_profile(profile, spec)
    check_profile(perceiver_profile, perceiver_model, "perceiver_profile")

    def load(
        spec: str, *, profile: str | None = None, family: FamilyName | None = None, frame: Frame | None = None
    ) -> Model:
        return load_model(
            spec,
            profile=profile,
            device=device,
            dtype=dtype,
            family=family,
            frame=frame,
            max_pixels=max_pixels,
            concurrency=num_at_once,
            batch_size=num_at_once,
            timeout_s=timeout_s,
            transport=transport,
            image_check=image_check,
            engine_args=for_engine if runs_on_vllm(spec) else None,
        )

    answerer, looker = load_roles(
        spec,
        perceiver_model or None,
        profile=profile,
        perceiver_profile=perceiver_profile,
        family=family,
        frame=frame,
        load=load,
    )
    served = ServedModel(name or name_of(spec), answerer, wording, looker)
    onward: Upstream | None = None
    if spec.startswith(SERVERS):
        url, its_name = read_address(spec)
        onward = Upstream(url, its_name, os.environ.get("OPENAI_API_KEY", ""), timeout_s=timeout_s)
    if not access.keys and not is_loopback(host):
        logger.warning("everyone who reaches %s may ask: no API key is asked for", host)
    application = make_app(served, access=access, limits=limits, upstream=onward)
    log_requests()
    run_server(application, host, port, on_start=lambda url: _tell_start(url, served.names))


def read_spec(model: str | None, upstream: str | None) -> str:
    """Return the model to be loaded, as `load_model` names it; a server's with its address and its name.

    Raises:
        Misuse: both name a server.
        EndpointError: the server has no model, or several, and is to be asked for its only one.
    """
    spec = expand_name(model or "nano")
    if upstream is None and not spec.lower().startswith(SERVERS):
        return spec
    if upstream is not None and (spec.lower().startswith(SERVERS) or "#" in upstream):
        raise Misuse("the server's model is named twice", hint="give `upstream=URL` and `model=NAME`")
    url, its_name = read_address(spec if upstream is None else f"{upstream}#{model or ''}")
    if not its_name:
        url, its_name = find_model(url, os.environ.get("OPENAI_API_KEY", ""))
    return f"{url}#{its_name}"


def read_keys(path: Path | None) -> tuple[str, ...]:
    """Return the API keys in a file and in the environment.

    Raises:
        ConfigError: the file cannot be read, or holds none.
    """
    keys = os.environ.get(KEYS_VARIABLE, "").replace(",", " ").split()
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"`keys`: {path} cannot be read: {reason_of(error)}", hint="check the path") from error
        in_file = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not in_file or any(len(line.split()) > 1 for line in in_file):
            said = "has a line with a blank in it" if in_file else "holds no key"
            raise ConfigError(f"`keys`: {path} {said}", hint="write one key a line, and # before a comment")
        keys += in_file
    return tuple(keys)


def name_of(spec: str) -> str:
    """Return the name by which clients know a model; a folder's is its last part, since paths are nobody's business."""
    if spec.startswith(SERVERS):
        return read_address(spec)[1]
    bare = spec.removeprefix(VLLM)
    if bare.startswith(SCRIPTED):
        return "scripted"
    folder = Path(bare).expanduser()
    return folder.resolve().name if folder.exists() or folder.is_absolute() else bare


def log_requests() -> None:
    """Print a line to stderr for each request, and for what goes wrong in it."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    requests = logging.getLogger("p2r.serving")
    requests.handlers, requests.propagate = [handler], False
    requests.setLevel(logging.INFO)


def _tell_start(url: str, names: tuple[str, ...]) -> None:
    console = make_console()
    console.print(f"serving {names[1]} at {url}/v1", markup=False, soft_wrap=True)
    console.print(f"models: {', '.join(names)}", markup=False, soft_wrap=True)
    console.print(f"page: {url}/", markup=False, soft_wrap=True)
