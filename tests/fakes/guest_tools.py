"""Runs a tool that p2r is a part of, from where the Makefile put it."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

GUESTS = Path(sys.prefix) / "guests"


def require(tool: str, group: str) -> None:
    """Skip what needs a tool that is not there, or a p2r that was installed before it knew of the tool."""
    require_package(tool, tool)
    if not importlib.metadata.entry_points(group=group, name="p2r"):
        pytest.skip(f"p2r is installed without the entry point {group}; `make test-all` installs it again")


def require_package(guest: str, package: str) -> None:
    """Skip what needs a package that is not there."""
    if not (GUESTS / guest / package).is_dir():
        pytest.skip(
            f"{package} is not in {GUESTS / guest}; `make test-all` puts it there where this Python can have it"
        )


def run(tool: str, *arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """The tool's command, in a process of its own and without a network. `settings` are environment variables."""
    return run_python(tool, "-m", tool, *arguments, cwd=cwd, **settings)


def run_python(guest: str, *arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Python with a guest's packages, in a process of its own and without a network."""
    own = {"PYTHONPATH": str(GUESTS / guest), "COLUMNS": "200", "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "hub")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | own | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
