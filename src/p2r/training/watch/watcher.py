"""Callbacks that follow a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2r.runs.training_log import Probe, Step


def _ignore(*_: object) -> None:
    """The default of every callback."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Callbacks that follow a run. Only the first process calls them.

    say: called with a sentence. step: with a step's metrics and the number of steps of its phase.
    """

    say: Callable[[str], object] = _ignore
    step: Callable[[Step, int], object] = _ignore
    probe: Callable[[Probe], object] = _ignore
