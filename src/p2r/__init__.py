"""Perceive-to-Reason: a vision-language model that looks first, then answers.

    from p2r import P2R

    trace = P2R("p2r-4b").ask("photo.jpg", "What is on the sail?", options=["a star", "a fish"])
    print(trace.answer, trace.boxes_px)

Names are imported when first used, so `import p2r` costs nothing and never needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from p2r.version import __version__

if TYPE_CHECKING:
    from p2r.api import P2R, make_sample
    from p2r.errors import P2RError
    from p2r.evaluation.evaluate import evaluate, evaluate_all
    from p2r.models.load import load_model
    from p2r.pipeline import walk
    from p2r.report.trace import show
    from p2r.training.train import train
    from p2r.types import Box, Sample, Trace

__all__ = [
    "P2R",
    "Box",
    "P2RError",
    "Sample",
    "Trace",
    "__version__",
    "evaluate",
    "evaluate_all",
    "load_model",
    "make_sample",
    "show",
    "train",
    "walk",
]

_HOMES = {
    "P2R": "p2r.api",
    "make_sample": "p2r.api",
    "show": "p2r.report.trace",
    "train": "p2r.training.train",
    "P2RError": "p2r.errors",
    "evaluate": "p2r.evaluation.evaluate",
    "evaluate_all": "p2r.evaluation.evaluate",
    "load_model": "p2r.models.load",
    "walk": "p2r.pipeline",
    "Box": "p2r.types",
    "Sample": "p2r.types",
    "Trace": "p2r.types",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'p2r' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
