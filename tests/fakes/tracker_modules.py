"""Stand-ins for the packages wandb and trackio, which record their calls."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

Call = tuple[str, dict[str, Any]]


@dataclass
class Table:
    """What wandb.Table is given."""

    columns: list[str]
    data: list[list[Any]]


def install_tracker(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Call]:
    """Put a stand-in in the place of a package; returns the calls that it gets."""
    calls: list[Call] = []
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)

    def init(**given: Any) -> None:  # noqa: ANN401
        calls.append(("init", given))

    def log(metrics: dict[str, Any], *, step: int) -> None:
        calls.append(("log", {**metrics, "step": step}))

    def finish() -> None:
        calls.append(("finish", {}))

    functions: dict[str, Any] = {"init": init, "log": log, "finish": finish}
    if name == "wandb":
        functions["Table"] = Table
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, name, module)
    return calls
