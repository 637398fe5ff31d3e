"""What is installed: everything the code reads is in the wheel, and the base install needs no torch."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "p2r"


def test_every_file_of_the_package_is_in_the_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("p2r/")}
    there = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == there
    assert {"p2r/models/nano/base/model.safetensors", "p2r/models/nano/checkpoint/model.safetensors"} <= packed
    assert wheel.stat().st_size < 20e6


def test_the_command_starts_without_torch() -> None:
    block = (
        "import sys; sys.modules.update(torch=None, transformers=None); import p2r.api\n"
        "from p2r.cli.app import COMMANDS, load_command; print(*map(load_command, COMMANDS))"
    )
    subprocess.run([sys.executable, "-c", block], check=True, timeout=60)


def test_importing_the_package_imports_no_library() -> None:
    check = "import p2r, sys; print(*sorted({'PIL', 'pydantic', 'openai', 'torch', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == ""
