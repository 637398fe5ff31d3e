"""What holds for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# Stock processors, referees of some tests, need torchvision when transformers is imported: before any test module.
from tests.fakes import stock_torchvision  # noqa: F401

settings.register_profile("busy machines", deadline=None)
settings.load_profile("busy machines")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slow tests first, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
