"""Models that have a short name: `--model p2r-4b` means `hongxingli/P2R-4B`. `p2r models` prints this table.

The numbers of weights were counted by building each model of the published configuration; its size on disk follows
from them: two bytes a weight in bfloat16. A license is named where the model's card was seen to name it.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from p2r.models import nano

VLLM = "vllm:"
"""Before a checkpoint: run it by vLLM in this process."""
INSTALL_VLLM = "pip install vllm (Linux with a GPU), or use a server: http://host:port/v1#model"

BYTES_PER_WEIGHT = 2
SHIPPED = ("nano", "nano-base")
NEEDS_CPU, NEEDS_GPU = "a CPU", "a GPU"
APACHE, UNKNOWN_LICENSE = "Apache-2.0", "see its page"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model with a short name.

    hub_id: its id on the Hugging Face hub; "" for a model that ships with the package.
    num_weights: its number of weights.
    license: the license that its card names.
    needs: what it takes to run it at a bearable speed.
    about: what it is for.
    """

    name: str
    hub_id: str
    num_weights: int
    license: str
    needs: str
    about: str

    @property
    def num_gb(self) -> float:
        """Size of the weights in bfloat16, in GB. Images and replies take memory beyond that."""
        return self.num_weights * BYTES_PER_WEIGHT / 1e9


NANO_ABOUT, NANO_BASE_ABOUT = "the demo's images only", "nano before PRA-GRPO"
P2R_ABOUT, QWEN_ABOUT = "photos; trained to look twice", "photos; P2R before PRA-GRPO"

KNOWN: dict[str, KnownModel] = {
    model.name: model
    for model in (
        KnownModel("nano", "", 3_797_376, APACHE, NEEDS_CPU, NANO_ABOUT),
        KnownModel("nano-base", "", 3_797_376, APACHE, NEEDS_CPU, NANO_BASE_ABOUT),
        KnownModel("p2r-4b", "hongxingli/P2R-4B", 4_437_815_808, UNKNOWN_LICENSE, NEEDS_GPU, P2R_ABOUT),
        KnownModel("p2r-8b", "hongxingli/P2R-8B", 8_767_123_696, APACHE, NEEDS_GPU, P2R_ABOUT),
        KnownModel("qwen3-vl-2b", "Qwen/Qwen3-VL-2B-Instruct", 2_127_532_032, APACHE, NEEDS_GPU, QWEN_ABOUT),
        KnownModel("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", 4_437_815_808, APACHE, NEEDS_GPU, QWEN_ABOUT),
        KnownModel("qwen3-vl-8b", "Qwen/Qwen3-VL-8B-Instruct", 8_767_123_696, APACHE, NEEDS_GPU, QWEN_ABOUT),
    )
}
"""Short name -> model. A short name wins over a folder of that name; write ./p2r-4b for the folder."""

REAL_MODEL = "p2r-4b"
"""The model that messages suggest for photos."""


def expand_name(spec: str) -> str:
    """Return the name in full: "p2r-4b" is "hongxingli/P2R-4B", also after "vllm:"; other names stay as they are."""
    spec = spec.strip()
    engine = VLLM if spec.startswith(VLLM) else ""
    known = KNOWN.get(spec.removeprefix(engine).lower())
    if known is None:
        return spec
    return engine + (known.hub_id or known.name)


def find_shipped(name: str) -> Path | None:
    """Return the folder of a model that ships with the package, by its name; None for any other name."""
    return {"nano": nano.CHECKPOINT, "nano-base": nano.BASE_CHECKPOINT}.get(name)


def suggest_name(spec: str) -> str:
    """Return the short name that is meant by a misspelled one, such as p2r-4b by p2r4b; "" if none is near."""
    return next(iter(get_close_matches(spec.strip().lower(), KNOWN, n=1, cutoff=0.75)), "")


def count_known_weights(spec: str) -> int | None:
    """Return the number of weights of the model that a short name or a hub id means; None for one not listed."""
    full = expand_name(spec)
    return next((each.num_weights for each in KNOWN.values() if full in (each.name, each.hub_id)), None)


def is_shipped(spec: str) -> bool:
    """Tell whether a full name means a model that ships with the package."""
    return spec.removeprefix(VLLM) in SHIPPED or Path(spec.removeprefix(VLLM)).parent == nano.FOLDER
