"""`p2r models`: the models that have a short name, and what each of them needs."""

from __future__ import annotations

from importlib.util import find_spec

from p2r.cli.guard import MODEL_VARIABLE
from p2r.cli.options import Markdown
from p2r.cli.screen import print_tables
from p2r.evaluation.tables import Table
from p2r.models.known import KNOWN, KnownModel

COLUMNS = ("--model", "for", "weights", "GB", "license", "needs", "from the Hugging Face hub")
INSTALL_NOTE = "torch or transformers is not installed: models on this machine need both (docs/guides/models.md)."
NOTES = (
    "GB: size of the weights and of the download, counted as 2 bytes a weight (bfloat16); running a model takes more.",
    "Only nano and nano-base have been measured with this code. The others are from their authors.",
    f"Other checkpoints: --model FOLDER or a hub id. A server: --model URL#name. Default model: {MODEL_VARIABLE}=NAME.",
)


def models(markdown: Markdown = False) -> None:
    """List models by the short names that `--model` takes."""
    missing = not (find_spec("torch") and find_spec("transformers"))
    notes = (*NOTES, *((INSTALL_NOTE,) if missing else ()))
    rows = tuple(_describe(model) for model in KNOWN.values())
    print_tables([Table(title="Models", columns=COLUMNS, rows=rows, notes=notes)], markdown=markdown)


def _describe(model: KnownModel) -> tuple[str, ...]:
    billions = model.num_weights / 1e9
    weights = f"{billions:.1f}B" if billions >= 1 else f"{model.num_weights / 1e6:.1f}M"
    return (
        model.name,
        model.about,
        weights,
        f"{model.num_gb:.1f}" if model.num_gb >= 1 else f"{model.num_gb:.3f}",
        model.license,
        model.needs,
        model.hub_id or "-, in the package",
    )
