"""What a served model is: its family and its limits, from what the server, the user and the name say."""

from __future__ import annotations

import contextlib
import logging
from importlib.util import find_spec
from pathlib import Path

from p2r.dialogue import ModelProfile
from p2r.errors import ConfigError, ModelError
from p2r.models.checkpoint import HUB_ID, make_profile, read_json, read_preprocessor
from p2r.models.known import REAL_MODEL, expand_name, find_shipped
from p2r.models.profiles import FAMILIES, FamilyName, family_of, profile_for
from p2r.models.server.measured import read_measured
from p2r.types import Frame

logger = logging.getLogger(__name__)


def served_profile(
    name: str,
    *,
    root: str = "",
    stated: str | None = None,
    family: FamilyName | None = None,
    frame: Frame | None = None,
    max_pixels: int | None = None,
) -> ModelProfile:
    """Return the profile of a model behind a server.

    The first of these says what the model is: the files of `root`, where they are on this machine; `stated`; the name
    in `root`; `name`. Files are those of a folder here or of a hub id in the local cache; nothing is downloaded. Of a
    name see `profile_for`.

    Args:
        name: the name under which the model is served.
        root: what the server says that it has loaded; "" where it does not say.
        stated: a checkpoint's folder, a hub id, a short name, or the file of a `MeasuredProfile`.

    Raises:
        ConfigError: there is no such family or frame, `stated` is no model that is known here, or `max_pixels` is less
            than one visual token.
        ModelError: the files of `stated` cannot be read.
    """

    def read(source: str) -> ModelProfile | None:
        folder = _find_files(source)
        own = None if folder is None else family_of(read_json(folder / "config.json"))
        if folder is None or own is None:
            return None
        return make_profile(folder, own, read_preprocessor(folder), family, frame, max_pixels, True)

    def try_to_read(source: str) -> ModelProfile | None:
        with contextlib.suppress(ModelError):
            return read(source)
        return None

    def guess(source: str) -> ModelProfile:
        return profile_for(source, family=family, frame=frame, max_pixels=max_pixels, for_server=True)

    if stated is not None and (stated.endswith(".json") or Path(stated).expanduser().is_file()):
        return read_measured(Path(stated).expanduser()).profile(family=family, frame=frame, max_pixels=max_pixels)
    loaded = try_to_read(root) if root else None
    if stated is not None:
        source = expand_name(stated)
        source = str(find_shipped(source) or Path(source).expanduser())
        said = read(source)
        is_place = Path(source).exists() or stated.startswith(("/", ".", "~")) or stated.count("/") > 1
        if said is None and (is_place or family_of(source) is None):
            raise ConfigError(
                f"`profile` is {stated!r}, which is neither a checkpoint on this machine nor the name of a known model",
                hint=f"give a folder whose config.json is of {' or '.join(FAMILIES)}, or a name such as {REAL_MODEL}",
            )
        said = said or guess(source)
        if loaded is not None and loaded != said:
            logger.warning("the server says that it serves %s, so the profile of %s is passed over", root, stated)
        return loaded or said
    known_by_name = next((source for source in (root, name) if family_of(source) is not None), name)
    return loaded or try_to_read(name) or guess(known_by_name)


def _find_files(name: str) -> Path | None:
    """Return the folder on this machine that holds the config.json of a named model; None without one."""
    with contextlib.suppress(OSError, ValueError):
        if Path(name, "config.json").is_file():
            return Path(name)
    if HUB_ID.fullmatch(name) is None or find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")
    return Path(cached).parent if isinstance(cached, str) else None
