"""Find a checkpoint, in a folder or on the Hugging Face hub, and make sure that it is whole and of a supported
family.

Everything that can be wrong with a checkpoint on disk is said here, before torch is imported and minutes are spent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from p2r.errors import ModelError
from p2r.models.profiles import FAMILIES, PatchFormat, family_of, patch_format, read_json

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HUB_FILES = ["*.json", "*.jinja", "*.txt", "*.safetensors"]
HUB_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that is whole: its files are all there and its family is known."""

    folder: Path
    family: str
    config: Mapping[str, object]
    patches: PatchFormat

    @property
    def max_positions(self) -> int | None:
        """Most tokens, visual ones included, that the model was made for."""
        text = cast("Mapping[str, object]", self.config.get("text_config") or self.config)
        limit = text.get("max_position_embeddings")
        return limit if isinstance(limit, int) else None

    @property
    def image_token_id(self) -> int:
        return cast(int, self.config["image_token_id"])

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """The tokens that generation_config.json names as ends; () when it names none."""
        if not (self.folder / "generation_config.json").is_file():
            return ()
        ends = read_json(self.folder / "generation_config.json").get("eos_token_id")
        return (ends,) if isinstance(ends, int) else tuple(cast("list[int]", ends or ()))


def open_checkpoint(folder: Path) -> Checkpoint:
    """Look at a checkpoint folder without loading it.

    Raises:
        ModelError: not a checkpoint, of another family, or incomplete.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file, not a checkpoint folder", hint="give the folder that holds config.json")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"{folder} is a LoRA adapter, not a whole model", hint="merge it into its base model first"
            )
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
    return Checkpoint(folder, family, config, patch_format(folder, family))


def download(hub_id: str) -> Path:
    """The folder of a checkpoint from the Hugging Face hub; one that is already whole in the cache is not asked for
    again.

    Raises:
        ModelError: no such model, no access to it, or no way to the hub.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        cached = Path(snapshot_download(hub_id, allow_patterns=HUB_FILES, local_files_only=True))
        open_checkpoint(cached)
        return cached
    except (OSError, ModelError, HfHubHTTPError):
        pass
    try:
        return Path(snapshot_download(hub_id, allow_patterns=HUB_FILES, etag_timeout=HUB_TIMEOUT_S))
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


def _needed_files(folder: Path) -> list[str]:
    """Weights and tokenizer: the names that must be in the folder."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weights = sorted(set(cast("Mapping[str, str]", read_json(index).get("weight_map") or {}).values()))
    else:
        weights = ["model.safetensors"]
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return weights
    return [*weights, "tokenizer.json"]


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
