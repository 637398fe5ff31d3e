"""What holds for all tests."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("no luck", deadline=None, derandomize=True)
settings.load_profile("no luck")

os.environ["XDG_DATA_HOME"] = f"{tempfile.gettempdir()}/p2r-tests-without-data"  # prompts that somebody has imported


@pytest.fixture(autouse=True)
def own_modules() -> Iterator[None]:
    """Forget the modules that a test imported from folders of its own: the next one has others of the same names."""
    before = [*sys.path]
    yield
    added = tuple(f"{place}/" for place in sys.path if place not in before)
    if added:
        sys.path[:] = before
        mine = [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(added)]
        for name in mine:
            del sys.modules[name]


def pytest_configure(config: pytest.Config) -> None:
    """Prepare each process that runs tests: stock processors, referees of some, need torchvision before transformers.

    The process that only hands tests to others starts sooner without it.
    """
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        importlib.import_module("tests.fakes.stock_torchvision")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slow tests first, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
