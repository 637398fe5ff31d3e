"""Find a checkpoint, in a folder or on the Hugging Face hub, and make sure that it is complete and supported.

Everything that can be wrong with a checkpoint's files is reported here, before torch is imported. The files are read
once: what else needs them takes the opened `Checkpoint`.
"""

# pyright: reportUnknownVariableType=false
# huggingface_hub's snapshot_download is only partly typed.

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from p2r.dialogue import ModelProfile
from p2r.errors import ModelError, reason_of
from p2r.models.profiles import (
    FAMILIES,
    MAX_TOKENS,
    MIN_TOKENS,
    FamilyName,
    PatchFormat,
    check_family,
    family_of,
    limit_profile,
    patch_format,
    processor_limits,
)
from p2r.types import Frame

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
ADAPTER_FOLDER = "adapter"
HUB_FILES = ["*.json", "*.jinja", "*.txt", "*.safetensors"]
HUB_TIMEOUT_S = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are all there and whose family is known.

    config, preprocessor: the contents of config.json and of preprocessor_config.json ({} without that file).
    patches: how the model takes pixels.
    end_token_ids: the tokens that generation_config.json names as ends; () when it names none.
    """

    folder: Path
    family: FamilyName
    config: Mapping[str, object]
    preprocessor: Mapping[str, object]
    patches: PatchFormat
    end_token_ids: tuple[int, ...]

    @property
    def max_positions(self) -> int | None:
        """Most tokens, visual ones included, that the model can take; None when its config does not say."""
        text = cast("Mapping[str, object]", self.config.get("text_config") or self.config)
        limit = text.get("max_position_embeddings")
        return limit if isinstance(limit, int) else None

    @property
    def adapter(self) -> Path | None:
        """The folder of the adapter whose merged weights these are; None for a model without one. See `local.lora`."""
        folder = self.folder / ADAPTER_FOLDER
        return folder if (folder / "adapter_config.json").is_file() else None

    @property
    def image_token_id(self) -> int:
        """The token that stands for an image in a prompt."""
        return cast(int, self.config["image_token_id"])

    def profile(
        self,
        *,
        family: FamilyName | None = None,
        frame: Frame | None = None,
        max_pixels: int | None = None,
        for_server: bool = False,
    ) -> ModelProfile:
        """Return the model's profile; see `limit_profile`.

        Args:
            family: what somebody said; config.json knows better, so another family is only mentioned in a warning.

        Raises:
            ConfigError: there is no such frame, or `max_pixels` is less than one visual token.
        """
        if not self.preprocessor:
            _tell_default_limits(self.folder, self.family)
        return make_profile(self.folder, self.family, self.preprocessor, family, frame, max_pixels, for_server)


def make_profile(
    folder: Path,
    own: FamilyName,
    preprocessor: Mapping[str, object],
    stated: FamilyName | None,
    frame: Frame | None,
    max_pixels: int | None,
    for_server: bool,
) -> ModelProfile:
    """Return the profile of the checkpoint in a folder, whose family by config.json is `own`; see `limit_profile`."""
    check_family(stated, frame)
    if stated not in (None, own):
        logger.warning(
            "%s is of the family %s by its config.json, so the stated family %s is passed over; --frame says how it "
            "writes boxes (in Python, frame=)",
            folder, own, stated,
        )  # fmt: skip
    limits = processor_limits(preprocessor)
    return limit_profile(own, limits, frame=frame, max_pixels=max_pixels, for_server=for_server)


@cache
def _tell_default_limits(folder: Path, family: FamilyName) -> None:
    """Warn once that a checkpoint does not say how large its images are."""
    logger.warning(
        "%s has no preprocessor_config.json, so images are sized as is usual for %s: %d to %d visual tokens",
        folder, family, MIN_TOKENS, MAX_TOKENS,
    )  # fmt: skip


def open_checkpoint(folder: Path) -> Checkpoint:
    """Look at a checkpoint folder without loading its weights.

    Raises:
        ModelError: not a checkpoint, of another family, malformed or incomplete.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file, not a checkpoint folder", hint="give the folder that holds config.json")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            is_ours = (folder.parent / "config.json").is_file()
            advice = f"give {folder.parent}, which loads it" if is_ours else "merge it into its base model first"
            raise ModelError(f"{folder} is a LoRA adapter, not a whole model", hint=advice)
        raise ModelError(f"{folder} is not a model checkpoint: it has no config.json")
    config = read_json(folder / "config.json")
    family = family_of(config)
    if family is None:
        raise ModelError(
            f"{folder} is a {config.get('model_type')!r} model; local models are of the families {', '.join(FAMILIES)}",
            hint="serve it with any OpenAI-compatible server and give its URL: http://host:port/v1#model",
        )
    if not isinstance(config.get("image_token_id"), int):
        raise ModelError(f"{folder / 'config.json'} names no image_token_id", hint="is the checkpoint complete?")
    missing = [name for name in _needed_files(folder) if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ModelError(
            f"the checkpoint {folder} is incomplete: {', '.join(missing[:3])}{more} missing", hint="download it again"
        )
    preprocessor = read_preprocessor(folder)
    patches = patch_format(preprocessor, family, folder)
    vision = cast("Mapping[str, object]", config.get("vision_config") or {})
    if vision.get("patch_size", patches.patch_size) != patches.patch_size:
        raise ModelError(
            f"{folder}: the processor makes patches of {patches.patch_size} px, the model takes {vision['patch_size']}"
        )
    return Checkpoint(folder, family, config, preprocessor, patches, _read_end_tokens(folder))


def check_full_weights(checkpoint: Checkpoint) -> None:
    """Make sure that the weights are not quantized: moved to another dtype without their scales, they mean nothing.

    Raises:
        ModelError: they are.
    """
    how = checkpoint.config.get("quantization_config")
    if how:
        method = cast("Mapping[str, object]", how).get("quant_method") if isinstance(how, dict) else None
        raise ModelError(
            f"the weights in {checkpoint.folder} are quantized{f' ({method})' if method else ''}, and torch does not "
            "run those here",
            hint="take the model that they were made from, write vllm: before the name, or use a server: "
            "http://host:port/v1#model",
        )


def fetch_checkpoint(source: Checkpoint | str | Path) -> Checkpoint:
    """Open the checkpoint in a folder, or download the one with this hub id. Raises ModelError."""
    if isinstance(source, Checkpoint):
        return source
    return open_checkpoint(Path(source)) if Path(source).exists() else download(str(source))


def download(hub_id: str) -> Checkpoint:
    """Open a checkpoint from the Hugging Face hub. The hub is not asked for one that is complete in the local cache.

    Raises:
        ModelError: no such model, no access to it, the hub cannot be reached, or the checkpoint is not usable.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    if (cached := find_downloaded(hub_id)) is not None:
        return cached
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=HUB_FILES, etag_timeout=HUB_TIMEOUT_S))
    except GatedRepoError as error:
        raise ModelError(
            f"access to {hub_id} on the Hugging Face hub is restricted",
            hint=f"accept its terms at https://huggingface.co/{hub_id}, then `hf auth login`",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the Hugging Face hub has no model {hub_id!r} that you may see",
            hint="check the spelling; for a private model `hf auth login` first",
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"cannot reach the Hugging Face hub for {hub_id!r}, and it is not in the local cache",
            hint="check the network, or give the folder of a downloaded copy (`hf download` on another machine)",
        ) from error
    except (OSError, HfHubHTTPError) as error:
        raise ModelError(f"downloading {hub_id!r} from the Hugging Face hub failed: {first_line(error)}") from error
    return open_checkpoint(folder)


def find_downloaded(hub_id: str) -> Checkpoint | None:
    """Open a checkpoint of the Hugging Face hub that is complete in the local cache; None without one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return open_checkpoint(Path(snapshot_download(hub_id, allow_patterns=HUB_FILES, local_files_only=True)))
    except (OSError, ModelError, HfHubHTTPError):
        return None


def fingerprint_weights(folder: Path) -> str:
    """A short hash of a checkpoint's weights, its adapter included."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob(f"{ADAPTER_FOLDER}/*.safetensors")]):
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()[:16]


def _needed_files(folder: Path) -> list[str]:
    """List the files of weights and tokenizer that must be in the folder."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weights = sorted(set(cast("Mapping[str, str]", read_json(index).get("weight_map") or {}).values()))
    else:
        weights = ["model.safetensors"]
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return weights
    return [*weights, "tokenizer.json"]


def read_json(path: Path) -> Mapping[str, object]:
    """Return the JSON object in a checkpoint's file. Raises ModelError when it cannot be read or is not an object."""
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {reason_of(error)}", hint="is the checkpoint complete?") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} does not hold a JSON object", hint="is the checkpoint complete?")
    return cast("dict[str, object]", content)


def read_preprocessor(folder: Path) -> Mapping[str, object]:
    """Return the image settings: preprocessor_config.json, or the image part of processor_config.json, or {}."""
    if (folder / "preprocessor_config.json").is_file():
        return read_json(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():
        return cast("Mapping[str, object]", read_json(folder / "processor_config.json").get("image_processor") or {})
    return {}


def read_chat_template(folder: Path) -> str | None:
    """Return the template that a processor would use, and else the tokenizer's; None without one."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).is_file() and isinstance(template := read_json(folder / name).get("chat_template"), str):
            return template
    return None


def _read_end_tokens(folder: Path) -> tuple[int, ...]:
    if not (folder / "generation_config.json").is_file():
        return ()
    ends = read_json(folder / "generation_config.json").get("eos_token_id")
    return (ends,) if isinstance(ends, int) else tuple(cast("list[int]", ends or ()))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
