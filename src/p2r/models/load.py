"""Load a model by name: `nano`, a folder, a hub id, a server's URL, or a script of replies.

    nano                              the small model that ships with this package, trained with PRA-GRPO
    nano-base                         the same model before that training
    path/to/checkpoint                a folder with config.json and safetensors
    hongxingli/P2R-4B                 a checkpoint on the Hugging Face hub
    p2r-4b                            the same by its short name; `p2r models` lists them (`known`)
    vllm:hongxingli/P2R-4B            a hub id or a folder, run by vLLM in this process (`pip install vllm`)
    http://localhost:8000/v1#name     an OpenAI-compatible server; without #name its only model
    scripted:replies.json             fixed replies

torch, vLLM and the HTTP client are imported only when a model that needs them is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from weakref import WeakKeyDictionary

from pydantic import JsonValue

from p2r.dialogue import Model
from p2r.errors import ConfigError, ModelError, excerpt, install_hint, mask_secrets
from p2r.models.cached import CachedModel, ReplyCache
from p2r.models.checkpoint import HUB_ID, Checkpoint, fetch_checkpoint, find_downloaded
from p2r.models.known import INSTALL_VLLM, VLLM, expand_name, find_shipped, suggest_name
from p2r.models.profiles import FamilyName, check_family
from p2r.models.scripted import ScriptedModel
from p2r.models.server.token_check import ImageCheck
from p2r.models.server.transport import Transport
from p2r.types import Frame, Frozen

KINDS = (
    "nano, another name that `p2r models` lists, a checkpoint folder, a hub id such as hongxingli/P2R-4B, "
    "vllm:CHECKPOINT, http(s)://host:port/v1#model, scripted:FILE"
)
SERVERS, SCRIPTED = ("http://", "https://"), "scripted:"


def runs_on_torch(spec: str) -> bool:
    """Tell whether `spec` names a model that torch runs in this process."""
    return not spec.strip().lower().startswith((*SERVERS, SCRIPTED, VLLM))


def runs_on_vllm(spec: object) -> bool:
    """Tell whether `spec` names a model that vLLM runs in this process."""
    return isinstance(spec, str) and spec.strip().startswith(VLLM)


def load_model(
    spec: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    family: FamilyName | None = None,
    frame: Frame | None = None,
    max_pixels: int | None = None,
    batch_size: int = 16,
    concurrency: int = 16,
    timeout_s: float = 300.0,
    api_key: str | None = None,
    transport: Transport = "auto",
    profile: str | None = None,
    image_check: ImageCheck = "auto",
    patience_s: float = math.inf,
    engine_args: Mapping[str, JsonValue] | None = None,
    cache: Path | None = None,
) -> Model:
    """Load or connect to the model that `spec` names. `loading_of` tells later how that was done.

    Args:
        spec: see the head of this module.
        device, dtype, batch_size: for a local model; chosen to fit the machine when None. vLLM takes only the dtype.
        concurrency, timeout_s, api_key, transport: for a server: most requests at a time, longest wait for a reply,
            the key (OPENAI_API_KEY when None), and how images are sent (lossless unless "jpeg" is asked for).
        profile, image_check, patience_s: for a server, too: the model that it serves, where neither it nor the name
            tells, whether a reply to images that it has altered is a failure, and how many seconds it may ask to wait
            before it is asked again; see `EndpointModel.connect`.
        family: the model's family, where its name does not tell ("qwen3_vl", "qwen2_5_vl"). A checkpoint's config.json
            knows better.
        frame: the frame in which the model writes boxes, in place of its family's: "per_mille" (0 to 1000), "pixels"
            of the image that it sees, "unit" (0 to 1), or "file_pixels", those of the file, whose size it is then told.
        max_pixels: most pixels per image, in place of the model profile's.
        engine_args: for a model after vllm:, more arguments of vLLM's engine, such as {"enforce_eager": True}.
        cache: a folder where replies are kept and looked up before the model is asked; see `cached`.

    Raises:
        ModelError: there is no such model, or it cannot be loaded; EndpointError (a ModelError) when a server is asked
            for its models and does not answer.
        ConfigError: an argument is not usable.
        StorageError: the cache cannot be used.
    """
    if not _is_text(spec):
        raise ConfigError(f"spec is {excerpt(spec)}, not the name of a model", hint=f"a model is {KINDS}")
    spec = expand_name(spec)
    check_family(family, frame)
    check_profile(profile, spec)
    check_engine_args(engine_args, spec)
    model = _load(
        spec, device, dtype, family, frame, max_pixels, batch_size, concurrency, timeout_s, api_key, transport, profile,
        image_check, patience_s, engine_args, cache,
    )  # fmt: skip
    _LOADINGS[model] = Loading(
        spec=mask_secrets(spec),
        profile=profile,
        family=family,
        max_pixels=max_pixels,
        dtype=dtype,
        engine_args=engine_args or None,
    )
    return model


def check_engine_args(engine_args: Mapping[str, JsonValue] | None, *models: object) -> None:
    """Make sure that vLLM runs one of the models, where its engine is given arguments. Raises ConfigError."""
    if engine_args and not any(map(runs_on_vllm, models)):
        raise ConfigError(
            f"`engine_args` has {', '.join(engine_args)} for vLLM, and no model here is run by it",
            hint="write vllm: before the model's name, or leave `engine_args` out",
        )


def check_model(model: object, argument: str = "model") -> None:
    """Make sure that an argument is a model or the name of one. Raises ConfigError."""
    if not _is_text(model) and not hasattr(model, "complete"):
        raise ConfigError(
            f"{argument} is {excerpt(model)}, which is neither a model nor the name of one",
            hint=f'name one, such as {argument}="nano", or give what load_model returns',
        )


def check_stated(family: object, frame: object, looker: object) -> None:
    """Make sure that family and frame can be stated: `looker`, which says where to look, is not loaded yet.

    Raises:
        ConfigError: it is loaded, or there is no such family or frame.
    """
    check_family(family, frame)
    if (family, frame) != (None, None) and not _is_text(looker):
        raise ConfigError(
            f"family and frame cannot change {excerpt(getattr(looker, 'name', looker))}, which is loaded already",
            hint="give them to load_model",
        )


def check_profile(profile: object, model: object, argument: str = "profile") -> None:
    """Make sure that a profile can be stated: `model` is the URL of a server. Raises ConfigError."""
    if profile is None:
        return
    if not isinstance(profile, str):
        raise ConfigError(
            f"`{argument}` is {excerpt(profile)}, not the name of a model",
            hint='give one, such as `profile="p2r-4b"`',
        )
    if model is None:
        raise ConfigError(
            f"`{argument}` is {profile!r}, but there is no such model",
            hint="name it with `perceiver_model`; `profile` is for the model that does both",
        )
    if not isinstance(model, str) or not expand_name(model).lower().startswith(SERVERS):
        name = model if isinstance(model, str) else getattr(model, "name", model)
        raise ConfigError(
            f"`{argument}` is {profile!r}, but {mask_secrets(str(name))} is not a server's URL",
            hint="leave it out: the files of a checkpoint tell its profile; a loaded model has its own",
        )


def profile_of_looker(looker: object, own: str | None, model: object, profile: str | None) -> str | None:
    """Return the profile that is stated for the model that says where to look: its own, or that of the same model.

    Args:
        looker, model: as they were named or given.
        own, profile: what was stated for each.
    """
    return own or (profile if looker == model else None)


def give_engine_args(load: Callable[..., Model], engine_args: Mapping[str, JsonValue] | None) -> Callable[..., Model]:
    """Return a function that loads a model as `load` does, and gives vLLM's arguments to a model of vLLM alone."""

    def load_one(spec: str, **about: object) -> Model:
        return load(spec, **about, engine_args=engine_args if runs_on_vllm(spec) else None)

    return load_one


def load_roles(
    model: str | Model,
    perceiver_model: str | Model | None,
    *,
    profile: str | None,
    perceiver_profile: str | None,
    family: FamilyName | None,
    frame: Frame | None,
    load: Callable[..., Model],
) -> tuple[Model, Model | None]:
    """Load the model that answers and, where another one says where to look, that one. Loaded ones stay as they are.

    Args:
        family, frame: of the model that says where to look.
        load: loads a model by its name, and takes `profile`, `family` and `frame`.

    Raises:
        P2RError: as `load` does.
    """
    boxes = {"family": family, "frame": frame}
    looker = perceiver_model
    if isinstance(looker, str):
        own_profile = profile_of_looker(looker, perceiver_profile, model, profile)
        looker = load(looker, profile=own_profile, **boxes)
    if isinstance(model, str):
        model = load(model, profile=profile, **(boxes if looker is None else {}))
    return model, looker


def _is_text(value: object) -> bool:
    return isinstance(value, str)


class Loading(Frozen):
    """The name of a model, without passwords, and the way it was loaded, as far as that can change a result."""

    spec: str
    profile: str | None = None
    family: FamilyName | None = None
    max_pixels: int | None = None
    dtype: str | None = None
    engine_args: Mapping[str, JsonValue] | None = None


def loading_of(model: Model) -> Loading:
    """Return what `load_model` was given for this model; for one that was made otherwise, its name."""
    return _LOADINGS.get(model) or Loading(spec=model.name)


_LOADINGS: WeakKeyDictionary[Model, Loading] = WeakKeyDictionary()


def _load(
    spec: str,
    device: str | None,
    dtype: str | None,
    family: FamilyName | None,
    frame: Frame | None,
    max_pixels: int | None,
    batch_size: int,
    concurrency: int,
    timeout_s: float,
    api_key: str | None,
    transport: Transport,
    profile: str | None,
    image_check: ImageCheck,
    patience_s: float,
    engine_args: Mapping[str, JsonValue] | None,
    cache: Path | None,
) -> Model:
    for value, name in ((batch_size, "batch_size"), (concurrency, "concurrency"), (timeout_s, "timeout_s")):
        if not value > 0:  # nor is nan
            raise ConfigError(f"`{name}` is {value:g}: it must be above 0", hint="leave it out for the usual one")
    replies = None if cache is None else ReplyCache(cache)
    if spec.lower().startswith(SERVERS):
        from p2r.models.server.model import EndpointModel

        server = EndpointModel.connect(
            spec,
            profile=profile,
            family=family,
            frame=frame,
            max_pixels=max_pixels,
            concurrency=concurrency,
            timeout_s=timeout_s,
            api_key=api_key,
            transport=transport,
            image_check=image_check,
            patience_s=patience_s,
        )
        kind = "jpeg" if transport == "jpeg" else "lossless"
        if image_check != "auto":  # what is accepted now may be a failure then
            kind += f" image_check={image_check}"
        return _keep_replies(server, lambda: f"{server.url}#{server.name} {kind}", replies)
    if spec.startswith(SCRIPTED):
        path = Path(spec.removeprefix(SCRIPTED)).expanduser()
        scripted = ScriptedModel.from_file(path, family=family, frame=frame, max_pixels=max_pixels)
        return _keep_replies(scripted, lambda: f"scripted {path.read_text(encoding='utf-8')}", replies)
    if spec.startswith(VLLM):
        if device is not None:
            raise ConfigError(
                f"the device {device!r} is asked for, but vLLM chooses its GPU itself",
                hint="leave it out; CUDA_VISIBLE_DEVICES=1 shows vLLM the second GPU alone",
            )
        source = find_source(spec.removeprefix(VLLM))
        if find_spec("vllm") is None:
            raise ModelError(
                f"the model {spec!r} needs vLLM, which is not installed",
                hint=INSTALL_VLLM,
            )
        checkpoint = fetch_checkpoint(source)  # only now, because it may be downloaded
        from p2r.models.vllm.model import VllmModel

        engine = VllmModel.load(
            checkpoint,
            name=spec,
            dtype=dtype,
            family=family,
            frame=frame,
            max_pixels=max_pixels,
            engine_args=engine_args,
        )
        how = " ".join(["vllm", engine.dtype, *(f"{name}={value}" for name, value in (engine_args or {}).items())])
        return _keep_replies(engine, lambda: f"{how} {identify_checkpoint(checkpoint.folder)}", replies)
    source = find_source(spec)
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise ModelError(
            f"the model {spec!r} runs in this process, which needs torch and transformers",
            hint=f"{install_hint('local')}, or use a server: http://host:port/v1#model",
        )
    checkpoint = fetch_checkpoint(source)  # what is wrong with it is reported before torch is imported
    from p2r.models.local.model import LocalModel

    local = LocalModel.load(
        checkpoint,
        name=spec,
        device=device,
        dtype=dtype,
        family=family,
        frame=frame,
        max_pixels=max_pixels,
        batch_size=batch_size,
    )
    where = f"local {local.device.partition(':')[0]} {local.dtype}"
    return _keep_replies(local, lambda: f"{where} {identify_checkpoint(checkpoint.folder)}", replies)


def find_checkpoint(spec: str) -> Checkpoint:
    """Open the checkpoint that a short name, a folder or a hub id means; one on the hub may be downloaded.

    Raises:
        ModelError: there is no such checkpoint, or it is not usable.
    """
    if not runs_on_torch(spec):
        raise ModelError(
            f"{mask_secrets(spec)!r} is not a checkpoint",
            hint="give a folder, a hub id, or a name that `p2r models` lists",
        )
    return fetch_checkpoint(find_source(expand_name(spec)))


def find_here(spec: str) -> Checkpoint | None:
    """Open the checkpoint that a name means, as `find_checkpoint` does; None when it would have to be downloaded.

    Raises:
        ModelError: the name means none, or one that is not usable.
    """
    source = find_source(expand_name(spec))
    if Path(source).exists():
        return fetch_checkpoint(source)
    return find_downloaded(source) if find_spec("huggingface_hub") is not None else None


def identify_checkpoint(folder: Path) -> str:
    """List a checkpoint's files by name, size and time of change, so that a changed checkpoint is told apart."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return " ".join(f"{path.name}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files)


def _keep_replies(model: Model, identify: Callable[[], str], replies: ReplyCache | None) -> Model:
    """Return the model with a cache, if there is one. Only a cache needs to know what the model is."""
    return model if replies is None else CachedModel(model, identify(), replies)


def find_source(spec: str) -> str:
    """Return the folder or the hub id that a local model's name means.

    Raises:
        ModelError: the name means neither.
    """
    if (shipped := find_shipped(spec)) is not None:
        if not shipped.is_dir():
            raise ModelError(
                f"the {spec} model is not where it should be: {shipped}",
                hint="reinstall the package, or train the model again with recipes/nano",
            )
        return str(shipped)
    folder = Path(spec).expanduser()
    if spec and folder.exists():
        return str(folder)
    if spec.startswith(("/", "./", "../", "~")) or spec.count("/") > 1:
        raise ModelError(f"there is no checkpoint folder {spec}", hint="check the path and the working directory")
    if not HUB_ID.fullmatch(spec):
        meant = suggest_name(spec)
        raise ModelError(
            f"unknown model {spec!r}", hint=f"{f'did you mean {meant}? ' if meant else ''}a model is {KINDS}"
        )
    return spec
