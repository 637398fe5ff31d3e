"""What `p2r serve` and `p2r mcp` share: which model is served, under which name, and with which keys."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.guard import Misuse
from p2r.cli.options import MODEL, read_engine_args
from p2r.errors import ConfigError, EndpointError, install_hint, reason_of
from p2r.models.known import VLLM, expand_name
from p2r.models.load import (
    SCRIPTED,
    SERVERS,
    check_engine_args,
    check_profile,
    give_engine_args,
    load_model,
    load_roles,
)
from p2r.models.profiles import FamilyName
from p2r.models.server.lookup import find_model, list_models, read_address
from p2r.models.server.token_check import ImageCheck
from p2r.models.server.transport import Transport, is_loopback
from p2r.modes import check_frame
from p2r.prompts import load_prompt_set
from p2r.serving.answering import ServedModel
from p2r.serving.settings import MOST_AT_ONCE, PATIENCE_S, Access, check_access
from p2r.types import Frame

logger = logging.getLogger(__name__)
WHO, LIMITS = "Who may ask", "Limits"
KEYS_VARIABLE = "P2R_SERVE_KEYS"

Served = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Serve a model that `p2r models` lists, a checkpoint folder, a hub id, one of these after vllm:, or the "
        "model of this name at --upstream. Default: nano, or the only one there.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
UpstreamUrl = Annotated[
    str | None,
    typer.Option(
        help="Ask the model at this server, such as http://localhost:8000/v1.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
ServedName = Annotated[
    str | None,
    typer.Option(help="Serve it under this name. Default: its own.", show_default=False, rich_help_panel=MODEL),
]
Host = Annotated[str, typer.Option(help="Listen at this address; 0.0.0.0 for every one.", rich_help_panel=WHO)]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.", rich_help_panel=WHO)]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        help=f"Ask for one of the API keys in this file, one a line. Or set {KEYS_VARIABLE}.",
        show_default=False,
        rich_help_panel=WHO,
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        help="Answer to this name, beside localhost and addresses in numbers. Repeatable.", rich_help_panel=WHO
    ),
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(
        help="Let web pages of this origin ask, such as https://example.org. Repeatable.", rich_help_panel=WHO
    ),
]
AllowImageHost = Annotated[
    list[str] | None,
    typer.Option(help="Fetch images from this host of the internet. Repeatable. Default: none.", rich_help_panel=WHO),
]
NumServed = Annotated[
    int, typer.Option(min=1, max=MOST_AT_ONCE, help="Answer this many requests at a time.", rich_help_panel=LIMITS)
]
MaxImagePixels = Annotated[
    int, typer.Option(min=1, help="Refuse more pixels in a request's images together.", rich_help_panel=LIMITS)
]
RequestTimeoutS = Annotated[
    float, typer.Option(min=1, help="Give up on a request after this many seconds.", rich_help_panel=LIMITS)
]


def check_installed(command: str, packages: Sequence[str]) -> None:
    """Make sure that a command has what its extra, which has its name, brings. Raises ConfigError."""
    missing = [each for each in packages if find_spec(each) is None]
    if missing:
        raise ConfigError(f"`p2r {command}` needs {missing[0]}, which is not installed", hint=install_hint(command))


def warn_of_strangers(access: Access, host: str) -> None:
    """Warn where a server asks for no key, and not only this machine reaches it."""
    if not access.keys and not is_loopback(host):
        logger.warning("everyone who reaches %s may ask: no API key is asked for", host)


def plan_served(
    spec: str,
    *,
    name: str | None,
    perceiver_model: str | None,
    prompts: str,
    profile: str | None,
    perceiver_profile: str | None,
    family: FamilyName | None,
    frame: Frame | None,
    max_pixels: int | None,
    device: str | None,
    dtype: str | None,
    transport: Transport,
    image_check: ImageCheck,
    engine_args: list[str] | None,
    num_at_once: int,
    timeout_s: float,
) -> Callable[[], ServedModel]:
    """Check the options of a model that is to be served, and return the function that loads it.

    Args:
        spec: as `read_spec` returns it.
        name: the name for clients; by default its own.
        num_at_once: requests at a time. timeout_s: of a reply of a server, in seconds.

    Raises:
        ConfigError: an option does not go with the model. What is returned raises P2RError.
    """
    for_engine = read_engine_args(engine_args)
    check_engine_args(for_engine, spec, perceiver_model)
    wording = load_prompt_set(prompts)
    check_profile(profile, spec)
    check_profile(perceiver_profile, perceiver_model, "perceiver_profile")

    load_one = partial(
        load_model,
        device=device,
        dtype=dtype,
        max_pixels=max_pixels,
        concurrency=num_at_once,
        batch_size=num_at_once,
        timeout_s=timeout_s,
        transport=transport,
        image_check=image_check,
        patience_s=PATIENCE_S,
    )

    def load() -> ServedModel:
        if spec.startswith(SERVERS):
            look_at_server(spec)
        answerer, looker = load_roles(
            spec,
            perceiver_model or None,
            profile=profile,
            perceiver_profile=perceiver_profile,
            family=family,
            frame=frame,
            load=give_engine_args(load_one, for_engine),
        )
        check_frame(answerer, looker)
        return ServedModel(name or name_of(spec), answerer, wording, looker)

    return load


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


def look_at_server(spec: str) -> None:
    """Warn of a server that does not answer yet, or has no such model."""
    url, name = read_address(spec)
    try:
        _, names = list_models(url, os.environ.get("OPENAI_API_KEY", ""))
    except EndpointError as error:
        logger.warning("%s; requests fail until it answers", error.message)
        return
    if name not in names:
        logger.warning("%s lists no model %s; it has %s", url, name, ", ".join(names[:20]) or "none")


def make_access(
    keys: Path | None,
    allow_host: list[str] | None,
    allow_origin: list[str] | None,
    allow_image_host: list[str] | None,
    image_folder: list[Path] | None,
) -> Access:
    """Return the rules of who may ask.

    Raises:
        ConfigError: a file of keys, a host, an origin, or a folder of images cannot be one.
    """
    folders = tuple(folder.expanduser() for folder in image_folder or ())  # what a client starts sees no shell
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"`image_folder` is {folder}, which is not a folder", hint="check the path")
    access = Access(
        keys=read_keys(keys),
        hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()),
        image_hosts=tuple(allow_image_host or ()),
        image_folders=folders,
    )
    check_access(access)
    return access


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
